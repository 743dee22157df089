"""A log in memory as a server would keep it, and the faults that a destination can have."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from oplogbridge.errors import Fenced, Misconfigured, Unavailable
from oplogbridge.values import Batch, Event, Position


@dataclass(frozen=True, slots=True)
class Write:
    """One acknowledged write, with what stood there before it, so that it can be lost again."""

    batch: Batch
    position_before: Position | None


class Pause:
    """A write held at a point that the test chose. Await `reached`, look around, then call `resume`."""

    def __init__(self) -> None:
        self._reached = asyncio.Event()
        self._resumed = asyncio.Event()

    async def reached(self) -> None:
        await self._reached.wait()

    def resume(self) -> None:
        self._resumed.set()

    async def hold(self) -> None:
        self._reached.set()
        await self._resumed.wait()


class MemoryDestination:
    """A log, a position and a token, as a server would keep them, and the faults to inject."""

    _all: ClassVar[dict[str, MemoryDestination]] = {}

    def __init__(self, name: str) -> None:
        self.name = name
        self.log: list[Event] = []
        self.writes: list[Write] = []  # the history, lost writes taken out
        self.position: Position | None = None
        self.token = 0  # the last opener's; grows with each open
        self.owner: str | None = None  # set by the first position
        self.delivered_events = 0  # of the present history, however short the log is kept
        self._changed = asyncio.Condition()
        self._down = False
        self._foreign = False
        self._refusals: list[Exception] = []
        self._replies_to_lose = 0
        self._rejected: dict[int, str] = {}
        self._pause_before: Pause | None = None
        self._pause_after: Pause | None = None

    @classmethod
    def named(cls, name: str) -> MemoryDestination:
        """The one destination of this name in this process."""
        return cls._all.setdefault(name, cls(name))

    @classmethod
    def forget(cls, name: str) -> None:
        """Let the name stand for a new, empty destination."""
        cls._all.pop(name, None)

    # What a test reads ---------------------------------------------------------------------------------------------

    @property
    def sequences(self) -> list[int]:
        return [event.sequence for event in self.log]

    async def delivered(self, count: int) -> list[Event]:
        """Wait until the log has held `count` events."""
        return await self.reached(lambda: self.delivered_events >= count)

    async def reached(self, condition: Callable[[], bool]) -> list[Event]:
        """Wait until `condition` holds; it is looked at after each change here."""
        async with self._changed:
            await self._changed.wait_for(condition)
        return self.log

    # Faults --------------------------------------------------------------------------------------------------------

    def down(self) -> None:
        """Nobody can open, write or read until `up`."""
        self._down = True

    def up(self) -> None:
        self._down = False

    def refuse(self, times: int = 1, error: Exception | None = None) -> None:
        """The next writes fail and nothing of them is applied."""
        self._refusals += [error or Unavailable(f"memory {self.name}: refused, it will be tried again")] * times

    def lose_replies(self, times: int = 1) -> None:
        """The next writes are applied, and their writers never learn of it."""
        self._replies_to_lose += times

    def reject(self, *sequences: int, reason: str = "the test says so") -> None:
        """These events will never be taken."""
        self._rejected |= dict.fromkeys(sequences, reason)

    def lose_writes(self, count: int = 1) -> None:
        """The last acknowledged writes are gone, log and position together, as after a fail-over of Redis."""
        for _ in range(count):
            write = self.writes.pop()
            assert len(self.log) >= len(write.batch.events), "the log was cut short: use a larger log_events_max"
            del self.log[-len(write.batch.events) :]
            self.delivered_events -= len(write.batch.events)
            self.position = write.position_before

    def lose_position(self) -> None:
        """The record of the position was deleted; the log is there."""
        self.position = None

    def write_foreign(self, event: Event) -> None:
        """Somebody else writes into the log."""
        self.log.append(event)
        self._foreign = True

    def pause_before_write(self) -> Pause:
        """Hold the next write before anything of it is applied."""
        self._pause_before = Pause()
        return self._pause_before

    def pause_after_write(self) -> Pause:
        """Hold the next write when it is durable and its writer does not know yet."""
        self._pause_after = Pause()
        return self._pause_after

    # What a sink asks for ------------------------------------------------------------------------------------------

    def take(self) -> int:
        """Fence everybody before; the token is the taker's."""
        self.token += 1
        return self.token

    def check_up(self) -> None:
        if self._down:
            raise Unavailable(f"memory {self.name}: it is down, it will be tried again")

    def check_token(self, token: int) -> None:
        if token != self.token:
            raise Fenced(f"memory {self.name}: a newer opener has it; leave it to them")

    def check_own(self, owner: str) -> None:
        if self.owner not in (None, owner):
            raise Misconfigured(
                f"memory {self.name}: it belongs to {self.owner}; give {owner} a destination of its own, or decide "
                "with `oplog-bridge offsets set`"
            )
        if self._foreign:
            raise Misconfigured(
                f"memory {self.name}: somebody else writes here; give this pipeline a destination of its own, or "
                "decide with `oplog-bridge offsets set`"
            )

    def move(self, position: Position, owner: str) -> None:
        """A person decided: what stands there is taken as it is."""
        self.position = position
        self.owner = owner
        self._foreign = False

    def rejection(self, event: Event, event_bytes_max: int | None) -> str | None:
        if event_bytes_max is not None and len(event.payload) > event_bytes_max:
            return f"its {len(event.payload)} bytes are more than the {event_bytes_max} that this destination takes"
        return self._rejected.get(event.sequence)

    async def pass_before(self) -> None:
        pause, self._pause_before = self._pause_before, None
        if pause is not None:
            await pause.hold()
        if self._refusals:
            raise self._refusals.pop(0)

    def apply(self, batch: Batch, position: Position | None, owner: str | None, log_events_max: int | None) -> None:
        """The one atomic step: nothing in it can be interrupted."""
        self.writes.append(Write(batch, self.position))
        self.log += batch.events
        self.delivered_events += len(batch.events)
        self.position = position
        self.owner = owner
        if log_events_max is not None and len(self.log) > log_events_max:
            del self.log[:-log_events_max]
            del self.writes[:-1]

    async def pass_after(self) -> None:
        async with self._changed:
            self._changed.notify_all()
        pause, self._pause_after = self._pause_after, None
        if pause is not None:
            await pause.hold()
        if self._replies_to_lose:
            self._replies_to_lose -= 1
            raise Unavailable(f"memory {self.name}: the answer was lost, the position tells what happened")
