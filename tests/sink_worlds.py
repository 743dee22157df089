"""A `World` over a real destination.

    world = await make_world()           # over the fixture's `place`
    one = await world.delivered(3)       # an instance that has delivered three entries
    await world.kill(one)
    await world.place.forget_position()

Time is manual, and stands still while a sink is at work: however slow a server is, no lease runs out meanwhile. Calls
that a test holds at a gate are not at work.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from msgspec.structs import replace as replace_struct

from oplogbridge.offsets import move_offset
from oplogbridge.source.holding import held_source
from oplogbridge.state import Holder, Mark, Stored
from oplogbridge.testing.clock import ManualClock
from oplogbridge.values import Batch, Event, Position
from places import Place
from scripted import Gate, GatedStore
from world import SOURCE, Instance, PipelineChoice, World

T = TypeVar("T")
REAL_SECONDS_MAX = 60.0


class AtWork:
    """Counts the calls that are with the servers now."""

    def __init__(self) -> None:
        self.calls = 0  # begun, and ended
        self._now = 0
        self._idle = asyncio.Event()
        self._idle.set()

    async def count(self, call: Coroutine[Any, Any, T]) -> T:
        self.calls += 1
        self._now += 1
        self._idle.clear()
        try:
            return await call
        finally:
            self.calls += 1
            self._now -= 1
            if self._now == 0:
                self._idle.set()

    async def done(self) -> None:
        await self._idle.wait()


class CountedSink:
    def __init__(self, inner: Any, at_work: AtWork) -> None:
        self._inner = inner
        self._at_work = at_work

    @property
    def destination(self) -> str:
        return str(self._inner.destination)

    async def open(self) -> Position | None:
        return await self._at_work.count(self._inner.open())

    async def prepare(self, events: Sequence[Event]) -> object:
        return await self._at_work.count(self._inner.prepare(events))

    async def write(self, batch: Batch) -> Position | None:
        return await self._at_work.count(self._inner.write(batch))

    async def move(self, offset: int) -> Position | None:
        return await self._at_work.count(self._inner.move(offset))

    async def position(self) -> Position | None:
        return await self._at_work.count(self._inner.position())

    async def close(self) -> None:
        await self._at_work.count(self._inner.close())


class SinkWorld(World):
    """One pipeline into one `Place`."""

    def __init__(self, place: Place, choice: PipelineChoice, **changes: Any) -> None:
        self.place = place
        self._at_work = AtWork()
        counted = replace(place.plugin, build=lambda *told: CountedSink(place.plugin.build(*told), self._at_work))
        settings = choice.settings or place.settings
        super().__init__(replace(choice, name=place.pipeline, plugin=counted, settings=settings), **changes)

    def at_text(self, pipeline: str | None = None) -> str:
        return self.place.sink().destination

    def stored(self, pipeline: str | None = None) -> Stored | None:
        """Without the proof, which is the destination's own business."""
        stored = super().stored(pipeline)
        if stored is None or stored.mark is None:
            return stored
        return replace_struct(stored, mark=Mark(stored.mark.offset))

    def saved(self, offset: int, mark: int) -> Stored:
        """What the store is to hold."""
        return Stored(offset, Mark(mark), self.source_id, self.at_text())

    async def until(self, condition: Callable[[], bool], *, seconds_max: float = 900.0, step: float = 0.1) -> None:
        assert isinstance(self.clock, ManualClock)
        end = self.clock.monotonic() + seconds_max
        async with asyncio.timeout(REAL_SECONDS_MAX):
            await self._settle()
            while not condition():
                assert self.clock.monotonic() < end, f"not within {seconds_max} seconds: {self.describe()}"
                await self.clock.run(step)
                await self._settle()

    async def run(self, seconds: float) -> None:
        end = self.clock.monotonic() + seconds
        await self.until(lambda: self.clock.monotonic() >= end, step=0.5)

    async def _settle(self) -> None:
        """Let everything go on as far as it can at this instant."""
        assert isinstance(self.clock, ManualClock)
        calls = -1
        while calls != self._at_work.calls:  # until a turn in which nobody came back and nobody went
            calls = self._at_work.calls
            await self.clock.run(0.0)
            await self._at_work.done()

    async def delivered(self, entries: int, one: Instance | None = None) -> Instance:
        """Append entries, and wait until the instance (or a new one) has delivered and saved them."""
        self.source.append(entries)
        one = one or self.start()
        await self.until_saved(one, self.source.sequences[-1] + 1)
        return one

    async def until_saved(self, one: Instance, offset: int) -> None:
        await self.until(lambda: one.status != {} and one.pipeline().offset == offset)

    async def until_stopped(self, one: Instance) -> str:
        """Wait until it stopped; what it says."""
        await self.until(lambda: one.status != {} and one.pipeline().state == "stopped")
        return one.pipeline().error or ""

    async def drain(self, one: Instance) -> None:
        one.stop()
        await one.ended()

    async def kill(self, one: Instance) -> None:
        """As `kill -9`: what it had open the operating system closes."""
        one.kill()
        await one.ended()
        for sink in one.sinks:
            await sink._inner.close()

    async def close(self) -> None:
        for one in self.instances:
            await self.kill(one)
        await super().close()


MakeWorld = Callable[..., Awaitable[SinkWorld]]  # (PipelineChoice, **changes of World): of the fixture's place


async def offsets_set(world: SinkWorld, gate: Gate, offset: int) -> None:
    """What the command does: it takes the lease when nobody has it, moves the destination, then saves."""
    command = Instance(world, "offsets set", gate=gate)
    store: Any = GatedStore(world._make_store(), gate)
    await store.open()
    async with held_source(
        name=SOURCE,
        make_client=lambda _check: command._client(),
        poll_interval_seconds=world.poll_interval_seconds,
        store=store,
        holder=Holder("offsets set", "here", 1, None),
        lease_ttl_seconds=world.lease_ttl_seconds,
        clock=world.clock,
        jitter=world.jitter,
    ) as held:
        assert held is not None, "somebody holds the lease"
        await move_offset(command._spec(world.pipelines[0]), offset=offset, store=store, lease=held.lease)
