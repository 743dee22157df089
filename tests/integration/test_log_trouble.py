"""What the source does to its own log, noticed while the bridge runs: late commits, a log put back, a log cut."""

from __future__ import annotations

import itertools
import json
import random

import msgspec
import pytest

from oplogbridge import wishes
from oplogbridge.admin.health import not_ready
from oplogbridge.log_watch import ENDS_EVERY, LOOK_SECONDS, what_is_wrong
from oplogbridge.source.late import ENTRIES_MAX, Recent
from oplogbridge.state.memory import MemoryStateStore
from oplogbridge.status import BridgeStatus
from oplogbridge.testing.memory import MemorySettings
from oplogbridge.values import Entry, Page
from oplogbridge.wishes import Interlude
from world import SOURCE, PipelineChoice, World, shortest_gap

LETTERS = MemorySettings(name="{source}")


async def with_a_late_one(world: World) -> None:
    """1, 3, 5 and 7 are delivered, then 4 and 6 are committed."""
    one = world.start()
    for sequence in (1, 3, 5, 7):
        world.source.put(sequence)
    await world.until(lambda: one.pipeline().caught_up and len(world.sequences) == 4)
    world.source.put(4)
    world.source.put(6)


async def test_late_entries_are_found_and_told_behind_what_has_gone_before() -> None:
    async with World() as world:
        await with_a_late_one(world)
        await world.until(lambda: len(world.at().log) == 6)
        world.source.put(9)
        await world.until(lambda: len(world.at().log) == 7)

        log = world.at().log
        assert [event.id for event in log] == ["1", "3", "5", "7", "4", "6", "9"]
        assert [event.place for event in log] == [None, None, None, None, "7-1", "7-2", None]
        attributes = json.loads(log[4].payload)
        assert (attributes["id"], attributes["data"]["sequence"]) == ("4", "4")
        assert world.instances[0].source_status.entries_late == 2
        assert shortest_gap(world.source.poll_times) >= 1.0
        assert (await stored(world)) is not None


async def stored(world: World) -> int | None:
    kept = world.stored()
    return None if kept is None else kept.offset


async def test_on_late_stop_pauses_and_says_which() -> None:
    async with World(PipelineChoice(on_late="stop")) as world:
        await with_a_late_one(world)
        one = world.instances[0]
        await world.until(lambda: one.pipeline().state == "paused")

        assert one.pipeline().error == "paused by sequence 4 was committed late (on_late: stop)"
        assert [event.id for event in world.at().log] == ["1", "3", "5", "7"]
        store = MemoryStateStore(world.clock, world.memory)
        await store.open()
        assert await wishes.resume(store, SOURCE, "orders")
        world.source.put(9)
        await world.until(lambda: len(world.at().log) == 5)


async def test_on_late_dead_letter_keeps_them_apart() -> None:
    async with World(PipelineChoice(on_late="dead_letter", letters=LETTERS)) as world:
        await with_a_late_one(world)
        await world.until(lambda: len(world.letters().log) == 2)
        world.source.put(9)
        await world.until(lambda: len(world.at().log) == 5)

        letters = [json.loads(event.payload) for event in world.letters().log]
        assert [one["data"]["sequence"] for one in letters] == ["4", "6"]
        assert {one["data"]["reason"] for one in letters} == {"it was committed late, behind higher sequences"}
        assert [event.id for event in world.at().log] == ["1", "3", "5", "7", "9"]


@pytest.mark.parametrize("seed", range(20))
async def test_killed_anywhere_each_late_entry_that_was_found_is_told_once(seed: int) -> None:
    chance = random.Random(f"late {seed}")
    settings = MemorySettings(events_max=1, goes_back=seed % 2 == 0)
    async with World(PipelineChoice(settings=settings), page_limit=10) as world:
        world.source.put(1)
        one = world.start()
        for turn in range(4):
            base = world.source.sequences[-1] + 10
            for sequence in (base, base + 5):
                world.source.put(sequence)
            await world.until(lambda: told(world) and world.instances[-1].pipeline().caught_up)
            await world.run(2)
            world.source.put(base + 1 + turn)
            await world.until(lambda: told(world) or noted(world))
            names = ("sink.write", "sink.move", "sink.open", "store.save", "store.note", "client.poll")
            hold = one.gate.hold(chance.choice(names), chance.choice(("before", "after")), skip=chance.randrange(3))
            if chance.random() < 0.5:  # an answer is lost
                one.gate.fail(chance.choice(("store.note", "store.save", "sink.move")), "after")
            await world.run(chance.random() * 10)
            if hold.is_reached or chance.random() < 0.3:
                one.kill()
                one = world.start()
            one.gate.holds.clear()
            await world.until(lambda: told(world))

        ids = [event.id for event in world.at().log]
        assert len(ids) == len(set(ids)), "once"
        assert set(ids) == {str(sequence) for sequence in world.source.sequences}
        places = [(int((event.place or event.id).split("-")[0]), event.place is not None) for event in world.at().log]
        assert all(one_ <= other for one_, other in itertools.pairwise(places))


def noted(world: World) -> bool:
    text = world.memory.notes.get(f"control.{SOURCE}", {}).get("interlude:orders")
    return text is not None and Interlude.from_text(text).phase != "done"


def told(world: World) -> bool:
    return {event.id for event in world.at().log} == {str(sequence) for sequence in world.source.sequences}


async def test_a_log_that_was_put_back_is_told_until_it_has_grown_beyond_the_offset() -> None:
    async with World() as world:
        world.source.append(20)
        one = world.start()
        await world.until(lambda: one.pipeline().caught_up)
        del world.source._entries[10:]
        await world.until(lambda: one.pipeline().log_trouble is not None)
        status = BridgeStatus(pipelines=one.status)

        trouble = one.pipeline().log_trouble or ""
        assert "newest entry is 10, the offset is 21" in trouble
        assert "offsets reset orders" in trouble
        assert not_ready(status, world.clock.monotonic()) == {"orders": trouble}
        world.source.append(15)
        await world.until(lambda: one.pipeline().log_trouble is None)
        assert not_ready(status, world.clock.monotonic()) == {}


async def test_a_log_that_was_cut_beyond_the_offset_while_nobody_read_is_told() -> None:
    async with World() as world:
        world.source.append(20)
        one = world.start()
        await world.until(lambda: one.pipeline().caught_up)
        one.stop()
        await one.ended()
        world.source.append(20)
        del world.source._entries[:30]
        two = world.start()
        await world.until(lambda: two.pipeline().log_trouble is not None)

        assert "begins at 31, the offset was 21" in (two.pipeline().log_trouble or "")


def test_what_is_wrong_is_said_only_where_something_is() -> None:
    assert what_is_wrong("p", 101, 50, 1, 100) is None
    assert what_is_wrong("p", 101, 50, 50, 100) is None
    assert what_is_wrong("p", 101, 0, 50, 100) is None, "it began at the beginning"
    assert what_is_wrong("p", 101, None, 50, None) is None
    assert "put back" in (what_is_wrong("p", 102, 50, 1, 100) or "")
    assert "was between" in (what_is_wrong("p", 101, 49, 50, 100) or "")


def page(*sequences: int, begin: int = 0, more: bool = False) -> Page:
    nothing = msgspec.UNSET
    body = msgspec.Raw(b"{}")
    entries = [
        Entry(one, str(one), "update", body, "user", "1", None, nothing, nothing, None, None) for one in sequences
    ]
    return Page(begin, max(begin, *sequences, 0) + bool(sequences), entries, (), more, None, 0)


def test_a_second_look_is_compared_with_what_was_seen_and_with_nothing_else() -> None:
    recent = Recent()
    assert recent.begin is None
    recent.note(page(10, 20), 0.0)
    recent.note(page(30), 1.0)

    assert recent.begin == 10
    assert recent.late(page(5, 10, 15, 20, 25, 30, 40)) == [15, 25]
    assert recent.late(page(10, 15, 20, 25, 30)) == [], "told once"


def test_while_the_bridge_is_behind_nothing_is_remembered_and_what_is_old_is_forgotten() -> None:
    recent = Recent()
    recent.note(page(10, 20), 0.0)
    recent.note(page(30, 40, more=True), 1.0)
    assert recent.begin == 30
    recent.note(page(50, 60), 2.0)
    recent.note(page(70), 200.0)
    assert recent.begin is None, "one alone has no lower neighbour"
    recent.note(page(*range(100, 100 + 3 * ENTRIES_MAX)), 101.0)
    assert recent.begin == 100 + 2 * ENTRIES_MAX


def test_a_pipeline_that_is_behind_makes_nothing_late_of_what_lies_between() -> None:
    recent = Recent()
    recent.note(page(100, 110, begin=90), 0.0)
    recent.note(page(10, 20, begin=5, more=True), 1.0)
    recent.note(page(30, begin=21), 2.0)

    assert recent.begin == 100
    assert recent.late(page(100, 105, 110, 120)) == [105]


def test_what_was_forgotten_is_not_taken_for_late_because_a_late_one_below_it_is_remembered() -> None:
    recent = Recent()
    recent.note(page(11, 16), 0.0)
    assert recent.late(page(11, 12, 16)) == [12]
    recent.note(page(26, 31), 100.0)  # the first two are forgotten, the late one is not
    recent.note(page(begin=32), 130.0)

    assert recent.begin == 26
    assert recent.late(page(11, 12, 16, 26, 28, 31)) == [28]


def test_the_watch_takes_little_of_the_pace() -> None:
    assert LOOK_SECONDS == 30.0
    assert ENDS_EVERY == 20
