"""A whole world in one process: a source, a state store, a destination, and any number of bridge instances over them.

    world = World()
    world.source.append(3)
    one = world.start()
    await world.until(lambda: world.sequences == world.source.sequences)
    one.kill()                               # as `kill -9`: nothing of it reaches anybody any more
    two = world.start()

Time is a `ManualClock`: `until` and `run` move it. With real servers pass `clock=SystemClock()` and wait on signals
with `eventually`. All that may vary is handed in: the plug-in and the settings of the sink, the pipelines, the
client of the source.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel

from oplogbridge.attachments.spec import AttachmentsSpec
from oplogbridge.clock import Clock
from oplogbridge.codec.encode import Codec
from oplogbridge.codec.subjects import Filter
from oplogbridge.errors import Fenced
from oplogbridge.sink import Sink, SinkContext, SinkPlugin
from oplogbridge.source.reader import ClosableClient
from oplogbridge.source.start import Start
from oplogbridge.spec import PipelineSpec, SourceSpec
from oplogbridge.state import Holder, StateStore, Stored
from oplogbridge.state.memory import Memory, MemoryStateStore
from oplogbridge.status import PipelineStatus, SourceStatus
from oplogbridge.supervisor import SourceRunner
from oplogbridge.testing.clock import ManualClock
from oplogbridge.testing.memory import MemorySettings
from oplogbridge.testing.memory import plugin as memory_plugin
from oplogbridge.testing.memory_destination import MemoryDestination
from oplogbridge.wishes import Interlude, Replay, source_during
from scripted import Gate, GatedClient, GatedSink, GatedStore, ScriptedSource

SOURCE = "shop"
SOURCE_ID = "https://run.example.com/api/v4/533bda53027894f69b001055"
EARLIEST = Start("earliest")
_numbers = itertools.count(1)


@dataclass(frozen=True)
class PipelineChoice:
    """One pipeline of the world. `sink` is a plug-in with its settings; by default the memory sink."""

    name: str = "orders"
    start: Start = EARLIEST
    types: frozenset[str] = frozenset()
    plugin: SinkPlugin = memory_plugin
    settings: BaseModel | None = None
    letters: BaseModel | None = None  # settings of the dead letters' memory sink; None: on_rejected: stop
    format: Any = "cloudevents"
    attachments: AttachmentsSpec | None = None
    datamodel_events: bool = False
    on_late: Any = "deliver"


class World:
    def __init__(
        self,
        *pipelines: PipelineChoice,
        clock: Clock | None = None,
        make_client: Callable[[], ClosableClient] | None = None,
        memory: Memory | None = None,
        make_store: Callable[[], StateStore] | None = None,
        poll_interval_seconds: float = 1.0,
        settle_seconds: float = 0.0,
        lease_ttl_seconds: float = 10.0,
        source_id: str = SOURCE_ID,
        jitter: Callable[[], float] = lambda: 0.5,
        page_limit: int = 3,
    ) -> None:
        self.clock = ManualClock() if clock is None else clock
        self.source = ScriptedSource(self.clock, page_limit=page_limit)
        self.memory = Memory() if memory is None else memory
        self.pipelines = pipelines or (PipelineChoice(),)
        self.name = f"world-{next(_numbers)}"  # of the memory destination, so that no two tests meet
        self.poll_interval_seconds = poll_interval_seconds
        self.settle_seconds = settle_seconds
        self.lease_ttl_seconds = lease_ttl_seconds
        self.source_id = source_id
        self.instances: list[Instance] = []
        self._make_client = make_client or self.source.client
        self._make_store = make_store or (lambda: MemoryStateStore(self.clock, self.memory))
        self.jitter = jitter

    # What is there --------------------------------------------------------------------------------------------------

    def at(self, pipeline: str | None = None, letters: str = "") -> MemoryDestination:
        return MemoryDestination.named(f"{self.name}.{pipeline or self.pipelines[0].name}{letters}")

    def letters(self, pipeline: str | None = None) -> MemoryDestination:
        return self.at(pipeline, ".dead-letters")

    def at_text(self, pipeline: str | None = None) -> str:
        """How positions and stored offsets name the memory destination."""
        return f"memory:{self.at(pipeline).name}"

    @property
    def sequences(self) -> list[int]:
        """What the destination of the first pipeline holds."""
        return self.at().sequences

    def stored(self, pipeline: str | None = None) -> Stored | None:
        text = self.memory.offsets.get(pipeline or self.pipelines[0].name)
        return None if text is None else Stored.from_text(text)

    # What happens ---------------------------------------------------------------------------------------------------

    def start(self, **changes: Any) -> Instance:
        """A further instance of the bridge, running."""
        instance = Instance(self, f"instance-{len(self.instances) + 1}", **changes)
        self.instances.append(instance)
        instance.task = asyncio.create_task(instance.run())
        return instance

    async def run(self, seconds: float) -> None:
        """Let so much manual time pass."""
        assert isinstance(self.clock, ManualClock)
        await self.clock.run(seconds)

    async def until(self, condition: Callable[[], bool], *, seconds_max: float = 900.0, step: float = 0.1) -> None:
        """Let manual time pass until `condition` holds."""
        assert isinstance(self.clock, ManualClock)
        end = self.clock.monotonic() + seconds_max
        await self.clock.run(0.0)
        while not condition():
            assert self.clock.monotonic() < end, f"it did not happen within {seconds_max} seconds: {self.describe()}"
            await self.clock.run(step)

    async def eventually(self, condition: Callable[[], bool], *, seconds_max: float = 20.0) -> None:
        """With real time: look again each time the loop comes round. The bound is real, too."""
        async with asyncio.timeout(seconds_max):
            while not condition():
                await asyncio.sleep(0)

    def describe(self) -> str:
        lines = [f"now {self.clock.monotonic()}", f"polls {self.source.polls[-5:]}", f"log {self.at().sequences[-20:]}"]
        for one in self.instances:
            lines += [f"{one.name}: {one.source_status}", *(f"  {status}" for status in one.status.values())]
        return "\n".join(lines)

    async def close(self) -> None:
        """End every instance and see that nothing is left behind."""
        for instance in self.instances:
            instance.kill()
        await asyncio.gather(*(one.task for one in self.instances if one.task is not None), return_exceptions=True)
        for name in [name for name in MemoryDestination._all if name.startswith(f"{self.name}.")]:
            MemoryDestination.forget(name)

    async def __aenter__(self) -> World:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


@dataclass
class Instance:
    """One bridge process. All that it has of the outer world goes through one gate."""

    world: World
    name: str
    until_caught_up: bool = False
    reclaims: bool = False
    yields: bool = False  # a command that carries out a replay, and nothing else
    make_replay: Callable[[Replay], PipelineSpec] | None = None
    instance: str | None = None
    gate: Gate = field(default_factory=Gate)
    source_status: SourceStatus = field(default_factory=lambda: SourceStatus(SOURCE))
    status: dict[str, PipelineStatus] = field(default_factory=dict)
    runner: SourceRunner | None = None
    task: asyncio.Task[None] | None = None
    sinks: list[GatedSink] = field(default_factory=list)
    clients: list[GatedClient] = field(default_factory=list)
    store: GatedStore | None = None

    async def run(self) -> None:
        world = self.world
        self.store = GatedStore(world._make_store(), self.gate)
        await self.store.open()
        self.status = {p.name: PipelineStatus(p.name, SOURCE, "memory") for p in world.pipelines}
        self.runner = SourceRunner(
            SourceSpec(
                name=SOURCE,
                source_id=world.source_id,
                poll_interval_seconds=world.poll_interval_seconds,
                settle_seconds=world.settle_seconds,
                make_client=lambda _check: self._client(),
                pipelines=[] if self.yields else [self._spec(choice) for choice in world.pipelines],
                make_replay=self.make_replay,
                make_interlude=self._interlude,
            ),
            store=self.store,
            holder=Holder(self.instance or self.name, "here", 1, None, reclaims=self.reclaims, yields=self.yields),
            lease_ttl_seconds=world.lease_ttl_seconds,
            clock=world.clock,
            jitter=world.jitter,
            status=self.source_status,
            pipeline_status=self.status,
            until_caught_up=self.until_caught_up,
        )
        await self.runner.run()

    def stop(self) -> None:
        """SIGTERM."""
        assert self.runner is not None, "it has not begun"
        self.runner.stop()

    def kill(self) -> None:
        """As `kill -9`: from now on nothing that it does reaches anybody, not even a release or a close."""
        self.gate.dead = True
        if self.task is not None:
            self.task.cancel()

    async def ended(self) -> None:
        """Wait for the end without letting time pass."""
        assert self.task is not None
        await asyncio.wait([self.task])

    def pipeline(self, name: str | None = None) -> PipelineStatus:
        return self.status[name or self.world.pipelines[0].name]

    @property
    def open_sinks(self) -> int:
        return sum(sink.open_now for sink in self.sinks)

    def _client(self) -> GatedClient:
        client = GatedClient(self.world._make_client(), self.gate)
        self.clients.append(client)
        return client

    def gated(self, sink: Sink) -> GatedSink:
        self.sinks.append(GatedSink(sink, self.gate))
        return self.sinks[-1]

    def _interlude(self, wanted: Interlude) -> PipelineSpec:
        choice = next(one for one in self.world.pipelines if one.name == wanted.pipeline)
        return self._spec(choice, source_during(wanted, self.world.source_id))

    def _spec(self, choice: PipelineChoice, source_id: str | None = None) -> PipelineSpec:
        source_id = source_id or self.world.source_id
        settings = choice.settings
        if settings is None:
            settings = MemorySettings(name=f"{self.world.name}.{choice.name}")
        elif isinstance(settings, MemorySettings) and settings.name == "{source}":
            settings = settings.model_copy(update={"name": f"{self.world.name}.{choice.name}"})

        def make(plugin: SinkPlugin, chosen: BaseModel, suffix: str) -> Callable[[], Sink]:
            def build() -> Sink:
                context = SinkContext(f"bridge.{choice.name}{suffix}", choice.name, SOURCE, source_id)
                return self.gated(plugin.build(chosen, context))

            return build

        letters, letters_hold_position = None, True
        if choice.letters is not None:
            chosen = choice.letters
            if isinstance(chosen, MemorySettings) and chosen.name == "{source}":
                chosen = chosen.model_copy(update={"name": f"{self.world.name}.{choice.name}.dead-letters"})
            letters = make(memory_plugin, chosen, ".dead-letters")
            letters_hold_position = memory_plugin.traits(chosen).holds_position
        return PipelineSpec(
            name=choice.name,
            source=SOURCE,
            source_id=source_id,
            start=choice.start,
            codec=Codec(source=SOURCE, format=choice.format, filter=Filter(SOURCE, types=choice.types)),
            traits=choice.plugin.traits(settings),
            sink_kind=choice.plugin.kind,
            make_sink=make(choice.plugin, settings, ""),
            make_dead_letters=letters,
            dead_letters_hold_position=letters_hold_position,
            attachments=choice.attachments,
            datamodel_events=choice.datamodel_events,
            on_late=choice.on_late,
        )


def in_order_once(sequences: Sequence[int]) -> bool:
    return all(one < other for one, other in itertools.pairwise(sequences))


def shortest_gap(times: Iterable[float]) -> float:
    return min((later - earlier for earlier, later in itertools.pairwise(times)), default=float("inf"))


__all__ = ["EARLIEST", "SOURCE", "SOURCE_ID", "Fenced", "Instance", "PipelineChoice", "World", "in_order_once"]
