"""The schedules 6 to 10 over every real destination: see test_schedules_per_sink.py."""

from __future__ import annotations

import pytest

from oplogbridge.source.start import Start
from places import Place
from sink_worlds import MakeWorld
from world import PipelineChoice, shortest_gap

LATEST = PipelineChoice(start=Start("latest"))


# 6: ahead of the mark, and then idle -------------------------------------------------------------------------------


@pytest.mark.needs_bare_offset
async def test_6_after_a_crash_behind_a_write_an_idle_source_leaves_the_store_true(
    make_world: MakeWorld, place: Place
) -> None:
    world = await make_world()
    world.source.append(3)
    one = world.start()
    saving = one.gate.hold("store.save", skip=1)  # the first save is that of the start
    await world.until(lambda: saving.is_reached)
    await world.kill(one)
    assert (await place.offset(), world.stored()) == (4, world.saved(0, mark=0))

    two = world.start()
    polling = two.gate.hold("client.poll")
    await world.until(lambda: polling.is_reached)

    assert world.stored() == world.saved(4, mark=4)
    assert await place.sequences() == [1, 2, 3]


# 7: idle, and somebody loses something -----------------------------------------------------------------------------


async def test_7_what_the_destination_loses_while_the_line_is_idle_is_noticed_and_delivered_again(
    make_world: MakeWorld, place: Place
) -> None:
    world = await make_world()
    one = await world.delivered(3)
    await place.remember()
    await world.delivered(3, one)
    await place.lose_writes()
    opened = one.gate.calls.count("sink.open")

    await world.until(lambda: one.gate.calls.count("sink.open") > opened, seconds_max=60)
    await world.until_saved(one, 7)

    assert one.pipeline().rewinds == 1
    again = [1, 2, 3, 4, 5, 6] if place.log_goes_back else [1, 2, 3, 4, 5, 6, 4, 5, 6]
    assert await place.sequences() == again


async def test_7_what_the_store_loses_while_the_line_is_idle_is_noticed_and_mended(
    make_world: MakeWorld, place: Place
) -> None:
    world = await make_world()
    one = await world.delivered(3)
    before = dict(world.memory.offsets)
    await world.delivered(3, one)
    world.memory.offsets = before  # a fail-over to a replica that lagged
    opened = one.gate.calls.count("sink.open")

    await world.until(lambda: one.gate.calls.count("sink.open") > opened, seconds_max=15)
    await world.until(lambda: world.stored() == world.saved(7, mark=7))

    assert await place.sequences() == [1, 2, 3, 4, 5, 6]
    assert one.pipeline().rewinds == 0


# 8: a live holder that finds nothing stored ------------------------------------------------------------------------


async def test_8_a_live_holder_that_finds_nothing_stored_resolves_nothing_anew(
    make_world: MakeWorld, place: Place
) -> None:
    world = await make_world(LATEST)
    world.source.append(3)
    one = world.start()
    await world.until_saved(one, 4)
    world.memory.offsets.clear()  # the lease is still there
    one.gate.fail("sink.write")
    await world.delivered(2, one)

    assert await place.sequences() == [4, 5]
    assert world.source.tails == 1


@pytest.mark.needs_bare_offset
async def test_8_nor_does_it_believe_that_there_never_was_a_position_when_the_destination_lost_it_too(
    make_world: MakeWorld, place: Place
) -> None:
    world = await make_world(LATEST)
    world.source.append(3)
    one = world.start()
    await world.until_saved(one, 4)
    await place.forget_everything()
    world.memory.offsets.clear()

    said = await world.until_stopped(one)
    world.source.append(2)
    await world.until(lambda: one.pipeline().retries >= 2 and "position is gone" in (one.pipeline().error or ""))

    assert "offsets set" in said
    assert world.memory.offsets == {}  # "latest" was not resolved anew
    assert await place.sequences() == []


# 10: taken away while open -----------------------------------------------------------------------------------------


async def test_10_a_destination_that_is_deleted_under_an_open_sink_is_not_written_to(
    make_world: MakeWorld, place: Place
) -> None:
    world = await make_world()
    one = await world.delivered(3)
    await place.forget_everything()
    world.source.append(3)

    said = await world.until_stopped(one)
    await world.until(lambda: "position is gone" in (one.pipeline().error or ""))  # what its next openings find

    assert "offsets set" in said
    assert await place.sequences() == []
    assert world.stored() == world.saved(4, mark=4)
    assert shortest_gap(world.source.poll_times) >= world.poll_interval_seconds
