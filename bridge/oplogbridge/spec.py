"""What the configuration makes of one pipeline: all that running it, or moving its offset, needs to know."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from oplogbridge.codec.encode import Codec
from oplogbridge.sink import Sink, SinkTraits
from oplogbridge.source.start import Start


@dataclass(frozen=True, slots=True)
class PipelineSpec:
    """The sinks are built anew for every opening."""

    name: str
    source: str
    source_id: str
    start: Start
    codec: Codec
    traits: SinkTraits
    sink_kind: str
    make_sink: Callable[[], Sink]
    make_dead_letters: Callable[[], Sink] | None = None  # None: `on_rejected: stop`
    dead_letters_hold_position: bool = True  # False: a crash between a letter and its save doubles the letter
    made_from: object = None  # equal where the configuration says the same: then a reload leaves the pipeline alone
