"""Whatever is written while a snapshot is taken and handed over, and wherever it is killed: the consumer ends up with
what the source has, and every event stands in the destination once."""

from __future__ import annotations

import itertools
import os
import random

import orjson
import pytest

from objects_world import ObjectsWorld
from oplogbridge import wishes
from oplogbridge.source.start import Start
from oplogbridge.state.memory import MemoryStateStore
from oplogbridge.testing.memory import MemorySettings
from oplogbridge.wishes import Interlude
from world import SOURCE, PipelineChoice, shortest_gap

RUNS = int(os.environ.get("SNAPSHOT_RUNS", "500"))
PER_TEST = 50
GATES = (
    "sink.write",
    "sink.write",
    "sink.move",
    "sink.open",
    "store.save",
    "store.note",
    "store.notes",
    "store.load",
    "client.ask",
)


@pytest.mark.parametrize("first", range(0, RUNS, PER_TEST))
async def test_the_consumer_ends_up_with_what_the_source_has(first: int) -> None:
    for seed in range(first, first + PER_TEST):
        print(f"seed {seed}")
        await run(seed)


async def run(seed: int) -> None:
    chance = random.Random(f"snapshot {seed}")
    begins_so = chance.random() < 0.5  # else a pipeline that has delivered already
    start = Start("snapshot") if begins_so else Start("earliest")
    # Small writes, so that a page is delivered in part.
    settings = MemorySettings(events_max=chance.choice((1, 2, 3, 1000)), goes_back=chance.random() < 0.5)
    pipeline = PipelineChoice(start=start, settings=settings)
    async with ObjectsWorld(pipeline, seed=seed, page_limit=chance.choice((3, 50))) as world:
        world.objects_max = chance.choice((1, 3, 7, 1000))
        world.write(chance.randrange(100))
        one = world.start()
        if not begins_so:
            await world.until(lambda: one.pipeline().caught_up)
            world.write(chance.randrange(5))
            store = MemoryStateStore(world.clock, world.memory)
            await store.open()
            await wishes.add_interlude(store, SOURCE, Interlude("snapshot", "orders", at_unix_seconds=1.0))
        writes = chance.randrange(1, 50)
        kills = chance.randrange(8)
        armed = False
        for _ in range(writes):
            if chance.random() < 0.1:  # an answer is lost
                one.gate.fail(chance.choice(("store.note", "store.save", "sink.write", "sink.move")), "after")
            await world.run(chance.random() * 2)
            world.write(chance.randrange(4))
            if kills and not armed and chance.random() < 0.7:
                armed = True
                hold = one.gate.hold(chance.choice(GATES), chance.choice(("before", "after")))
            if armed and hold.is_reached:
                kills, armed = kills - 1, False
                one.kill()
                one = world.start()
        if armed:
            one.kill()
            one = world.start()
        await world.until(
            lambda: phase(world) == "done" and one.pipeline().caught_up and world.consumed() == world.there
        )

        check_the_log(world)


def phase(world: ObjectsWorld) -> str | None:
    text = world.memory.notes.get(f"control.{SOURCE}", {}).get("interlude:orders")
    return None if text is None else Interlude.from_text(text).phase


def check_the_log(world: ObjectsWorld) -> None:
    places = []
    for event in world.at().log:
        attributes = orjson.loads(event.payload)
        sequence = int(attributes["sequence"])
        number = 0 if event.place is None else int(event.place.partition("-")[2])
        assert attributes["id"] == event.id
        assert event.place in (None, event.id)
        assert attributes["data"]["operation"] == "snapshot" or event.place is None
        places.append((sequence, number))
    assert all(one < other for one, other in itertools.pairwise(places)), "each once, and in the order of its place"
    assert shortest_gap(world.asked) >= 1.0 - 1e-9  # of floats
    assert world.memory.notes.get("snapshot.orders", {}) == {}
