"""One opening of a pipeline's sink, and the line from then on. `deliver` is all of it, in the order it happens.

A delivery is used until its first trouble, and then thrown away with all that it believed.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from functools import partial

import structlog

from oplogbridge.attachments.attaching import Attachments
from oplogbridge.beliefs import check_both, position_before
from oplogbridge.by_key import ByKey
from oplogbridge.choice import GoOn, ResolveStart, Stop, choose_offset, mark_of
from oplogbridge.clock import Clock
from oplogbridge.closing import given_up, to_the_end
from oplogbridge.errors import Misconfigured, Rejected
from oplogbridge.handoff import Handoff, Part, parts_of
from oplogbridge.lease import Lease
from oplogbridge.refusals import Refusals
from oplogbridge.sink import Sink
from oplogbridge.source.start import Pages, resolve
from oplogbridge.spec import PipelineSpec
from oplogbridge.state import StateStore, Stored
from oplogbridge.status import PipelineStatus
from oplogbridge.values import Batch, Position

HEARTBEAT_SECONDS = 10.0  # how long an idle pipeline may not know that its destination or its store lost something
SAVE_SECONDS = 0.25  # how old a stored offset may be while the bridge is behind

_log = structlog.get_logger()


class Delivery:
    """From `open` to `close`. Every method raises Unavailable, Misconfigured or Fenced as their names say."""

    def __init__(
        self,
        spec: PipelineSpec,
        sink: Sink,
        *,
        pages: Pages,
        store: StateStore,
        lease: Lease,
        clock: Clock,
        status: PipelineStatus,
        saved: Stored | None,
        on_progress: Callable[[Part], None],
        jitter: Callable[[], float],
        delivered: frozenset[int],
        attachments: Attachments | None = None,
        until_caught_up: bool = False,
    ) -> None:
        """Of this lease, also from an earlier delivery: `saved` is the last acknowledged save or the resolved start,
        `delivered` what lies beyond it."""
        self._spec = spec
        self._sink = sink
        self._pages = pages
        self._store = store
        self._lease = lease
        self._clock = clock
        self._status = status
        self._on_progress = on_progress
        self._until_caught_up = until_caught_up
        self._handoff = Handoff(spec.traits)
        self._position: Position | None = None  # what the sink proved last
        self._stored: Stored | None = None  # what the store holds, as far as we know
        self._refusals = Refusals(spec, lease, status)
        self._heartbeat_at = self._save_at = 0.0
        self._unsaved_offset: int | None = None  # delivered, and left to the next save
        self._make_by_key = partial(
            ByKey, sink, spec.traits, self, lease=lease, clock=clock, jitter=jitter, status=status
        )
        self._attachments = attachments
        self._by_key: ByKey | None = None  # else one write after the other
        self._delivered = delivered
        self.saved = saved
        self._writing = False

    async def open(self) -> int:
        """Fence, then position, then stored offset; choose; save the choice before the first poll."""
        sink, spec = self._sink, self._spec
        self._lease.check()  # opening fences: a lost lease must not take the destination from its new owner
        position = await sink.open()
        stored = await self._store.load(spec.source, self._lease.token, spec.name)
        # A store that lost its data while our token still holds must not make us resolve `latest` again.
        known = stored if stored is not None else self.saved
        self._stored = stored
        choice = choose_offset(position, known, pipeline=spec.name, source=spec.source_id, destination=sink.destination)
        match choice:
            case Stop(reason):
                raise Misconfigured(reason)
            case ResolveStart():
                offset = await resolve(spec.start, self._pages)
                self.saved = Stored(offset, None, spec.source_id, sink.destination)  # once, even if no save comes back
            case GoOn(offset, warning):
                if warning is not None:
                    self._status.rewinds += 1
                    _log.warning("destination went back", pipeline=spec.name, detail=warning)
                    await self._refusals.take_back(offset)  # before the save, which ends what we know of it
        if position is None and spec.traits.holds_position:
            self._lease.check()
            position = await sink.move(offset)  # into the sink first, so that a wiped store cannot resolve it again
        self._position = position
        if spec.traits.pending_max > 1:
            as_it_was = self.saved is not None and self.saved.offset == offset
            self._by_key = self._make_by_key(delivered=self._delivered if as_it_was else frozenset())
        await self.save(offset)
        self._heartbeat_at = self._clock.monotonic() + HEARTBEAT_SECONDS
        return offset

    async def deliver(self, offset: int) -> None:
        """The line: pages are read and encoded ahead, the next write is prepared, one write is in flight, and its save
        follows. Returns when stopped, or when caught up if so asked."""
        handoff = self._handoff
        reading = asyncio.create_task(self._read_ahead(offset))
        preparing = asyncio.create_task(self._prepare_next())
        beside = []  # attachments that are still to come
        if self._attachments is not None:
            beside.append(asyncio.create_task(self._attachments.keep_trying(self._handoff.fail)))
        by_key = self._by_key
        if by_key is not None:
            by_key.start()
        try:
            while (ready := await preparing) is not None and not handoff.closed:
                part, prepared = ready
                self._writing = True
                handoff.write_begins()
                preparing = asyncio.create_task(self._prepare_next())
                if by_key is not None:  # the offset follows by itself
                    part = await by_key.take(part, wait=part.caught_up and self._until_caught_up)
                    if handoff.closed:
                        break
                else:
                    await self._write(part, prepared)
                    if self._may_save_later(part, preparing):
                        self._unsaved_offset = part.next_offset
                        self._show(part.next_offset)
                    else:
                        await self.save(part.next_offset)
                if (malformed := part.malformed) is not None:
                    await self._refusals.malformed(malformed)
                    await self.save(malformed.sequence + 1)
                await self._heartbeat(idle=not part.events and (by_key is None or by_key.is_empty))
                handoff.write_ended()
                self._writing = False
                self._status.entries_waiting = handoff.entries_waiting
                self._on_progress(part)
                if part.caught_up and self._until_caught_up:
                    break
            if self._unsaved_offset is not None:
                self._writing = True
                await self.save(self._unsaved_offset)
        finally:
            self._writing = False
            await given_up([reading, preparing, *beside])
            if by_key is not None:
                await by_key.end()

    @property
    def writing(self) -> bool:
        """A write is in flight or not saved yet: let it finish."""
        return self._writing or (self._by_key is not None and self._by_key.busy)

    @property
    def delivered(self) -> frozenset[int]:
        """Sequences that were delivered beyond what could be saved."""
        return self._delivered if self._by_key is None else self._by_key.delivered

    def stop(self) -> None:
        """`deliver` is to return after the writes in flight; what was read and prepared is given up."""
        self._handoff.close()
        if self._by_key is not None:
            self._by_key.stop()

    async def close(self) -> None:
        """Close both sinks to the end, also when cancelled meanwhile: half closed they would keep their connections."""
        media = [] if self._attachments is None else [self._attachments.close()]
        await to_the_end([self._sink.close(), self._refusals.close(), *media])

    # The stages before the write -----------------------------------------------------------------------------------

    async def _read_ahead(self, offset: int) -> None:
        """Fetch and encode the next pages while the sink writes; the hand-off's bound is the only brake."""
        try:
            while True:
                page = await self._pages.page(offset)
                offset = page.next_offset
                if self._attachments is not None:
                    page = await self._attachments.attached(page)
                parts = deque(parts_of(page, self._spec.codec, self._spec.traits))
                del page  # 1.5 MB, which would be kept for as long as the hand-off is full
                while parts:
                    await self._handoff.put(parts.popleft())
                self._status.entries_waiting = self._handoff.entries_waiting
        except Exception as error:
            self._handoff.fail(error)

    async def _prepare_next(self) -> tuple[Part, object] | None:
        """The next part, and what the sink made of it while the write before was in flight; None once stopped."""
        part = await self._handoff.take()
        if part is None:
            return None
        return part, await self._sink.prepare(part.events) if part.events else None

    # The write and what follows it ---------------------------------------------------------------------------------

    async def _write(self, part: Part, prepared: object) -> None:
        """One atomic write, or several where the destination refuses an event for good."""
        events, payload_bytes = part.events, part.payload_bytes
        while events:
            save = None if self._spec.traits.holds_position else self.save
            batch = Batch(events, self._from_offset(), part.next_offset, prepared, save)
            self._lease.check()
            started_at = self._clock.monotonic()
            try:
                self._position = await self._sink.write(batch)
            except Rejected as rejected:
                event = rejected.event
                is_first, holds_position = event is events[0], self._spec.traits.holds_position
                self._position = await position_before(
                    event, self._sink, self._position, is_first=is_first, holds_position=holds_position
                )
                earlier = [one for one in events if one.sequence < event.sequence]
                earlier_bytes = sum([len(one.payload) for one in earlier])
                self._status.delivered(earlier, earlier_bytes)
                await self.save(event.sequence)
                await self.set_aside(rejected)
                events = events[len(earlier) + 1 :]
                payload_bytes -= earlier_bytes + len(event.payload)
                prepared = None  # was for all of them
            else:
                self._status.observe_write_seconds(self._clock.monotonic() - started_at)
                self._status.delivered(events, payload_bytes)
                return

    async def set_aside(self, rejected: Rejected) -> None:
        await self._refusals.rejected(rejected)
        await self.save(rejected.event.sequence + 1)

    def fail(self, error: Exception) -> None:
        self._handoff.fail(error)

    def _may_save_later(self, part: Part, preparing: asyncio.Task[tuple[Part, object] | None]) -> bool:
        """While the next write is ready and the destination itself proves how far it is, saving after each write would
        only hold that up: a crash finds the position ahead of the mark, and goes on from there (docs/adr/0008)."""
        return (
            self._spec.traits.holds_position
            and part.malformed is None
            and not part.caught_up
            and self._clock.monotonic() < self._save_at
            and preparing.done()
            and not preparing.cancelled()
            and preparing.exception() is None
        )

    async def save(self, offset: int) -> None:
        """Keep the offset beside the position that the sink has now. Nothing to do when that is kept already."""
        stored = Stored(offset, mark_of(self._position), self._spec.source_id, self._sink.destination)
        if stored != self._stored:
            await self._store.save(
                self._spec.source, self._lease.token, self._spec.name, stored, replacing=self._stored
            )
        self._stored = self.saved = stored
        self._unsaved_offset = None
        self._save_at = self._clock.monotonic() + SAVE_SECONDS
        self._show(offset)

    def _show(self, offset: int) -> None:
        self._status.offset = offset
        position = self._position
        self._status.position = position.offset if position is not None and position.is_known else None

    async def _heartbeat(self, *, idle: bool) -> None:
        """While idle, see that destination and store still say what we believe; a write would notice by itself."""
        now = self._clock.monotonic()
        if not idle:
            self._heartbeat_at = now + HEARTBEAT_SECONDS
        elif now >= self._heartbeat_at:
            self._heartbeat_at = now + HEARTBEAT_SECONDS
            await check_both(self._spec, self._sink, self._position, self._store, self._stored, self._lease)

    def _from_offset(self) -> int:
        """The position that the sink must have. A sink that has none, or cannot show it, takes the stored offset."""
        if self._position is not None and self._position.is_known:
            return self._position.offset
        assert self._stored is not None, "an offset is saved before the first write"
        return self._stored.offset
