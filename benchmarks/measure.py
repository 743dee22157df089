"""One measured run, taken from outside: when the source was first asked, and when the destination held everything.

What a tool says of its own speed is not used (docs/performance.md, "How it is measured"): the beginning is the first
poll in the source's own record, the end is the moment at which the destination's end stood where it stayed.
"""

from __future__ import annotations

import asyncio
import contextlib
from bisect import bisect_left
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from statistics import median
from time import monotonic

import msgspec
from arrived import Arrived
from child import Child, Failed, Meter
from destinations import Destination

SAMPLE_SECONDS = 0.02
RUN_WITHIN_SECONDS = 180.0  # five million entries take a minute
QUIET_SECONDS = 0.5  # how long nothing more may have come before a run counts as over


@dataclass(frozen=True, slots=True)
class Sample:
    at: float
    end: int
    cpu_seconds: float
    rss_bytes: int
    server_cpu_seconds: float


@dataclass(frozen=True, slots=True)
class Run:
    """What one run showed. CPU is counted between its beginning and its end, so without starting Python."""

    entries: int
    seconds: float
    cpu_seconds: float
    rss_bytes_max: int
    server_cpu_seconds: float
    arrived: Arrived

    @property
    def entries_per_second(self) -> float:
        return self.entries / self.seconds

    @property
    def cpu_us_per_entry(self) -> float:
        return self.cpu_seconds / self.entries * 1e6

    @property
    def server_cpu_us_per_entry(self) -> float:
        return self.server_cpu_seconds / self.entries * 1e6


def middle(runs: list[Run], what: Callable[[Run], float]) -> float:
    return median([what(run) for run in runs])


class Watch:
    """Samples a child, its destination's server and its destination's end, every SAMPLE_SECONDS."""

    def __init__(self, child: Child, destination: Destination) -> None:
        self._child = child
        self._destination = destination
        self._watching: asyncio.Task[None] | None = None
        self._over = False
        self.samples: list[Sample] = []

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Raises Failed when the block takes longer than any honest run."""
        self._watching = watching = asyncio.create_task(self._watch())
        try:
            async with asyncio.timeout(RUN_WITHIN_SECONDS):
                yield
        except TimeoutError as error:
            raise self._child.failed(f"was not done in {RUN_WITHIN_SECONDS:g} s") from error
        finally:
            self._over = True  # not by cancelling it: redis-py was seen to swallow that, and then it watches for ever
            await asyncio.wait([watching])
        watching.result()  # what it raised is why it ended before its time

    async def _watch(self) -> None:
        used, server = Meter(self._child.pid), Meter(self._destination.server_pid)
        while not self._over:
            end = await self._destination.end()
            now, by_child = monotonic(), used.read()
            self.samples.append(Sample(now, end, by_child.cpu_seconds, by_child.rss_bytes, server.read().cpu_seconds))
            await asyncio.sleep(SAMPLE_SECONDS)

    def reached(self, end: int) -> float:
        """When the destination's end first stood here."""
        return next(sample.at for sample in self.samples if sample.end == end)

    async def quiet(self, end_min: int) -> None:
        """Until the end has reached `end_min` and then stood still for QUIET_SECONDS."""
        while not self.samples or self.samples[-1].end < end_min or not self._still():
            await asyncio.sleep(SAMPLE_SECONDS)
            if self._watching is None or self._watching.done():
                raise Failed(f"{self._destination.name} is not watched any more")
            if self._child.process.returncode:
                raise self._child.failed(f"ended with {self._child.process.returncode}")

    def _still(self) -> bool:
        last = self.samples[-1]
        return last.at - self.reached(last.end) > QUIET_SECONDS

    def run(self, begun: float, ended: float, arrived: Arrived) -> Run:
        return Run(
            entries=arrived.expected,
            seconds=ended - begun,
            cpu_seconds=self._between(begun, ended, lambda sample: sample.cpu_seconds),
            rss_bytes_max=max(sample.rss_bytes for sample in self.samples),
            server_cpu_seconds=self._between(begun, ended, lambda sample: sample.server_cpu_seconds),
            arrived=arrived,
        )

    def _between(self, begun: float, ended: float, what: Callable[[Sample], float]) -> float:
        return self._at(ended, what) - self._at(begun, what)

    def _at(self, at: float, what: Callable[[Sample], float]) -> float:
        """Between two samples, on the line through them."""
        index = bisect_left(self.samples, at, key=lambda sample: sample.at)
        if index in (0, len(self.samples)):
            return what(self.samples[min(index, len(self.samples) - 1)])
        before, after = self.samples[index - 1], self.samples[index]
        part = (at - before.at) / (after.at - before.at)
        return what(before) + part * (what(after) - what(before))


async def measure_reader(child: Child, destination: Destination, *, ends_itself: bool = True) -> Watch:
    """Let whoever reads the source deliver all of it. When that began is in the source's own record."""
    watch = Watch(child, destination)
    async with watch.running():
        if ends_itself:
            await child.ended_well()
        else:
            await watch.quiet(end_min=destination.expected)
            await watch.quiet(end_min=1)  # Kafka answers a commit before its readers can see it
    return watch


async def measure_client(child: Child, destination: Destination) -> tuple[Watch, float, float]:
    """A client alone says itself when it began and ended: what it does before is preparing what it sends."""
    watch = Watch(child, destination)
    async with watch.running():
        said = msgspec.json.decode(await child.line())
        await child.ended_well()
    return watch, said["begun"], said["ended"]
