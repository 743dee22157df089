"""The ten schedules that broke an earlier delivery protocol, over every real destination that can be in them: 1 to 5.
The others are in test_schedules_per_sink_losses.py.

With a memory sink they are in test_protocol_schedules.py. Two are about no destination that is here: 3 (the store loses
the lease, and two processes poll) is accepted and documented, here only the log is held to stay right; 9 (a tail of a
JetStream stream expires) is NATS's alone, in test_nats_sink.py. Of the others

- a file cannot be in the middle of 2: while A has it open its lock keeps B out, and that is what is shown;
- Kafka's one broker cannot lose what it has committed: in 7 the same owner moves the position back, and since the
  records stay, a reader sees that part twice;
- 5 was found with webhooks, which have no position; the late save is the same for everybody;
- 10 is a file that is removed under an open descriptor; keys and topics that are deleted under an open connection are
  its like.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Literal

import pytest

from oplogbridge.errors import Fenced, Misconfigured, Unavailable
from oplogbridge.source.start import Start
from places import Place
from scripted import Gate, Late, When
from sink_worlds import MakeWorld, offsets_set
from world import Instance, PipelineChoice

LATEST = PipelineChoice(start=Start("latest"))


# 1: `latest`, and a store that forgets -----------------------------------------------------------------------------


@pytest.mark.needs_bare_offset
@pytest.mark.parametrize(("call", "when"), [("sink.move", "after"), ("store.save", "before"), ("store.save", "after")])
async def test_1_latest_survives_a_crash_behind_the_destination_and_a_store_that_forgets_it(
    make_world: MakeWorld, place: Place, call: str, when: Literal["before", "after"]
) -> None:
    world = await make_world(LATEST)
    world.source.append(3)
    one = world.start()
    hold = one.gate.hold(call, when)
    await world.until(lambda: hold.is_reached)
    await world.kill(one)
    world.memory.wipe()
    world.source.append(2)  # `latest` resolved again would lose them

    two = world.start()
    await world.until_saved(two, 6)

    assert await place.sequences() == [4, 5]
    assert world.source.tails == 1


async def test_1_a_crash_before_the_destination_has_it_leaves_nothing_begun(
    make_world: MakeWorld, place: Place
) -> None:
    world = await make_world(LATEST)
    world.source.append(3)
    one = world.start()
    moving = one.gate.hold("sink.move")
    await world.until(lambda: moving.is_reached)
    await world.kill(one)
    assert await place.offset() is None
    world.source.append(2)

    two = world.start()
    await world.until_saved(two, 6)
    await world.delivered(1, two)

    assert await place.sequences() == [6]


# 2: a pause between the position and the stored offset -------------------------------------------------------------


async def test_2_a_position_read_before_a_pause_is_not_compared_with_a_successors_mark(
    make_world: MakeWorld, place: Place
) -> None:
    world = await make_world()
    world.source.append(3)
    one = world.start()
    asleep = [one.gate.hold("sink.open", "after"), one.gate.hold("store.renew")]  # it read "no position"
    await world.until(lambda: asleep[0].is_reached)
    two = world.start()
    if place.kind == "file":
        await world.until(lambda: two.status != {} and two.pipeline().state == "retrying")
        assert "another process has it" in (two.pipeline().error or "")
    else:
        await world.until_saved(two, 4)

    for hold in asleep:
        hold.release()
    await world.delivered(1, two)
    await world.run(30)

    assert await place.sequences() == [1, 2, 3, 4]
    assert two.source_status.lease_held
    assert one.pipeline().state == "waiting"


# 3: accepted -------------------------------------------------------------------------------------------------------


async def test_3_two_processes_that_both_believe_they_hold_the_lease_leave_each_entry_once(
    make_world: MakeWorld, place: Place
) -> None:
    world = await make_world()
    one = await world.delivered(3)
    world.source.append(6)
    writing = one.gate.hold("sink.write")
    await world.until(lambda: writing.is_reached)
    world.memory.leases.clear()
    two = world.start()
    await world.until(lambda: two.status != {} and two.pipeline().state in ("running", "retrying"))

    writing.release()
    await world.until(lambda: any(instance.pipeline().offset == 10 for instance in (one, two)))
    await world.run(30)

    assert await place.sequences() == world.source.sequences


# 4: `offsets set` and a starting instance --------------------------------------------------------------------------


@pytest.mark.needs_bare_offset
async def test_4_offsets_set_moves_the_destination_first_and_an_instance_that_starts_waits_for_it(
    make_world: MakeWorld, place: Place
) -> None:
    world = await make_world()
    one = await world.delivered(3)
    await world.drain(one)
    world.source.append(3)
    command = Gate()
    saving = command.hold("store.save")
    setting = asyncio.create_task(offsets_set(world, command, 6))
    await world.until(lambda: saving.is_reached)
    assert (await place.offset(), world.stored()) == (6, world.saved(4, mark=4))

    two = world.start()
    await world.run(30)
    assert "sink.open" not in two.gate.calls
    saving.release()
    await setting
    await world.until_saved(two, 7)

    assert await place.sequences() == [1, 2, 3, 6]
    assert two.pipeline().rewinds == 0


@pytest.mark.needs_bare_offset
async def test_4_offsets_set_that_dies_between_the_two_is_done_as_far_as_the_destination_goes(
    make_world: MakeWorld, place: Place
) -> None:
    world = await make_world()
    one = await world.delivered(3)
    await world.drain(one)
    world.source.append(3)
    command = Gate()
    command.fail("store.save")
    with pytest.raises(Unavailable):
        await offsets_set(world, command, 6)

    two = world.start()
    await world.until_saved(two, 7)

    assert await place.sequences() == [1, 2, 3, 6]


async def test_4_offsets_set_does_not_slip_in_under_an_instance_that_runs(make_world: MakeWorld, place: Place) -> None:
    world = await make_world()
    one = await world.delivered(3)
    assert one.runner is not None

    with pytest.raises(Misconfigured, match="stop the instance"):
        await one.runner.set_offset(place.pipeline, 6)
    with pytest.raises(AssertionError, match="somebody holds the lease"):
        await offsets_set(world, Gate(), 6)

    assert (await place.offset(), world.stored()) == (4, world.saved(4, mark=4))


# 5: a save that lands late -----------------------------------------------------------------------------------------


async def test_5_a_save_that_lands_after_the_next_one_does_not_take_the_offset_back(
    make_world: MakeWorld, place: Place
) -> None:
    world = await make_world()
    one = await world.delivered(3)
    late = _delay_the_next_save(one)
    await world.delivered(3, one)  # it was given up, the line opened again, and this is saved since
    assert world.stored() == world.saved(7, mark=7)
    await world.delivered(1, one)

    with pytest.raises(Unavailable):
        await late[0]()  # by the same process, under the same lease

    assert world.stored() == world.saved(8, mark=8)
    assert await place.sequences() == [1, 2, 3, 4, 5, 6, 7]


async def test_5_a_save_that_lands_after_a_successors_does_not_take_the_offset_back(
    make_world: MakeWorld, place: Place
) -> None:
    world = await make_world()
    one = await world.delivered(3)
    late = _delay_the_next_save(one)
    world.source.append(3)
    await world.until(lambda: late != [])
    await world.kill(one)
    two = world.start()
    await world.until_saved(two, 7)
    await world.delivered(1, two)

    with pytest.raises(Fenced):
        await late[0]()

    assert world.stored() == world.saved(8, mark=8)
    assert await place.sequences() == [1, 2, 3, 4, 5, 6, 7]


# -------------------------------------------------------------------------------------------------------------------


def _delay_the_next_save(one: Instance) -> list[Callable[[], Awaitable[Any]]]:
    """It is sent, its sender gives it up, and it lands when the test says."""
    late: list[Callable[[], Awaitable[Any]]] = []

    async def at_step(name: str, when: When) -> None:
        if (name, when) == ("store.save", "before") and not late:
            raise Late

    one.gate.at_step, one.gate.late = at_step, late.append
    return late
