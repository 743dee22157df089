"""What the configuration makes of a source and of a pipeline: all that running it, or moving its offset, needs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from oplogbridge.attachments.spec import AttachmentsSpec
from oplogbridge.codec.encode import Codec
from oplogbridge.sink import DestinationReader, Sink, SinkTraits
from oplogbridge.source.reader import ClosableClient
from oplogbridge.source.start import Start
from oplogbridge.wishes import Interlude, Replay


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
    attachments: AttachmentsSpec | None = None
    on_late: Literal["deliver", "stop", "dead_letter"] = "deliver"  # what was committed late, and found
    datamodel_events: bool = False  # a data model is told before what is shown by it
    make_reader: Callable[[], DestinationReader] | None = None  # None: the destination cannot be read back
    made_from: object = None  # equal where the configuration says the same: then a reload leaves the pipeline alone


@dataclass(frozen=True, slots=True)
class SourceSpec:
    """What the configuration makes of one source and the pipelines that read it."""

    name: str
    source_id: str
    poll_interval_seconds: float
    settle_seconds: float
    make_client: Callable[[Callable[[], None]], ClosableClient]  # of the check before each request
    pipelines: Sequence[PipelineSpec]
    make_replay: Callable[[Replay], PipelineSpec] | None = None  # raises Misconfigured when it cannot be run
    # The same pipeline for an interlude, whose positions name `source_during`.
    make_interlude: Callable[[Interlude], PipelineSpec] | None = None
    made_from: object = None  # of the source alone; as `PipelineSpec.made_from`
