"""A whole line under a script of faults: instances that crash, drain and start again, calls that fail, hang or lose
their answer, and everything that must hold meanwhile. Time is manual, so an example takes milliseconds."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from oplogbridge.errors import BridgeError, Unavailable
from oplogbridge.testing import MemorySettings
from scripted import Killed, Late, When
from world import Instance, PipelineChoice, World, in_order_once, shortest_gap

EntryKind = Literal["sound", "filtered", "malformed", "rejected"]
Action = Literal["kill", "cancel", "stop", "fail", "hang", "late", "lose", "forget"]

HANG_SECONDS = 13.0  # longer than the lease lives
LATE_SECONDS = 3.0  # within one holder's lease, and within the next one's first seconds
SECONDS_MAX = 4000.0
INSTANCES_MAX = 14


@dataclass(frozen=True)
class Script:
    """`entries` appear by and by; `faults` strike at the n-th step of any call of any instance."""

    entries: Sequence[tuple[EntryKind, int]]  # kind, and how far its sequence lies from the one before
    faults: Sequence[tuple[int, Action]] = ()
    at_start: int = 100  # entries that are there before anybody starts
    page_limit: int = 3
    events_max: int = 4
    holds_position: bool = True
    instances: int = 2
    pipelines: int = 1


@dataclass
class Line:
    """One pipeline, and what it must have delivered and kept in the end."""

    name: str
    types: frozenset[str]
    expected: list[int] = field(default_factory=list)
    letters: list[int] = field(default_factory=list)
    offset: int = -1  # the highest seen in the store


@dataclass
class Simulation:
    script: Script
    steps: int = 0
    lossless: bool = True  # nobody has lost acknowledged data so far
    struck: list[str] = field(default_factory=list)
    unseen: list[Any] = field(default_factory=list)
    failure: AssertionError | None = None
    on_their_way: list[asyncio.Task[None]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.faults: dict[int, Action] = dict(self.script.faults)
        self.lines = [Line("users", frozenset({"user"})), Line("all", frozenset())][: self.script.pipelines]

    async def run(self) -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: self.unseen.append(context))
        settings = MemorySettings(events_max=self.script.events_max, holds_position=self.script.holds_position)
        choices = [
            PipelineChoice(line.name, types=line.types, settings=settings, letters=MemorySettings())
            for line in self.lines
        ]
        async with World(*choices, page_limit=self.script.page_limit) as self.world:
            entries = list(self.script.entries)
            for entry in entries[: self.script.at_start]:
                self._write(*entry)
            for _ in range(self.script.instances):
                self._start()
            later = entries[self.script.at_start :]
            end = self.world.clock.monotonic() + SECONDS_MAX
            while later or not self._is_done():
                assert self.world.clock.monotonic() < end, f"not done: {self._describe()}"
                if later:
                    self._write(*later.pop(0))
                if all(one.task is not None and one.task.done() for one in self.world.instances):
                    self._start()
                await self.world.run(1.0)
                self._check()
                if self.failure is not None:
                    raise self.failure
            self.faults.clear()
            await self.world.run(LATE_SECONDS + 1)
            self._check()
            self._check_the_end()
        for task in self.on_their_way:
            task.cancel()
        await asyncio.gather(*self.on_their_way, return_exceptions=True)
        assert self.unseen == []
        assert asyncio.all_tasks() == {asyncio.current_task()}, "tasks were left behind"

    def _write(self, kind: EntryKind, distance: int) -> None:
        source = self.world.source
        sequence = (source.sequences[-1] if source.sequences else 0) + distance
        if kind == "malformed":
            source.put_malformed(sequence)
        else:
            source.put(sequence, type_="order" if kind == "filtered" else "user")
        for line in self.lines:
            if kind == "filtered" and line.types:
                continue
            if kind == "rejected":
                self.world.at(line.name).reject(sequence)
            refused = kind in ("malformed", "rejected")
            (line.letters if refused else line.expected).append(sequence)

    def _start(self) -> None:
        assert len(self.world.instances) < INSTANCES_MAX, f"too many instances: {self._describe()}"
        instance = self.world.start()

        async def at_step(name: str, when: When) -> None:
            await self._at_step(instance, name, when)

        instance.gate.at_step = at_step
        instance.gate.late = lambda call: self.on_their_way.append(asyncio.create_task(self._arrive_late(call)))

    async def _arrive_late(self, call: Callable[[], Awaitable[Any]]) -> None:
        await self.world.clock.sleep(LATE_SECONDS)
        with contextlib.suppress(BridgeError):
            await call()

    async def _at_step(self, instance: Instance, name: str, when: When) -> None:
        if instance.gate.dead:
            return
        self.steps += 1
        try:
            self._check()
        except AssertionError as failure:  # we are inside of the line, which survives a defect of ours
            self.failure = self.failure or failure
        action = self.faults.pop(self.steps, None)
        if action is None or name == "sink.close":
            return
        self.struck.append(f"{self.world.clock.monotonic():.1f} {instance.name} {action} {when} {name}")
        match action:
            case "kill":
                instance.kill()
                raise Killed(name)
            case "cancel" if instance.task is not None:
                instance.task.cancel()
            case "stop":
                instance.stop()
            case "fail":
                raise Unavailable(f"the script lets {name} fail {when} it takes effect")
            case "hang":
                await self.world.clock.sleep(HANG_SECONDS)
            case "late" if when == "before" and name.startswith("store."):
                raise Late
            case "lose":
                self.lossless = False
                for at in [at for line in self.lines if (at := self.world.at(line.name)).writes]:
                    at.lose_writes(1)
            case "forget":
                self.lossless = False
                self.world.memory.wipe()
            case _:
                pass

    # What must hold -------------------------------------------------------------------------------------------------

    def _check(self) -> None:
        for line in self.lines:
            self._check_line(line)
        if self.lossless:
            gap = shortest_gap(self.world.source.poll_times)
            assert gap >= self.world.poll_interval_seconds - 1e-6, f"{gap} s between two polls: {self._describe()}"
            assert self.world.source.in_flight_most <= 1

    def _check_line(self, line: Line) -> None:
        log, letters = self.world.at(line.name).sequences, self._letters(line)
        if not self.script.holds_position:  # at least once: copies come, but the first ones are in order
            log = list(dict.fromkeys(log))
        assert log == line.expected[: len(log)], f"{line.name}: log {log}: {self._describe()}"
        assert letters == line.letters[: len(letters)], f"{line.name}: letters {letters}: {self._describe()}"
        delivered = log[-1] if log else 0
        missing = [one for one in line.letters if one < delivered and one not in letters]
        assert not missing, f"{line.name}: delivered past the letters {missing}: {self._describe()}"
        if self.lossless:
            stored = self.world.stored(line.name)
            offset = -1 if stored is None else stored.offset
            assert offset >= line.offset, f"{line.name}: offset {offset} after {line.offset}: {self._describe()}"
            line.offset = offset
            lost = [one for one in line.expected if one < offset and one not in log]
            lost += [one for one in line.letters if one < offset and one not in letters]
            assert not lost, f"{line.name}: offset {offset} passed {lost}: {self._describe()}"

    def _letters(self, line: Line) -> list[int]:
        """A destination that went back takes the letters along: that part comes again, in order."""
        letters = self.world.letters(line.name).sequences
        return letters if self.lossless else list(dict.fromkeys(letters))

    def _is_done(self) -> bool:
        last = self.world.source.sequences[-1] if self.world.source.sequences else -1
        return all(
            (stored := self.world.stored(line.name)) is not None
            and stored.offset > last
            and len(self.world.at(line.name).sequences) >= len(line.expected)
            for line in self.lines
        )

    def _check_the_end(self) -> None:
        for line in self.lines:
            log = self.world.at(line.name).sequences
            assert list(dict.fromkeys(log)) == line.expected, self._describe()
            if self.script.holds_position:
                assert in_order_once(log), self._describe()
            assert self._letters(line) == line.letters, self._describe()

    def _describe(self) -> str:
        return "\n".join([*self.struck, self.world.describe()])
