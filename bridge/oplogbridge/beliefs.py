"""Looking whether a destination and a store still are what a delivery believes of them. Raises Unavailable when not:
the pipeline opens again, and trusts nothing of it."""

from __future__ import annotations

from oplogbridge.errors import Unavailable
from oplogbridge.lease import Lease
from oplogbridge.sink import Sink
from oplogbridge.spec import PipelineSpec
from oplogbridge.state import StateStore, Stored
from oplogbridge.values import Event, Position


async def check_both(
    spec: PipelineSpec, sink: Sink, position: Position | None, store: StateStore, stored: Stored | None, lease: Lease
) -> None:
    """The heartbeat of an idle pipeline; a write would notice by itself."""
    found = await sink.position()
    if found != position:
        raise Unavailable(f"the destination's position changed from {position} to {found}: reopening")
    if await store.load(spec.source, lease.token, spec.name) != stored:
        raise Unavailable("the stored offset is not what this process saved: reopening")


async def position_before(
    rejected: Event, sink: Sink, position: Position | None, *, is_first: bool, holds_position: bool
) -> Position | None:
    """The sink's position behind what came before the rejected event. A destination that lost that part just now shows
    another; saved as the mark, it would make us believe that the lost entries were filtered out."""
    found = await sink.position()
    if is_first or not holds_position:
        as_promised = found == position
    else:
        as_promised = found is not None and found.offset == rejected.sequence
    if not as_promised:
        raise Unavailable(
            f"the destination's position is {found}, after all before sequence {rejected.sequence} was written: "
            "reopening"
        )
    return found
