"""An event loop for several processes in one thread, on one virtual clock. Who goes on next is the seed's choice.

Within a process callbacks run in the order in which they became ready, as asyncio promises; between processes there is
no order. A process can be killed, which drops everything that it would still have done (no `finally` runs, as with
SIGKILL), and paused: then its timers ring late and all of them at once, as after SIGSTOP.
"""

from __future__ import annotations

import asyncio
import contextvars
import heapq
from asyncio import events
from collections import deque
from collections.abc import Callable, Coroutine
from random import Random
from typing import Any

CLOSINGS_MAX = 20
STEPS_MAX = 300_000  # the longest scenarios take a tenth

_process: contextvars.ContextVar[Process] = contextvars.ContextVar("process")


class Process:
    """Something that runs, dies and pauses as a whole. The network and the servers are one that never dies."""

    def __init__(self, loop: SimulatedLoop, name: str) -> None:
        self.name = name
        self.ready: deque[asyncio.Handle] = deque()
        self.is_dead = False
        self.is_paused = False
        self.tasks: list[asyncio.Task[Any]] = []  # kept: a task that is collected runs its `finally`
        self._loop = loop
        self.context = contextvars.Context()
        self.context.run(_process.set, self)
        loop.processes.append(self)

    def start(self, coroutine: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Run it as this process."""
        before, self._loop.current = self._loop.current, self
        try:
            return self.context.run(self._loop.create_task, coroutine)
        finally:
            self._loop.current = before

    def kill(self) -> None:
        self.is_dead = True
        self.ready.clear()
        self._loop.forget(self)

    def pause(self) -> None:
        self.is_paused = True
        self._loop.forget(self)

    def resume(self) -> None:
        if self.is_paused and not self.is_dead:
            self.is_paused = False
            if self.ready:
                self._loop.runnable.append(self)


class SimulatedLoop(asyncio.AbstractEventLoop):
    """Only what coroutines need: no sockets, no threads, no signals."""

    def __init__(self, random: Random, *, now: float = 1000.0) -> None:
        self.now = now
        self.runnable: list[Process] = []  # those with something ready
        self.processes: list[Process] = []
        self.world = Process(self, "world")
        self.current = self.world
        self.failures: list[dict[str, Any]] = []  # what nobody awaited
        self.handles_run = 0
        self._random = random.random
        self._timers: list[tuple[float, int, asyncio.TimerHandle, Process]] = []
        self._order = 0
        self._running = False

    # Running -------------------------------------------------------------------------------------------------------

    def run(self, main: Coroutine[Any, Any, None]) -> None:
        """Until `main`, which runs as the world, is done. Everything else stays as it is then."""
        done = self.world.start(main)
        self._running = True
        events._set_running_loop(self)
        try:
            while not done.done():
                self._run_one()
                if self.handles_run > STEPS_MAX:
                    raise RuntimeError(f"still not done after {STEPS_MAX} steps: something turns round and round")
        finally:
            events._set_running_loop(None)
            self._running = False
        done.result()

    def _run_one(self) -> None:
        runnable = self.runnable
        if not runnable:
            self._ring()
            return
        index = 0 if len(runnable) == 1 else int(self._random() * len(runnable))
        process = runnable[index]
        handle = process.ready.popleft()
        if not process.ready:
            del runnable[index]
        if handle._cancelled:  # type: ignore[attr-defined]
            return
        self.current = process
        self.handles_run += 1
        handle._run()  # type: ignore[attr-defined]
        self.current = self.world

    def _ring(self) -> None:
        """Nothing is ready: the time moves to the next timer."""
        timers = self._timers
        if not timers:
            raise RuntimeError("the simulation has nothing left to do, and its end did not come")
        when = timers[0][0]
        self.now = max(self.now, when)
        while timers and timers[0][0] <= self.now:
            _, _, timer, process = heapq.heappop(timers)
            if not timer._cancelled and not process.is_dead:  # type: ignore[attr-defined]
                self._make_ready(timer, process)

    def _make_ready(self, handle: asyncio.Handle, process: Process) -> None:
        if not process.ready and not process.is_paused:
            self.runnable.append(process)
        process.ready.append(handle)

    def forget(self, process: Process) -> None:
        if process in self.runnable:
            self.runnable.remove(process)

    def bury(self) -> None:
        """After the end: close what was never finished. Left to the garbage collector, its `finally` would run in the
        middle of another scenario and start tasks there."""
        self._timers.clear()
        for process in self.processes:
            for task in process.tasks:
                for _ in range(CLOSINGS_MAX):
                    try:
                        task.get_coro().close()
                        break
                    except RuntimeError:  # it awaits something in a `finally`
                        continue
            process.tasks.clear()
            process.ready.clear()

    # What asyncio asks for -----------------------------------------------------------------------------------------

    def time(self) -> float:
        return self.now

    def call_soon(
        self, callback: Callable[..., object], *args: Any, context: contextvars.Context | None = None
    ) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)
        process = self.current if context is None else context.get(_process, self.current)
        if not process.is_dead:
            self._make_ready(handle, process)
        return handle

    def call_later(
        self, delay: float, callback: Callable[..., object], *args: Any, context: contextvars.Context | None = None
    ) -> asyncio.TimerHandle:
        return self.call_at(self.now + delay, callback, *args, context=context)

    def call_at(
        self, when: float, callback: Callable[..., object], *args: Any, context: contextvars.Context | None = None
    ) -> asyncio.TimerHandle:
        timer = asyncio.TimerHandle(when, callback, args, self, context)
        self._order += 1
        process = self.current if context is None else context.get(_process, self.current)
        heapq.heappush(self._timers, (when, self._order, timer, process))
        return timer

    def call_by_world(self, delay: float, callback: Callable[..., object], *args: Any) -> None:
        """As `call_later`, by nobody who could die or sleep: a request on its way."""
        self._order += 1
        timer = asyncio.TimerHandle(self.now + delay, callback, args, self, self.world.context)
        heapq.heappush(self._timers, (self.now + delay, self._order, timer, self.world))

    def _timer_handle_cancelled(self, _timer: asyncio.TimerHandle) -> None: ...

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(
        self, coro: Any, *, name: str | None = None, context: contextvars.Context | None = None
    ) -> asyncio.Task[Any]:
        task: asyncio.Task[Any] = asyncio.Task(coro, loop=self, name=name, context=context)
        task._log_destroy_pending = False  # type: ignore[attr-defined]
        process = self.current if context is None else context.get(_process, self.current)
        process.tasks.append(task)
        return task

    def is_running(self) -> bool:
        return self._running

    def is_closed(self) -> bool:
        return False

    def get_debug(self) -> bool:
        return False

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        self.failures.append(context)
