"""Moving a pipeline's offset by hand: the sink first, then the store, under the lease. Used by the command and by a
running holder alike."""

from __future__ import annotations

from oplogbridge.choice import mark_of
from oplogbridge.dead_letters import take_back
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
        if spec.make_dead_letters is not None and spec.dead_letters_hold_position:
            await take_back(spec.make_dead_letters, offset=offset, pipeline=spec.name, lease=lease)
        if spec.traits.holds_position:
            lease.check()
            position = await sink.move(offset)
        now = Stored(offset, mark_of(position), spec.source_id, sink.destination)
        await store.save(spec.source, lease.token, spec.name, now, replacing=before)
        return before, now
    finally:
        await sink.close()


async def _opened(sink: Sink) -> Position | None:
    """Open it even if it says that only a person can know: this is the person. `move` raises what is truly wrong."""
    try:
        return await sink.open()
    except Misconfigured:
        return None
