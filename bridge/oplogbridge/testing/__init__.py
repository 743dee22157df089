"""What a sink's author tests with: the executable half of the sink contract, and a sink in memory that keeps it.

    from oplogbridge.testing import SinkContract, SinkRig

Nothing here is imported by a running bridge except `memory`, so pytest is asked for only when a suite is.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from oplogbridge.testing.memory import MemorySettings, MemorySink
    from oplogbridge.testing.memory_destination import MemoryDestination
    from oplogbridge.testing.sink_contract import SinkContract
    from oplogbridge.testing.sink_reading import SinkReaderContract
    from oplogbridge.testing.sink_rig import ReadBack, SinkRig, make_batch, make_event

__all__ = [
    "MemoryDestination",
    "MemorySettings",
    "MemorySink",
    "ReadBack",
    "SinkContract",
    "SinkReaderContract",
    "SinkRig",
    "make_batch",
    "make_event",
]

_MODULES = {
    "MemoryDestination": "memory_destination",
    "Memory": "memory",
    "SinkContract": "sink_contract",
    "SinkReader": "sink_reading",
}  # by how a name begins; the rest is in `sink_rig`

if "pytest" in sys.modules:
    # The suite's asserts must explain themselves in a third party's test run too, and pytest rewrites only what it
    # was told about before the import.
    sys.modules["pytest"].register_assert_rewrite(
        *[
            f"oplogbridge.testing.{name}"
            for name in (
                "sink_contract",
                "sink_delivers",
                "sink_positions",
                "sink_survives",
                "sink_reading",
                "sink_rig",
            )
        ]
    )


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = next((module for begin, module in _MODULES.items() if name.startswith(begin)), "sink_rig")
    return getattr(import_module(f"oplogbridge.testing.{module}"), name)
