"""One pipeline: source → codec → sink → offset. `_deliver` is the whole line, in the order in which it happens.

Its life is a loop: open the sink (which fences whoever had it), choose the offset, write batches; on any doubt close,
back off and open again. Nothing in memory is trusted after `Unavailable`: work goes on from the position that the
destination itself proves (docs/delivery.md, protocol check).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Literal

import structlog

from oplogbridge.backoff import Backoff
from oplogbridge.choice import GoOn, ResolveStart, Stop, choose_offset, mark_of
from oplogbridge.clock import Clock
from oplogbridge.closing import to_the_end
from oplogbridge.dead_letters import DeadLetters, take_back
from oplogbridge.errors import Fenced, Misconfigured, Rejected, Unavailable
from oplogbridge.handoff import Handoff, Part, parts_of
from oplogbridge.lease import Lease
from oplogbridge.offsets import move_offset
from oplogbridge.sink import Sink
from oplogbridge.source.start import Pages, resolve
from oplogbridge.spec import PipelineSpec
from oplogbridge.state import StateStore, Stored
from oplogbridge.status import PipelineState, PipelineStatus
from oplogbridge.values import Batch, Event, Position

HEARTBEAT_SECONDS = 10.0  # how long an idle pipeline may not know that its destination or its store lost something
STOPPED_RETRY_SECONDS = 30.0  # a rotated password heals by itself within this, doubling to the next
STOPPED_RETRY_SECONDS_MAX = 300.0

_log = structlog.get_logger()


class Pipeline:
    """Runs one pipeline while this process holds the lease of its source."""

    def __init__(
        self,
        spec: PipelineSpec,
        *,
        pages: Pages,
        store: StateStore,
        lease: Lease,
        clock: Clock,
        jitter: Callable[[], float],
        status: PipelineStatus,
        until_caught_up: bool = False,
    ) -> None:
        self._spec = spec
        self._pages = pages
        self._store = store
        self._lease = lease
        self._clock = clock
        self._status = status
        self._until_caught_up = until_caught_up
        self._backoff = Backoff(first_seconds=0.2, max_seconds=30.0, jitter=jitter)
        self._stopped_backoff = Backoff(STOPPED_RETRY_SECONDS, STOPPED_RETRY_SECONDS_MAX, jitter)
        self._log = _log.bind(pipeline=spec.name)

        self._position: Position | None = None  # what the sink proved last, in this opening
        self._stored: Stored | None = None  # what the store holds, as far as this opening knows
        self._saved: Stored | None = None  # our last acknowledged save under this lease's token; outlives openings
        self._dead_letters: DeadLetters | None = None
        self._heartbeat_at = 0.0
        self._handoff: Handoff | None = None
        self._task: asyncio.Task[None] | None = None
        self._opened = asyncio.Lock()  # one opening at a time: ours, or an operator's `move`
        self._moved = asyncio.Event()
        self._last_trouble: PipelineState = "waiting"
        self._progress_offset: int | None = None
        self._writing = False
        self._stopping = False

    async def run(self) -> None:
        """Deliver until stopped, or until caught up if so asked. Raises Fenced; it deals with all other trouble."""
        self._task = asyncio.current_task()
        try:
            while not self._stopping:
                async with self._opened:
                    wait_seconds = await self._live()
                if wait_seconds is None:
                    return
                if not self._stopping:  # `stop` came while the sink was closed: nobody would wake us
                    await self._pause(wait_seconds)
        except asyncio.CancelledError:
            if not self._stopping:
                raise  # the lease is lost or the process ends: not ours to swallow
        self._status.state = "finished"

    async def _live(self) -> float | None:
        """One opening, from `open` to `close`. How long to wait before the next, or None when there is to be none."""
        sink: Sink | None = None
        try:
            self._status.state = "opening"
            sink = self._spec.make_sink()
            offset = await self._open(sink)
            self._status.state = "running"
            await self._deliver(sink, offset)
            self._status.state = "finished"
            return None
        except Unavailable as error:
            return self._troubled("retrying", str(error), self._backoff.next_seconds(error.retry_after_seconds))
        except Misconfigured as error:
            wait_seconds = self._troubled("stopped", str(error), self._stopped_backoff.next_seconds())
            return None if self._until_caught_up else wait_seconds
        except Fenced as error:
            self._troubled("waiting", str(error), 0.0)
            raise
        except Exception as error:
            # A defect of ours stops this pipeline and not its neighbours; the traceback goes to the log.
            self._log.exception("unexpected error")
            text = f"unexpected {type(error).__name__}: {error}; please report it"
            wait_seconds = self._troubled("stopped", text, self._stopped_backoff.next_seconds())
            return None if self._until_caught_up else wait_seconds
        finally:
            await self._close(sink)

    async def _close(self, sink: Sink | None) -> None:
        """Close both sinks to the end, also when cancelled meanwhile: half closed they would keep their connections."""
        letters, self._dead_letters = self._dead_letters, None
        open_ones = [one for one in (sink, letters) if one is not None]
        if open_ones:
            await to_the_end([one.close() for one in open_ones])

    def stop(self) -> None:
        """Drain: a write in flight is finished and saved; anything else is given up at once."""
        self._stopping = True
        if self._handoff is not None:
            self._handoff.close()
        if not self._writing and self._task is not None:
            self._task.cancel()

    @property
    def name(self) -> str:
        return self._spec.name

    async def move(self, offset: int) -> tuple[Stored | None, Stored]:
        """An operator's `offsets set`, between two openings of a pipeline that stopped. It then tries again at once.

        Raises:
            Misconfigured: The pipeline is not stopped, or the destination cannot go there.
        """
        if self._status.state != "stopped":
            raise Misconfigured(
                f"pipeline {self.name} is {self._status.state}: stop the instance that runs it, then set the offset"
            )
        if self._opened.locked():
            raise Misconfigured(f"pipeline {self.name} is being closed or moved just now: try again")
        async with self._opened:
            moved = await move_offset(self._spec, offset=offset, store=self._store, lease=self._lease)
        self._saved = moved[1]
        self._moved.set()
        return moved

    async def _pause(self, seconds: float) -> None:
        """Wait before the next opening; an operator's move ends it early."""
        self._moved.clear()
        waits = [asyncio.create_task(self._clock.sleep(seconds)), asyncio.create_task(self._moved.wait())]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for waiting in waits:
                waiting.cancel()

    async def _open(self, sink: Sink) -> int:
        """Fence, then position, then stored offset; choose; save the choice before the first poll."""
        self._lease.check()  # opening fences: a lost lease must not take the destination from its new owner
        position = await sink.open()
        stored = await self._store.load(self._spec.source, self._lease.token, self._spec.name)
        # A store that lost its data while our token still holds must not make us resolve `latest` again.
        known = stored if stored is not None else self._saved
        self._stored = stored
        choice = choose_offset(
            position,
            known,
            pipeline=self._spec.name,
            source=self._spec.source_id,
            destination=sink.destination,
        )
        match choice:
            case Stop(reason):
                raise Misconfigured(reason)
            case ResolveStart():
                offset = await resolve(self._spec.start, self._pages)
            case GoOn(offset, warning):
                if warning is not None:
                    self._status.rewinds += 1
                    self._log.warning("destination went back", detail=warning)
                    await self._take_letters_back(offset)  # before the save, which ends what we know of it
        if position is None and self._spec.traits.holds_position:
            self._lease.check()
            position = await sink.move(offset)  # into the sink first, so that a wiped store cannot resolve it again
        self._position = position
        await self._save(offset, sink)
        self._heartbeat_at = self._clock.monotonic() + HEARTBEAT_SECONDS
        self._log.info("pipeline open", offset=offset, sink=sink.destination, epoch=self._lease.epoch)
        return offset

    async def _deliver(self, sink: Sink, offset: int) -> None:
        """The line: pages are read and encoded ahead; one write is in flight; each write is followed by its save."""
        self._handoff = handoff = Handoff(self._spec.traits)
        reading = asyncio.create_task(self._read_ahead(offset, handoff))
        try:
            while (part := await handoff.take()) is not None:
                self._writing = True
                await self._write(sink, part)
                await self._save(part.next_offset, sink)
                if part.malformed is not None:
                    malformed = part.malformed
                    await self._set_aside(sink, malformed.sequence, None, malformed.raw, malformed.reason)
                await self._heartbeat(sink, idle=not part.events)
                self._writing = False
                self._note_progress(part, handoff)
                if part.caught_up and self._until_caught_up:
                    return
        finally:
            self._writing = False
            self._handoff = None
            reading.cancel()
            await asyncio.wait([reading])

    async def _read_ahead(self, offset: int, handoff: Handoff) -> None:
        """Fetch and encode the next pages while the sink writes; the hand-off's bound is the only brake."""
        try:
            while True:
                page = await self._pages.page(offset)
                for part in parts_of(page, self._spec.codec, self._spec.traits):
                    await handoff.put(part)
                self._status.entries_waiting = handoff.entries_waiting
                offset = page.next_offset
        except Exception as error:
            handoff.fail(error)

    async def _write(self, sink: Sink, part: Part) -> None:
        """One atomic write, or several where the destination refuses an event for good."""
        events = part.events
        while events:
            batch = Batch(events, self._from_offset(), part.next_offset)
            self._lease.check()
            started_at = self._clock.monotonic()
            try:
                self._position = await sink.write(batch)
            except Rejected as rejected:
                event = rejected.event
                self._position = await self._position_after(sink, event, is_first=event.sequence == events[0].sequence)
                self._status.delivered([earlier for earlier in events if earlier.sequence < event.sequence])
                await self._save(event.sequence, sink)
                await self._set_aside(sink, event.sequence, event.key, event.payload, rejected.reason)
                events = [later for later in events if later.sequence > event.sequence]
            else:
                self._status.observe_write_seconds(self._clock.monotonic() - started_at)
                self._status.delivered(events)
                return

    async def _position_after(self, sink: Sink, rejected: Event, *, is_first: bool) -> Position | None:
        """The sink's position behind what came before the rejected event. A destination that lost that part just now
        shows another; saved as the mark, it would make us believe that the lost entries were filtered out."""
        position = await sink.position()
        if is_first:
            as_promised = position == self._position
        elif self._spec.traits.holds_position:
            as_promised = position is not None and position.offset == rejected.sequence
        else:
            as_promised = True
        if not as_promised:
            raise Unavailable(
                f"the destination's position is {position}, after all before sequence {rejected.sequence} was written: "
                "reopening"
            )
        return position

    async def _set_aside(self, sink: Sink, sequence: int, key: bytes | None, rejected: bytes, reason: str) -> None:
        """Stop, or keep the event as a dead letter, durably, before anything behind it is delivered."""
        self._status.events_rejected += 1
        if self._spec.make_dead_letters is None:
            raise Misconfigured(
                f"sequence {sequence} cannot be delivered: {reason}; mend it, set `on_rejected: dead_letter`, or pass "
                f"it with `oplog-bridge offsets set {self._spec.name} {sequence + 1}`"
            )
        if self._dead_letters is None:
            self._dead_letters = DeadLetters(
                self._spec.make_dead_letters,
                holds_position=self._spec.dead_letters_hold_position,
                pipeline=self._spec.name,
                source=self._spec.source,
                source_id=self._spec.source_id,
                lease=self._lease,
            )
        if await self._dead_letters.keep(sequence, key=key, rejected=rejected, reason=reason):
            self._status.dead_letters += 1
        await self._save(sequence + 1, sink)

    async def _take_letters_back(self, offset: int) -> None:
        make = self._spec.make_dead_letters
        if make is not None and self._spec.dead_letters_hold_position:
            await take_back(make, offset=offset, pipeline=self.name, lease=self._lease)

    async def _save(self, offset: int, sink: Sink) -> None:
        """Keep the offset beside the position that the sink has now. Nothing to do when that is kept already."""
        stored = Stored(offset, mark_of(self._position), self._spec.source_id, sink.destination)
        if stored != self._stored:
            await self._store.save(
                self._spec.source, self._lease.token, self._spec.name, stored, replacing=self._stored
            )
        self._stored = self._saved = stored
        self._status.offset = offset
        self._status.position = None if self._position is None else self._position.offset

    async def _heartbeat(self, sink: Sink, *, idle: bool) -> None:
        """While idle, see that destination and store still say what we believe; a write would notice by itself."""
        now = self._clock.monotonic()
        if not idle:
            self._heartbeat_at = now + HEARTBEAT_SECONDS
        elif now >= self._heartbeat_at:
            self._heartbeat_at = now + HEARTBEAT_SECONDS
            position = await sink.position()
            if position != self._position:
                raise Unavailable(f"the destination's position changed from {self._position} to {position}: reopening")
            stored = await self._store.load(self._spec.source, self._lease.token, self._spec.name)
            if stored != self._stored:
                raise Unavailable("the stored offset is not what this process saved: reopening")

    def _from_offset(self) -> int:
        """The position that the sink must have. A sink without one takes the stored offset."""
        if self._position is not None:
            return self._position.offset
        assert self._stored is not None, "an offset is saved before the first write"
        return self._stored.offset

    def _note_progress(self, part: Part, handoff: Handoff) -> None:
        status = self._status
        status.caught_up = part.caught_up
        status.entries_waiting = handoff.entries_waiting
        status.entries_filtered += part.entries - len(part.events)
        if status.offset == self._progress_offset and not part.caught_up and not part.held_back:
            return  # an answer that moves nothing, such as a stale one from a proxy, is no progress
        self._progress_offset = status.offset
        if status.error is not None:
            status.error, status.retry_at = None, None
            self._log.info("pipeline delivers again", offset=status.offset)
        status.progress_at = self._clock.monotonic()
        self._backoff.reset()
        self._stopped_backoff.reset()

    def _troubled(self, state: Literal["retrying", "stopped", "waiting"], error: str, wait_seconds: float) -> float:
        news = (self._last_trouble, self._status.error) != (state, error)
        self._status.state, self._status.error, self._last_trouble = state, error, state
        self._status.caught_up = False
        self._status.retries += 1
        self._status.retry_at = self._clock.monotonic() + wait_seconds
        if news:  # a destination that is down for an hour says so once
            self._log.warning(f"pipeline {state}", error=error, retry_in_seconds=round(wait_seconds, 1))
        return wait_seconds
