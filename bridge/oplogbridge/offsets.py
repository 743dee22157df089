"""Moving a pipeline's offset by hand: the sink first, then the store, under the lease. Used by the command and by a
running holder alike."""

from __future__ import annotations

from oplogbridge.choice import mark_of
from oplogbridge.errors import Misconfigured
from oplogbridge.lease import Lease
from oplogbridge.sink import Sink
from oplogbridge.spec import PipelineSpec
from oplogbridge.state import StateStore, Stored
from oplogbridge.values import OFFSET_MAX, Position


async def move_offset(
    spec: PipelineSpec, *, offset: int, store: StateStore, lease: Lease
) -> tuple[Stored | None, Stored]:
    """Set the offset, and the sink's own position where it has one. Returns what was stored before, and what is now.

    The order matters (protocol check, schedule 4): with the store first, a crash in between would leave an offset whose
    mark is not the position, and the position would win.

    Raises:
        Misconfigured: The destination cannot go back, or the offset is out of range.
    """
    if not 0 <= offset <= OFFSET_MAX:
        raise Misconfigured(f"{offset} is no offset: it lies between 0 and 2^63")
    sink = spec.make_sink()
    try:
        lease.check()
        position = await _opened(sink)
        before = await store.load(spec.source, lease.token, spec.name)
        await _move_dead_letters_back(spec, offset=offset, lease=lease)  # first: if they cannot, nothing has moved
        if spec.traits.holds_position:
            lease.check()
            position = await sink.move(offset)
        now = Stored(offset, mark_of(position), spec.source_id, sink.destination)
        await store.save(spec.source, lease.token, spec.name, now, replacing=before)
        return before, now
    finally:
        await sink.close()


async def _move_dead_letters_back(spec: PipelineSpec, *, offset: int, lease: Lease) -> None:
    """What lies below the dead letters' own position counts as kept. Going back behind it must take it along, or an
    event that somebody passed by hand, and that is refused again, would be in neither place."""
    if spec.make_dead_letters is None or not spec.dead_letters_hold_position:
        return
    letters = spec.make_dead_letters()
    try:
        lease.check()
        position = await letters.open()
        if position is not None and position.offset > offset:
            lease.check()
            await letters.move(offset)
    finally:
        await letters.close()


async def _opened(sink: Sink) -> Position | None:
    """Open it even if it says that only a person can know: this is the person. `move` raises what is truly wrong."""
    try:
        return await sink.open()
    except Misconfigured:
        return None
