"""Delivery by key: events of different keys are written at once, those of one key strictly one after the other.

For sinks without a position (`SinkTraits.pending_max`). Each key that has something to deliver has a lane: a task that
writes its events in order and tries one again until it is acknowledged, so that a key which is refused for now holds up
nobody else. All lanes share one window over the oplog's order:

      saved offset                       next event to take
          ▼                                     ▼
    ──────[ ✓  ·  ✓  ✓  ·  ✓  ·  …  at most pending_max ]──────
             ▲ the lowest that is not acknowledged: what may be saved ends before it

An event leaves the window when it is saved, not when it is acknowledged: so a crash repeats `pending_max` at most.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence

from oplogbridge.backoff import Backoff
from oplogbridge.clock import Clock
from oplogbridge.closing import given_up
from oplogbridge.errors import Rejected, Unavailable
from oplogbridge.values import Event


class Pending:
    """An event in the window."""

    __slots__ = ("acknowledged", "event", "rejected")

    def __init__(self, event: Event) -> None:
        self.event = event
        self.acknowledged = False
        self.rejected: Rejected | None = None


class Lanes:
    """One taker of parts (`take`), one keeper of the offset (`moved`, `acknowledged`, `release`), a task a busy key."""

    def __init__(
        self,
        write: Callable[[Event], Awaitable[None]],
        *,
        pending_max: int,
        bytes_max: int,
        clock: Clock,
        jitter: Callable[[], float],
        on_waiting: Callable[[int, Unavailable | None], None],
        delivered: frozenset[int] = frozenset(),
    ) -> None:
        """`on_waiting` is told how many lanes wait before they try again, and why the last one began to. `delivered`
        are sequences that were acknowledged under an earlier delivery, beyond what it could save."""
        self._write = write
        self._pending_max = pending_max
        self._bytes_max = bytes_max
        self._clock = clock
        self._jitter = jitter
        self._on_waiting = on_waiting
        self._delivered = delivered
        self._window: deque[Pending] = deque()  # in oplog order
        self._bytes = 0
        self._taken_offset: int | None = None  # all below it was taken
        self.saved_offset: int | None = None
        self._lanes: dict[bytes, deque[Pending]] = {}  # of the keys that have something to deliver
        self._tasks: set[asyncio.Task[None]] = set()
        self._waiting: set[asyncio.Task[None]] = set()
        self._changed = asyncio.Event()  # for the keeper of the offset
        self._room = asyncio.Event()  # for the taker
        self._error: Exception | None = None
        self._stopped = False

    # The taker -----------------------------------------------------------------------------------------------------

    async def take(self, events: Sequence[Event], next_offset: int) -> None:
        """Returns when all are in the window, or when stopped. Raises the trouble of any lane that only a new delivery
        or a person can mend."""
        for event in events:
            while self._is_full(event):
                await self._wait_for_room()
            if self._stopped:
                break
            self._begin(event)
        if self._error is not None:
            raise self._error
        if self._stopped:
            return
        self._taken_offset = next_offset
        self._changed.set()

    async def empty(self) -> None:
        """Returns when all that was taken is acknowledged and saved, or when stopped. Raises as `take` does."""
        while not self._stopped and not self.is_empty:
            await self._wait_for_room()
        if self._error is not None:
            raise self._error

    @property
    def is_empty(self) -> bool:
        return not self._window and self.saved_offset == self._taken_offset

    def _is_full(self, event: Event) -> bool:
        more = len(event.payload)
        too_large = self._bytes + more > self._bytes_max
        full = len(self._window) >= self._pending_max or (too_large and bool(self._window))
        return full and self._error is None and not self._stopped

    async def _wait_for_room(self) -> None:
        if self._error is not None:
            raise self._error
        self._room.clear()
        await self._room.wait()

    def _begin(self, event: Event) -> None:
        pending = Pending(event)
        self._window.append(pending)
        self._bytes += len(event.payload)
        self._taken_offset = event.sequence + 1
        if event.sequence in self._delivered:
            pending.acknowledged = True
            self._changed.set()
            return
        lane = self._lanes.get(event.key)
        if lane is not None:
            lane.append(pending)
        else:
            self._lanes[event.key] = deque([pending])
            self._run(event.key)

    # A lane --------------------------------------------------------------------------------------------------------

    def _run(self, key: bytes) -> None:
        task = asyncio.create_task(self._deliver(key))
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.fail(error if isinstance(error, Exception) else RuntimeError(repr(error)))
        self._changed.set()

    async def _deliver(self, key: bytes) -> None:
        """The lane of one key, until it is empty, stopped, or its next event was refused for good."""
        lane = self._lanes[key]
        while lane and not self._stopped:
            pending = lane[0]
            try:
                await self._until_acknowledged(pending)
            except Rejected as rejected:
                pending.rejected = rejected  # what comes after it waits until it is set aside
                self._changed.set()
                return
            if not pending.acknowledged:
                return  # stopped
            lane.popleft()
            self._changed.set()
        if not lane:
            del self._lanes[key]

    async def _until_acknowledged(self, pending: Pending) -> None:
        backoff = Backoff(first_seconds=0.2, max_seconds=30.0, jitter=self._jitter)
        while not self._stopped:
            try:
                await self._write(pending.event)
            except Unavailable as error:
                await self._wait(backoff.next_seconds(error.retry_after_seconds, exactly=error.exactly), error)
            else:
                pending.acknowledged = True
                return

    async def _wait(self, seconds: float, why: Unavailable) -> None:
        task = asyncio.current_task()
        if self._stopped or task is None:
            return
        self._waiting.add(task)
        self._changed.set()
        self._on_waiting(len(self._waiting), why)
        try:
            await self._clock.sleep(seconds)
        finally:
            self._waiting.discard(task)
            self._on_waiting(len(self._waiting), None)

    # The keeper of the offset --------------------------------------------------------------------------------------

    async def moved(self) -> bool:
        """Wait until something changed; False when stopped and nothing can change any more."""
        if self._stopped and not self._tasks and not self._changed.is_set():
            return False
        await self._changed.wait()
        self._changed.clear()
        return True

    def acknowledged(self) -> tuple[int | None, list[Event]]:
        """The lowest offset that is not delivered, and the events before it that are not released yet."""
        events: list[Event] = []
        for pending in self._window:
            if not pending.acknowledged:
                return pending.event.sequence, events
            events.append(pending.event)
        return self._taken_offset, events

    def release(self, events: int, offset: int | None) -> None:
        """So many are saved with this offset: there is room for others."""
        for _ in range(events):
            self._bytes -= len(self._window.popleft().event.payload)
        self.saved_offset = offset
        self._room.set()

    def rejected(self) -> Rejected | None:
        """An event that was refused, once everything before it is saved."""
        return self._window[0].rejected if self._window else None

    def release_rejected(self) -> None:
        """It was set aside: its key goes on."""
        event = self._window.popleft().event
        self._bytes -= len(event.payload)
        lane = self._lanes[event.key]
        lane.popleft()
        if lane and not self._stopped:
            self._run(event.key)
        else:
            self._lanes.pop(event.key)
        self.saved_offset = event.sequence + 1
        self._changed.set()
        self._room.set()

    # The end -------------------------------------------------------------------------------------------------------

    @property
    def busy(self) -> bool:
        """Something is under way, or acknowledged and not saved yet: let it finish."""
        return len(self._tasks) > len(self._waiting) or bool(self._window and self._window[0].acknowledged)

    @property
    def delivered(self) -> frozenset[int]:
        """What is acknowledged and could not be saved, since something before it is not."""
        return frozenset(pending.event.sequence for pending in self._window if pending.acknowledged)

    @property
    def error(self) -> Exception | None:
        return self._error

    def fail(self, error: Exception) -> None:
        """Nothing more is taken, because of `error`; what is under way may end."""
        if self._error is None:
            self._error = error
        self.stop()

    def stop(self) -> None:
        """What is under way ends; nothing else begins, and nobody waits to try again."""
        self._stopped = True
        for task in self._waiting:
            task.cancel()
        self._changed.set()
        self._room.set()

    async def close(self) -> None:
        await given_up([*self._tasks])
