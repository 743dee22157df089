"""NATS JetStream (see `sink.py`)."""

from oplogbridge_sinks.nats.settings import NatsSettings
from oplogbridge_sinks.nats.sink import NatsSink, plugin

__all__ = ["NatsSettings", "NatsSink", "plugin"]
