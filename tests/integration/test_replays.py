"""Replays and pauses under a lease: beside the live pipeline, within the pace, and across crashes."""

from __future__ import annotations

from collections.abc import Callable

from oplogbridge import wishes
from oplogbridge.codec.encode import Codec
from oplogbridge.codec.subjects import Filter
from oplogbridge.sink import SinkContext
from oplogbridge.source.start import Start
from oplogbridge.spec import PipelineSpec
from oplogbridge.state.memory import MemoryStateStore
from oplogbridge.testing.memory import MemorySettings
from oplogbridge.testing.memory import plugin as memory_plugin
from oplogbridge.testing.memory_destination import MemoryDestination
from oplogbridge.wishes import Narrowing, Replay
from world import SOURCE, Instance, PipelineChoice, World, in_order_once, shortest_gap

LINE = "orders"


class Replaying(World):
    """A world whose pipeline can be replayed into another memory destination."""

    def __init__(self, **options: object) -> None:
        super().__init__(PipelineChoice(LINE), **options)  # type: ignore[arg-type]

    def start(self, **changes: object) -> Instance:
        instance = super().start(**changes)
        instance.make_replay = self._maker(instance)
        return instance

    def _maker(self, instance: Instance) -> Callable[[Replay], PipelineSpec]:
        def make(replay: Replay) -> PipelineSpec:
            settings = MemorySettings(name=f"{self.name}.again.{replay.name}")
            context = SinkContext(f"bridge.{replay.line}", LINE, SOURCE, self.source_id)
            return PipelineSpec(
                name=replay.line,
                source=SOURCE,
                source_id=self.source_id,
                start=Start("sequence", replay.from_offset),
                codec=Codec(source=SOURCE, format="cloudevents", filter=Filter(SOURCE)),
                traits=memory_plugin.traits(settings),
                sink_kind="memory",
                make_sink=lambda: instance.gated(memory_plugin.build(settings, context)),
                made_from=replay,
            )

        return make

    def again(self, name: str) -> list[int]:
        return MemoryDestination.named(f"{self.name}.again.{name}").sequences

    async def wish(self) -> MemoryStateStore:
        """A command's own store."""
        store = MemoryStateStore(self.clock, self.memory)
        await store.open()
        return store

    def state_of(self, name: str) -> str:
        return Replay.from_text(self.memory.notes[f"control.{SOURCE}"][f"replay:{name}"]).state


def a_replay(name: str, from_offset: int, to_offset: int, **narrowed: tuple[str, ...]) -> Replay:
    return Replay(name, LINE, from_offset, to_offset, narrowing=Narrowing(**narrowed))


async def test_a_range_is_delivered_once_more_beside_the_live_pipeline() -> None:
    async with Replaying() as world:
        written = world.source.append(40)
        one = world.start()
        await world.until(lambda: one.pipeline().caught_up)
        await wishes.add_replay(await world.wish(), SOURCE, a_replay("a", 10, 30))
        more = world.source.append(5)
        await world.until(lambda: world.state_of("a") == "done")

        assert world.again("a") == list(range(10, 30))
        await world.until(lambda: world.sequences == written + more)
        assert shortest_gap(world.source.poll_times) >= 1.0
        assert one.source_status.replays["a"].state == "finished"


async def test_only_what_was_asked_for_is_delivered_once_more() -> None:
    async with Replaying() as world:
        for number in range(12):
            world.source.append(type_="user" if number % 2 else "order")
        world.start()
        store = await world.wish()
        await wishes.add_replay(store, SOURCE, a_replay("users", 0, 13, types=("user",)))
        await wishes.add_replay(store, SOURCE, a_replay("one", 0, 13, ids=("1",), operations=("update",)))
        await wishes.add_replay(store, SOURCE, a_replay("none", 0, 13, operations=("delete",)))
        await world.until(lambda: all(world.state_of(name) == "done" for name in ("users", "one", "none")))

        assert world.again("users") == [2, 4, 6, 8, 10, 12]
        assert world.again("one") == [1, 4, 7, 10]
        assert world.again("none") == []


async def test_a_replay_goes_on_exactly_once_in_another_process() -> None:
    async with Replaying() as world:
        world.source.append(30)
        one = world.start()
        await wishes.add_replay(await world.wish(), SOURCE, a_replay("a", 1, 31))
        await world.until(lambda: len(world.again("a")) > 10)
        one.kill()
        two = world.start()
        await world.until(lambda: world.state_of("a") == "done")

        assert world.again("a") == list(range(1, 31))
        assert two.source_status.replays["a"].events_delivered < 30


async def test_a_crash_before_its_end_is_noted_ends_it_again_without_an_event_more() -> None:
    async with Replaying() as world:
        world.source.append(6)
        one = world.start()
        await wishes.add_replay(await world.wish(), SOURCE, a_replay("a", 1, 7))
        ending = one.gate.hold("store.note")
        await world.until(lambda: ending.is_reached)
        one.kill()
        assert world.state_of("a") == "wanted"
        world.start()
        await world.until(lambda: world.state_of("a") == "done")

        assert world.again("a") == list(range(1, 7))


async def test_a_replay_that_is_paused_rests_and_goes_on_where_it_was_and_a_cancelled_one_does_not() -> None:
    async with Replaying() as world:
        world.source.append(60)
        world.start()
        store = await world.wish()
        await wishes.add_replay(store, SOURCE, a_replay("a", 1, 61))
        await world.until(lambda: len(world.again("a")) >= 9)
        wanted = (await wishes.read(store, SOURCE)).replays["a"]
        assert await wishes.change_replay(store, SOURCE, wanted, "paused")
        await world.run(20)
        rested = len(world.again("a"))
        await world.run(60)
        assert len(world.again("a")) == rested < 60

        assert await wishes.change_replay(store, SOURCE, replace_state(wanted, "paused"), "wanted")
        await world.until(lambda: len(world.again("a")) > rested)
        assert await wishes.change_replay(store, SOURCE, wanted, "cancelled")
        await world.run(100)
        assert len(world.again("a")) < 60
        assert in_order_once(world.again("a"))


def replace_state(replay: Replay, state: str) -> Replay:
    return Replay.from_text(replay.to_text().replace('"wanted"', f'"{state}"'))


async def test_a_paused_pipeline_rests_across_restarts_can_be_moved_and_goes_on_when_resumed() -> None:
    async with Replaying() as world:
        written = world.source.append(10)
        one = world.start()
        await world.until(lambda: one.pipeline().caught_up)
        store = await world.wish()
        assert await wishes.pause(store, SOURCE, LINE, "me")
        assert not await wishes.pause(store, SOURCE, LINE, "me")
        await world.until(lambda: one.pipeline().state == "paused")
        world.source.append(5)
        await world.run(30)
        assert world.sequences == written
        one.kill()

        two = world.start()
        await world.until(lambda: two.pipeline().state == "paused")
        assert "sink.open" not in two.gate.calls
        assert two.runner is not None
        await two.runner.set_offset(LINE, 14)
        assert await wishes.resume(store, SOURCE, LINE)
        assert not await wishes.resume(store, SOURCE, LINE)
        await world.until(lambda: two.pipeline().caught_up)
        assert world.sequences == [*written, 14, 15]


async def test_while_the_store_is_away_nothing_begins_that_may_be_paused() -> None:
    async with Replaying() as world:
        world.source.append(3)
        await wishes.pause(await world.wish(), SOURCE, LINE, "me")
        one = world.start()
        one.gate.fail("store.notes", times=3)
        await world.until(lambda: one.pipeline().state == "paused")

        assert world.sequences == []


async def test_a_command_gives_way_to_an_instance_that_runs_pipelines() -> None:
    async with Replaying() as world:
        world.source.append(300)
        await wishes.add_replay(await world.wish(), SOURCE, a_replay("a", 1, 301))
        command = world.start(yields=True, until_caught_up=True)
        await world.until(lambda: len(world.again("a")) > 30)
        began_at = world.clock.monotonic()
        bridge = world.start()
        await world.until(lambda: bridge.source_status.lease_held)

        assert command.task is not None
        assert command.task.done()
        assert world.clock.monotonic() - began_at < 20
        await world.until(lambda: world.state_of("a") == "done")
        assert world.again("a") == list(range(1, 301))
        assert "wanted" not in world.memory.notes[f"control.{SOURCE}"]


async def test_a_command_ends_with_its_replay() -> None:
    async with Replaying() as world:
        world.source.append(30)
        await wishes.add_replay(await world.wish(), SOURCE, a_replay("a", 1, 31))
        command = world.start(yields=True, until_caught_up=True)
        await world.until(lambda: command.task is not None and command.task.done())

        assert world.again("a") == list(range(1, 31))
        assert world.state_of("a") == "done"
        assert world.sequences == []
