"""Choosing the offset, row by row of the design's table, by the whole pipeline over each real destination that keeps a
position: a file, a Redis, a Kafka. (Without a position there is one row: webhooks and stdout take the stored offset.)

*No position yet, and stored without a mark* is a row that none of these three comes into by itself: they put the
position there before anything is stored. It is tested as what it is, an offset that somebody else left in the store.
"""

from __future__ import annotations

import pytest

from oplogbridge.source.start import Start
from oplogbridge.state import Stored
from places import Place
from sink_worlds import MakeWorld
from world import SOURCE_ID, PipelineChoice

USERS_ONLY = PipelineChoice(types=frozenset({"user"}))
ELSEWHERE = "https://run.example.com/api/v4/somewhere-else"


# The position is the mark ------------------------------------------------------------------------------------------


async def test_behind_the_position_only_filtered_entries_so_it_goes_on_from_the_stored_offset(
    make_world: MakeWorld, place: Place
) -> None:
    world = await make_world(USERS_ONLY)
    one = await world.delivered(3)
    world.source.append(3, type_="order")
    await world.until_saved(one, 7)
    assert world.stored() == world.saved(7, mark=4)
    await world.drain(one)

    polled = len(world.source.polls)
    two = await world.delivered(1)

    assert min(world.source.poll_offsets[polled:]) == 7
    assert await place.sequences() == [1, 2, 3, 7]
    assert two.pipeline().rewinds == 0


async def test_an_offset_that_was_stored_without_a_mark_counts_while_there_is_no_position_yet(
    make_world: MakeWorld, place: Place
) -> None:
    world = await make_world()
    world.memory.offsets[place.pipeline] = Stored(3, None, SOURCE_ID, world.at_text()).to_text()

    one = await world.delivered(4)

    assert await place.sequences() == [3, 4]
    assert one.gate.calls.index("sink.move") < one.gate.calls.index("store.save")  # the position is there from now on
    assert world.stored() == world.saved(5, mark=5)


# The position is ahead of the mark ---------------------------------------------------------------------------------


async def test_a_save_that_failed_after_a_durable_write_so_it_goes_on_from_the_position_and_nothing_comes_twice(
    make_world: MakeWorld, place: Place
) -> None:
    world = await make_world()
    one = await world.delivered(3)
    one.gate.fail("store.save")

    await world.delivered(3, one)

    assert one.gate.calls.count("sink.open") == 2
    assert await place.sequences() == [1, 2, 3, 4, 5, 6]
    assert world.stored() == world.saved(7, mark=7)


async def test_a_crash_between_write_and_save_so_the_position_is_saved_before_the_first_poll(
    make_world: MakeWorld, place: Place
) -> None:
    world = await make_world()
    one = await world.delivered(3)
    world.source.append(3)
    saving = one.gate.hold("store.save")
    await world.until(lambda: saving.is_reached)
    await world.kill(one)
    assert await place.offset() == 7
    assert world.stored() == world.saved(4, mark=4)

    two = world.start()
    polling = two.gate.hold("client.poll")
    await world.until(lambda: polling.is_reached)
    assert world.stored() == world.saved(7, mark=7)  # an idle source would leave it untrue (schedule 6)
    polling.release()
    await world.delivered(1, two)

    assert await place.sequences() == [1, 2, 3, 4, 5, 6, 7]


# The position is behind the mark -----------------------------------------------------------------------------------


async def test_a_destination_that_lost_acknowledged_writes_gets_them_again_and_that_is_counted(
    make_world: MakeWorld, place: Place
) -> None:
    world = await make_world()
    one = await world.delivered(3)
    await place.remember()
    await world.delivered(3, one)
    await world.drain(one)
    await place.lose_writes()
    assert await place.offset() == 4

    two = await world.delivered(1)

    assert two.pipeline().rewinds == 1
    again = [1, 2, 3, 4, 5, 6, 7] if place.log_goes_back else [1, 2, 3, 4, 5, 6, 4, 5, 6, 7]
    assert await place.sequences() == again


# The position is gone, and there was one ---------------------------------------------------------------------------


async def test_a_position_that_is_gone_stops_the_pipeline_until_a_person_sets_the_offset(
    make_world: MakeWorld, place: Place
) -> None:
    world = await make_world()
    one = await world.delivered(3)
    await world.drain(one)
    await place.forget_everything()
    stored = world.stored()

    world.source.append(3)
    two = world.start()
    said = await world.until_stopped(two)
    await world.until(lambda: two.pipeline().retries >= 2)  # it tries again by itself, and stays stopped

    assert "the destination's position is gone, it was 4" in said
    assert f"`oplog-bridge offsets set {place.pipeline} OFFSET`" in said
    assert (await place.sequences(), await place.offset(), world.stored()) == ([], None, stored)
    assert "sink.write" not in two.gate.calls
    assert two.runner is not None
    await two.runner.set_offset(place.pipeline, 4)
    await world.until_saved(two, 7)
    assert await place.sequences() == [4, 5, 6]


@pytest.mark.needs_bare_offset
async def test_a_log_whose_position_alone_is_gone_stops_the_pipeline_until_a_person_sets_the_offset(
    make_world: MakeWorld, place: Place
) -> None:
    world = await make_world()
    one = await world.delivered(3)
    await world.drain(one)
    await place.forget_position()

    world.source.append(3)
    two = world.start()
    said = await world.until_stopped(two)

    assert "offsets set" in said
    assert await place.sequences() == [1, 2, 3]
    assert two.runner is not None
    await two.runner.set_offset(place.pipeline, 4)
    await world.until_saved(two, 7)
    assert await place.sequences() == [1, 2, 3, 4, 5, 6]


# The position is there, and nothing is stored ----------------------------------------------------------------------


@pytest.mark.parametrize("start", [Start("earliest"), Start("latest")], ids=["earliest", "latest"])
async def test_a_store_that_forgot_everything_leaves_the_word_to_the_position(
    make_world: MakeWorld, place: Place, start: Start
) -> None:
    world = await make_world(PipelineChoice(start=start))
    first = world.start()
    await world.until(lambda: first.status != {} and first.pipeline().state == "running")
    one = await world.delivered(3, first)
    await world.drain(one)
    world.memory.wipe()
    world.source.append(2)

    two = await world.delivered(1)

    assert await place.sequences() == [1, 2, 3, 4, 5, 6]
    assert world.stored() == world.saved(7, mark=7)
    assert two.gate.calls.count("client.poll_tail") == 0


async def test_a_position_of_another_source_stops_the_pipeline(make_world: MakeWorld, place: Place) -> None:
    other = await make_world(source_id=ELSEWHERE)
    one = await other.delivered(3)
    await other.drain(one)

    world = await make_world()
    world.source.append(6)
    two = world.start()
    said = await world.until_stopped(two)

    assert f"the destination holds an offset of source '{ELSEWHERE}'" in said
    assert f"`id: {ELSEWHERE}`" in said
    assert f"`oplog-bridge offsets set {place.pipeline} OFFSET`" in said
    assert await place.sequences() == [1, 2, 3]
    assert world.stored() is None


async def test_a_position_for_another_destination_stops_the_pipeline(make_world: MakeWorld, place: Place) -> None:
    world = await make_world()
    one = await world.delivered(3)
    await world.drain(one)

    renamed = await make_world(PipelineChoice(settings=place.renamed))
    renamed.source.append(6)
    two = renamed.start()
    said = await renamed.until_stopped(two)

    assert f"the destination holds an offset for '{world.at_text()}'" in said
    assert f"`oplog-bridge offsets reset {place.pipeline}`" in said
    assert await place.sequences() == [1, 2, 3]
    assert "sink.write" not in two.gate.calls


# Nothing anywhere --------------------------------------------------------------------------------------------------


@pytest.mark.needs_bare_offset
async def test_nothing_anywhere_so_start_is_resolved_once_into_the_destination_first(
    make_world: MakeWorld, place: Place
) -> None:
    world = await make_world(PipelineChoice(start=Start("latest")))
    world.source.append(3)
    one = world.start()
    moved = one.gate.hold("sink.move", "after")
    await world.until(lambda: moved.is_reached)
    assert await place.offset() == 4
    assert world.stored() is None

    moved.release()
    await world.delivered(2, one)

    assert await place.sequences() == [4, 5]
    assert world.source.tails == 1
    assert world.stored() == world.saved(6, mark=6)
