"""What a seed means: a world, the entries of its oplog, and what goes wrong and when."""

from __future__ import annotations

import asyncio
from bisect import insort
from dataclasses import dataclass, field
from random import Random

from oplogbridge.codec.encode import Codec
from oplogbridge.codec.subjects import Filter
from oplogbridge.sink import Sink, SinkContext
from oplogbridge.source.start import Start
from oplogbridge.spec import PipelineSpec, SourceSpec
from oplogbridge.state import Holder, kept
from oplogbridge.status import PipelineStatus, SourceStatus
from oplogbridge.supervisor import SourceRunner
from simulation.faults import LATEST, Faults
from simulation.loop import Process, SimulatedLoop
from simulation.network import Network, Server
from simulation.oracle import Line, Oracle, Violation
from simulation.sinks import file, kafka, nats, redis, webhook
from simulation.sinks.place import Kind, Place
from simulation.source import SimulatedClient, SourceState
from simulation.stores import SimulatedStore, StoreClock, StoreState

SOURCE, SOURCE_ID = "shop", "shop-1"
KINDS = [redis.KIND, kafka.KIND, nats.KIND, file.KIND, webhook.KIND, webhook.BY_KEY]
QUIET_SECONDS_MAX = 900.0  # of virtual time until everything is delivered: a stopped pipeline tries after 300 s
STEP_SECONDS = 1.0
UNIX_BEGIN = 1_795_000_000.0  # when the virtual clock stands at zero


@dataclass
class Instance:
    """One bridge process that comes back after it died, as under any supervisor."""

    name: str
    process: Process
    clock: ProcessClock
    runner: SourceRunner | None = None
    status: dict[str, PipelineStatus] = field(default_factory=dict)


class ProcessClock:
    """`Clock` of one process: boot time, which goes on while it sleeps; its wall clock may be wrong."""

    def __init__(self, loop: SimulatedLoop) -> None:
        self._loop = loop
        self.unix_ahead_seconds = 0.0

    def monotonic(self) -> float:
        return self._loop.now

    def unix(self) -> float:
        return UNIX_BEGIN + self._loop.now + self.unix_ahead_seconds

    async def sleep(self, seconds: float) -> None:
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        woken = self._loop.create_future()
        timer = self._loop.call_later(seconds, lambda: woken.done() or woken.set_result(None))
        try:
            await woken
        finally:
            timer.cancel()


class Scenario:
    def __init__(self, seed: int, *, trace: bool = False, kinds: list[Kind] | None = None) -> None:
        self.seed = seed
        self.random = random = Random(seed)
        self.loop = SimulatedLoop(Random(seed ^ 0x5EED))
        self.trace: list[str] | None = [] if trace else None
        self.network = Network(self.loop, Random(seed ^ 0xBAD), self.note, self._after_effect)
        self.source = Server(
            "source", SourceState(Random(seed ^ 0x10C), page_limit=random.randint(1, 5)), delays_requests=False
        )
        self.store_clock = StoreClock(self.loop)
        self.store = Server("store", StoreState(self.store_clock))
        self.lease_ttl_seconds = random.choice([4.0, 10.0])
        self.start = random.choice([Start("earliest"), Start("earliest"), LATEST])
        # `latest` does not say which of two entries came first; for the others lower ones may come late, by so much.
        self.settle_seconds = 0.0 if self.start == LATEST else random.choice([0.0, 0.0, 3.0])
        self.oracle = Oracle(self.source, self.store, poll_interval_seconds=1.0)
        self.kind = random.choice(kinds or KINDS)
        for name, types in [("users", frozenset({"user"})), ("all", frozenset[str]())][: random.choice([1, 1, 2])]:
            self.oracle.lines.append(self._line(name, types))
        # One process that lives and keeps its lease: then nothing is lost by a store that forgets, whatever was asked.
        self.one_that_lives = random.random() < 0.1
        self.oracle.somebody_knows = self.one_that_lives
        if self.one_that_lives:
            self.lease_ttl_seconds = 60.0
        instances = 1 if self.one_that_lives else random.choice([1, 2, 2, 3])
        self.instances = [self._instance(number) for number in range(instances)]
        self.later = self._entries()
        self._nonces = Random(seed ^ 0x0CE)

    # The world -----------------------------------------------------------------------------------------------------

    def note(self, what: str) -> None:
        if self.trace is not None:
            self.trace.append(f"{self.loop.now:10.3f}  {what}")

    def _after_effect(self, where: str) -> None:
        self.oracle.look(where)

    def _line(self, name: str, types: frozenset[str]) -> Line:
        place = Place(Server(f"{self.kind.name}-{name}", self.kind.make_state()))
        letters_kind = redis.KIND
        letters = Place(Server(f"letters-{name}", letters_kind.make_state()))
        latest = self.start == LATEST
        begins_at = None if latest else 0
        return Line(name, types, place, self.kind, letters, letters_kind, begins_at, starts_latest=latest)

    def _instance(self, number: int) -> Instance:
        name = f"bridge-{number + 1}"
        return Instance(name, Process(self.loop, name), ProcessClock(self.loop))

    def _entries(self) -> list[int]:
        """All of them are decided now; how many are there from the beginning, too. The others come by and by."""
        random, sequence, entries = self.random, 0, []
        for _ in range(random.randint(3, 16)):
            sequence += random.choice([1, 1, 1, 2, 5])
            entries.append(sequence)
        for sequence in entries[: (at_start := random.randint(0, len(entries)))]:
            self._append(sequence)
        return entries[at_start:]

    def _write(self, seconds: float) -> None:
        """The later entries come in these seconds. Where `settle` is set some show up behind the next, within it."""
        times = [seconds * (number + 1) / (len(self.later) + 1) for number in range(len(self.later))]
        for sequence, written, next_written in zip(self.later, times, [*times, None][1:], strict=True):
            seen = written
            if self.settle_seconds and next_written is not None and self.random.random() < 0.3:
                seen = min(next_written + self.random.random() * self.settle_seconds, seconds)
            self.loop.call_by_world(seen, self._append, sequence, self.loop.now + written)

    def _append(self, sequence: int, written: float = 0.0) -> None:
        kind = self.random.choices(["sound", "other type", "malformed", "refused"], [12, 2, 1, 1])[0]
        self.note(f"source: entry {sequence}, {kind}")
        self.oracle.keys[sequence] = f"{'order' if kind == 'other type' else 'user'}/{sequence % 3}"
        self.source.state.append(sequence, "sound" if kind == "refused" else kind, UNIX_BEGIN + written)  # type: ignore[arg-type]
        for line in self.oracle.lines:
            if kind == "other type" and line.types:
                continue
            if kind in ("malformed", "refused"):
                line.place.rejected.add(sequence)
                insort(line.refused, sequence)
            else:
                insort(line.expected, sequence)

    # A process of the bridge ---------------------------------------------------------------------------------------

    def begin(self, instance: Instance) -> None:
        if instance.process.is_dead or instance.process.tasks:
            return  # killed before it began, and started again since
        instance.process.start(self._bridge(instance))

    async def _bridge(self, instance: Instance) -> None:
        process, network, lines = instance.process, self.network, self.oracle.lines
        store = SimulatedStore(process, self.store, network)
        instance.status = {line.name: PipelineStatus(line.name, SOURCE, line.kind.name) for line in lines}
        instance.runner = SourceRunner(
            SourceSpec(
                name=SOURCE,
                source_id=SOURCE_ID,
                poll_interval_seconds=1.0,
                settle_seconds=self.settle_seconds,
                make_client=lambda check: SimulatedClient(process, self.source, network, check),
                pipelines=[self._spec(process, line) for line in lines],
            ),
            store=store,
            holder=Holder(process.name, "here", 1, None),
            lease_ttl_seconds=self.lease_ttl_seconds,
            clock=instance.clock,
            jitter=self.random.random,
            status=SourceStatus(SOURCE),
            pipeline_status=instance.status,
        )
        await instance.runner.run()

    def _spec(self, process: Process, line: Line) -> PipelineSpec:
        def sink() -> Sink:
            context = SinkContext(f"bridge.{line.name}", line.name, SOURCE, SOURCE_ID)
            return line.kind.make_sink(process, line.place, self.network, context)

        def letters() -> Sink:
            context = SinkContext(f"bridge.{line.name}.letters", f"{line.name}.letters", SOURCE, SOURCE_ID)
            return line.letters_kind.make_sink(process, line.letters, self.network, context)

        return PipelineSpec(
            name=line.name,
            source=SOURCE,
            source_id=SOURCE_ID,
            start=self.start,
            codec=Codec(source=SOURCE, format="cloudevents", filter=Filter(SOURCE, types=line.types)),
            traits=line.kind.traits,
            sink_kind=line.kind.name,
            make_sink=sink,
            make_dead_letters=letters,
            dead_letters_hold_position=line.letters_kind.traits.holds_position,
        )

    # A run ---------------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Raises Violation."""
        before, kept.new_nonce = kept.new_nonce, self._nonce
        try:
            self.loop.run(self._play())
        finally:
            kept.new_nonce = before
            self.loop.bury()

    def _nonce(self) -> str:
        return f"{self._nonces.getrandbits(64):016x}"

    async def _play(self) -> None:
        for instance in self.instances:
            self.loop.call_by_world(self.random.random() * 2, self.begin, instance)
        plan = Faults(self)
        plan.schedule()
        faulty_until = self.loop.now + plan.seconds
        clock = ProcessClock(self.loop)
        end = faulty_until + QUIET_SECONDS_MAX
        self._write(plan.seconds)
        while self.loop.now < faulty_until or not self._is_done():
            if self.loop.now >= end:
                raise Violation(f"not done {QUIET_SECONDS_MAX:g} s after the faults ended: {self._describe()}")
            await clock.sleep(STEP_SECONDS)
            self._check()
            self._revive()
        await clock.sleep(2.0)
        self._check()
        self.oracle.check_the_end()

    def _check(self) -> None:
        if self.oracle.violation is not None:
            raise self.oracle.violation
        if self.loop.failures:
            raise Violation(f"nobody awaited it: {self.loop.failures[0]}")

    def _revive(self) -> None:
        for instance in self.instances:
            if instance.process.is_dead:
                instance.process = Process(self.loop, instance.name)
                self.note(f"{instance.name} is started again")
                self.begin(instance)

    def _is_done(self) -> bool:
        return all(
            self.oracle.is_done(line) or ((line.tainted or line.stops) and self._is_said(line))
            for line in self.oracle.lines
        )

    def _is_said(self, line: Line) -> bool:
        """A person is asked for, by whoever holds the source."""
        return any(one.status[line.name].state == "stopped" for one in self.instances if line.name in one.status)

    def _describe(self) -> str:
        states = [
            f"{one.name}: {status.state} {status.error}" for one in self.instances for status in one.status.values()
        ]
        return "; ".join(states)
