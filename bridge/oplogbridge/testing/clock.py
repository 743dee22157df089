"""Time that moves only when a test moves it."""

from __future__ import annotations

import asyncio
import bisect
from dataclasses import dataclass, field

_PATIENCE_SECONDS = 10.0  # real ones: a test that waits for a sleeper that never comes fails instead of hanging
_TURNS = 25  # of the event loop in which a woken task may go on to its next sleep


@dataclass(order=True)
class _Sleeper:
    due: float
    order: int  # of two with the same due time, who lay down first wakes first
    woken: asyncio.Future[None] = field(compare=False)


class ManualClock:
    """A `Clock` for tests. Nothing sleeps for real.

        task = asyncio.create_task(poll_for_ever(clock))
        await clock.sleeping(1)      # until the task lies in `clock.sleep`
        clock.advance(1.0)           # it is woken; it runs at the test's next await
        await clock.sleeping(1)      # until it sleeps again
        await clock.run(60.0)        # a minute of it: every wake at its own time

    `unix()` moves along with `monotonic()`, and can be set: `clock.unix_seconds = 1_792_000_000.0`.
    """

    def __init__(self, *, monotonic_seconds: float = 1000.0, unix_seconds: float = 1_795_000_000.0) -> None:
        self._now = monotonic_seconds
        self._unix_ahead = unix_seconds - monotonic_seconds
        self._sleepers: list[_Sleeper] = []  # ascending
        self._order = 0
        self._waiting: list[tuple[int, asyncio.Future[None]]] = []

    def monotonic(self) -> float:
        return self._now

    def unix(self) -> float:
        return self._now + self._unix_ahead

    @property
    def unix_seconds(self) -> float:
        return self.unix()

    @unix_seconds.setter
    def unix_seconds(self, seconds: float) -> None:
        self._unix_ahead = seconds - self._now

    @property
    def asleep(self) -> int:
        """How many tasks sleep now."""
        return len(self._sleepers)

    @property
    def next_due(self) -> float | None:
        """When, on `monotonic()`, the next sleeper wakes; None when nobody sleeps."""
        return self._sleepers[0].due if self._sleepers else None

    async def sleep(self, seconds: float) -> None:
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        self._order += 1
        sleeper = _Sleeper(self._now + seconds, self._order, asyncio.get_running_loop().create_future())
        bisect.insort(self._sleepers, sleeper)
        self._tell_waiting()
        try:
            await sleeper.woken
        finally:
            if sleeper in self._sleepers:  # cancelled
                self._sleepers.remove(sleeper)

    def advance(self, seconds: float) -> None:
        """Move the time at once; whoever is due is woken in due order, and runs at the caller's next await.

        A task that sleeps again counts from the new time; `run` is for a stretch in which tasks sleep often.
        """
        if seconds < 0:
            raise ValueError("monotonic time only grows")
        self._now += seconds
        self._wake_due()

    async def run(self, seconds: float) -> None:
        """Move the time from one due sleeper to the next, letting each run to its next sleep, for `seconds` in all.

        Tasks that wait for something else (a socket, a thread) are not waited for: use `sleeping` for them.
        """
        end = self._now + seconds
        await self._settle()
        while self._sleepers and self._sleepers[0].due <= end:
            self._now = max(self._now, self._sleepers[0].due)
            self._wake_due()
            await self._settle()
        self._now = end

    async def sleeping(self, tasks: int = 1) -> None:
        """Wait, without time passing, until at least so many tasks sleep. Raises AssertionError when none comes."""
        if len(self._sleepers) >= tasks:
            return
        arrived: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiting = (tasks, arrived)
        self._waiting.append(waiting)
        try:
            async with asyncio.timeout(_PATIENCE_SECONDS):
                await arrived
        except TimeoutError:
            raise AssertionError(f"{len(self._sleepers)} tasks sleep, {tasks} were expected to") from None
        finally:
            self._waiting.remove(waiting)

    def _wake_due(self) -> None:
        while self._sleepers and self._sleepers[0].due <= self._now:
            woken = self._sleepers.pop(0).woken
            if not woken.done():
                woken.set_result(None)

    def _tell_waiting(self) -> None:
        for tasks, arrived in self._waiting:
            if len(self._sleepers) >= tasks and not arrived.done():
                arrived.set_result(None)

    async def _settle(self) -> None:
        for _ in range(_TURNS):
            await asyncio.sleep(0)
