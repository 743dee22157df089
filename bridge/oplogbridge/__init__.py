"""oplog-bridge: every entry of a JourneyApps oplog, in order, exactly once, in your own infrastructure.

What a sink's author needs is here; the contract suites are in `oplogbridge.testing`.
"""

from oplogbridge.errors import BridgeError, ConfigError, Fenced, Misconfigured, Rejected, Unavailable
from oplogbridge.sink import Delivered, DestinationReader, Lane, Refused, Sink, SinkContext, SinkPlugin, SinkTraits
from oplogbridge.values import Batch, Event, Position

__version__ = "0.1.0"

__all__ = [
    "Batch",
    "BridgeError",
    "ConfigError",
    "Delivered",
    "DestinationReader",
    "Event",
    "Fenced",
    "Lane",
    "Misconfigured",
    "Position",
    "Refused",
    "Rejected",
    "Sink",
    "SinkContext",
    "SinkPlugin",
    "SinkTraits",
    "Unavailable",
]
