"""The life of one pipeline: open, choose, write, save; and what it does when something breaks on the way."""

from __future__ import annotations

import asyncio
from itertools import pairwise

import pytest

from oplogbridge.errors import Fenced, Unavailable
from oplogbridge.lease import Lease
from oplogbridge.offsets import move_offset
from oplogbridge.source.start import Start
from oplogbridge.state import Holder, Mark, Stored
from oplogbridge.state.memory import MemoryStateStore
from oplogbridge.testing import MemorySettings
from world import SOURCE, SOURCE_ID, Instance, PipelineChoice, World


async def test_every_entry_arrives_once_and_in_order() -> None:
    async with World() as world:
        world.source.append(10)

        world.start()
        await world.until(lambda: len(world.sequences) == 10)

        assert world.sequences == world.source.sequences
        assert world.stored() is not None


async def test_a_restart_goes_on_where_the_last_process_ended() -> None:
    async with World() as world:
        world.source.append(4)
        one = world.start()
        await world.until(lambda: len(world.sequences) == 4)
        one.stop()
        await one.ended()

        world.source.append(4)
        world.start()
        await world.until(lambda: len(world.sequences) == 8)
        await world.run(60)

        assert world.sequences == world.source.sequences
        assert world.instances[1].pipeline().retries == 0


async def test_an_idle_pipeline_stays_open_over_many_heartbeats() -> None:
    async with World() as world:
        world.source.append(4)
        one = world.start()

        await world.run(100)

        assert one.gate.calls.count("sink.open") == 1
        assert one.gate.calls.count("sink.position") >= 8


async def test_a_sink_that_is_being_closed_is_closed_to_the_end_when_the_lease_is_lost() -> None:
    async with World() as world:
        world.source.append(1)
        one = world.start()
        await world.until(lambda: world.sequences == [1])
        closing = one.gate.hold("sink.close")
        world.at().refuse(1)
        world.source.append(1)
        await world.until(lambda: closing.is_reached)

        one.gate.fail("store.renew", times=10**6)
        one.gate.fail("store.acquire", times=10**6)
        await world.run(world.lease_ttl_seconds + 1)
        assert one.source_status.lease_held  # it still waits for the close
        closing.release()
        await world.run(0)

        assert one.open_sinks == 0
        assert not one.source_status.lease_held


async def test_stop_while_a_sink_is_closed_ends_at_once_and_waits_for_no_backoff() -> None:
    async with World() as world:
        world.source.append(1)
        one = world.start()
        await world.until(lambda: world.sequences == [1])
        closing = one.gate.hold("sink.close")
        world.at().refuse(1, Unavailable("come back in an hour", retry_after_seconds=3600))
        world.source.append(1)
        await world.until(lambda: closing.is_reached)

        one.stop()
        closing.release()
        await asyncio.wait_for(one.ended(), 5)

        assert one.open_sinks == 0


async def test_a_write_that_fails_while_draining_ends_the_pipeline_without_a_backoff() -> None:
    async with World() as world:
        world.source.append(1)
        one = world.start()
        write = one.gate.hold("sink.write")
        await world.until(lambda: write.is_reached)
        world.at().refuse(1, Unavailable("come back in an hour", retry_after_seconds=3600))

        one.stop()
        write.release()
        await asyncio.wait_for(one.ended(), 5)

        assert one.pipeline().state == "finished"


async def test_stop_while_a_write_is_in_flight_finishes_and_saves_it() -> None:
    async with World() as world:
        world.source.append(3)
        one = world.start()
        write = one.gate.hold("sink.write")
        await world.until(lambda: write.is_reached)

        one.stop()
        write.release()
        await asyncio.wait_for(one.ended(), 5)

        assert world.sequences == [1, 2, 3]
        assert world.stored() == Stored(4, Mark(4), SOURCE_ID, world.at_text())
        assert world.memory.leases == {}


async def write_three_in_a_row(world: World) -> list[str]:
    """Behind, with the next write prepared each time; what was called, of writes and saves."""
    world.source.append(18)
    one = world.start()
    write = one.gate.hold("sink.write")
    await world.until(lambda: write.is_reached)
    await world.run(100)  # all that fits is read ahead
    begun = len(one.gate.calls)
    for _ in range(2):
        following = one.gate.hold("sink.write")
        write.release()
        await world.until(lambda held=following: held.is_reached)  # type: ignore[misc]
        write = following
    write.release()
    await world.until(lambda: len(world.sequences) == 18)
    await world.run(1)
    return [call for call in one.gate.calls[begun:] if call in ("sink.write", "store.save")]


async def test_behind_a_save_may_wait_but_the_last_one_never_does() -> None:
    async with World(PipelineChoice(settings=MemorySettings(events_max=3))) as world:
        calls = await write_three_in_a_row(world)

        assert world.sequences == world.source.sequences
        assert ("sink.write", "sink.write") in pairwise(calls)
        assert world.stored() == Stored(19, Mark(19), SOURCE_ID, world.at_text())


async def test_without_a_position_at_the_destination_every_write_is_saved() -> None:
    async with World(PipelineChoice(settings=MemorySettings(events_max=3, holds_position=False))) as world:
        calls = await write_three_in_a_row(world)

        assert ("sink.write", "sink.write") not in pairwise(calls)


async def test_a_drain_saves_what_was_left_to_the_next_save() -> None:
    async with World(PipelineChoice(settings=MemorySettings(events_max=3))) as world:
        world.source.append(18)
        one = world.start()
        first = one.gate.hold("sink.write")
        await world.until(lambda: first.is_reached)
        await world.run(100)
        second = one.gate.hold("sink.write")
        first.release()
        await world.until(lambda: second.is_reached)

        one.stop()
        second.release()
        await asyncio.wait_for(one.ended(), 5)

        assert world.sequences == [1, 2, 3, 4, 5, 6]
        assert world.stored() == Stored(7, Mark(7), SOURCE_ID, world.at_text())


@pytest.mark.parametrize(
    "where", ["store.acquire", "sink.open", "store.load", "sink.move", "store.save", "client.poll", "client.poll_tail"]
)
async def test_stop_gives_up_at_once_whatever_is_no_write(where: str) -> None:
    start = Start("latest") if where == "client.poll_tail" else Start("earliest")
    async with World(PipelineChoice(start=start)) as world:
        world.source.append(3)
        one = world.start()
        hold = one.gate.hold(where)
        await world.until(lambda: hold.is_reached)

        one.stop()
        await asyncio.wait_for(one.ended(), 5)

        assert world.sequences == []
        assert one.open_sinks == 0
        assert one.task is not None
        assert one.task.exception() is None


async def test_stop_during_the_backoff_and_while_queueing_ends_at_once() -> None:
    async with World() as world:
        world.at().down()
        one, two = world.start(), world.start()
        await world.until(lambda: one.pipeline().state == "retrying")

        one.stop()
        two.stop()
        await asyncio.wait_for(asyncio.gather(one.ended(), two.ended()), 5)

        assert world.memory.leases == {}


async def test_a_sink_that_cannot_be_built_stops_only_its_pipeline() -> None:
    broken = PipelineChoice("broken", settings=MemorySettings(name="{type}"))
    async with World(broken, PipelineChoice("sound")) as world:
        world.source.append(1)
        one = world.start()

        await world.until(lambda: world.at("sound").sequences == [1])

        assert one.pipeline("broken").state == "stopped"
        assert "a name is one place" in (one.pipeline("broken").error or "")


async def test_a_rejected_close_is_logged_and_harms_nobody() -> None:
    async with World() as world:
        world.source.append(1)
        one = world.start()
        one.gate.fail("sink.close", error=RuntimeError("a defect of a sink"))
        world.at().refuse(1)

        await world.until(lambda: world.sequences == [1])

        assert one.pipeline().error is None


async def test_what_a_destination_loses_in_the_moment_of_a_rejection_is_delivered_again() -> None:
    async with World(PipelineChoice(letters=MemorySettings())) as world:
        world.source.append(3)
        world.at().reject(3)
        one = world.start()
        asking = one.gate.hold("sink.position")  # 1 and 2 are durable, 3 was rejected
        await world.until(lambda: asking.is_reached)
        assert world.sequences == [1, 2]
        world.at().lose_writes(1)
        asking.release()

        await world.until(lambda: (stored := world.stored()) is not None and stored.offset == 4)

        assert world.sequences == [1, 2]
        assert world.letters().sequences == [3]


async def test_a_lost_lease_does_not_take_the_destination_from_its_new_owner() -> None:
    async with World() as world:
        world.source.append(3)
        one = world.start()
        await world.until(lambda: len(world.sequences) == 3)
        asleep = one.gate.hold("store.renew")  # it does not learn that its lease ran out
        world.at().refuse(1, Unavailable("busy", retry_after_seconds=2 * world.lease_ttl_seconds))
        world.source.append(1)
        await world.until(lambda: one.pipeline().state == "retrying")
        two = world.start()
        await world.until(lambda: len(world.sequences) == 4)

        await world.run(3 * world.lease_ttl_seconds)  # past the back-off of the first

        assert asleep.is_reached
        assert one.gate.calls.count("sink.open") == 1
        assert one.source_status.lease_held is False
        assert two.source_status.lease_held
        assert (two.gate.calls.count("sink.open"), two.pipeline().retries) == (1, 0)


async def test_a_lost_lease_does_not_take_the_dead_letters_from_their_new_owner() -> None:
    async with World(PipelineChoice(letters=MemorySettings())) as world:
        world.source.append(1)
        world.source.put_malformed(2)
        one = world.start()
        saving = one.gate.hold("store.save", "after", skip=1)  # all before the letter is saved, and it falls asleep
        one.gate.hold("store.renew")
        await world.until(lambda: saving.is_reached)
        world.start()
        await world.until(lambda: world.letters().sequences == [2])
        openings = world.letters().token

        saving.release()
        await world.run(1.0)

        assert world.letters().token == openings
        assert world.letters().sequences == [2]


@pytest.mark.parametrize("at", ["nothing", "the sink"])
async def test_moving_an_offset_under_a_lost_lease_opens_nothing_more(at: str) -> None:
    async with World(PipelineChoice(letters=MemorySettings())) as world:
        store = MemoryStateStore(world.clock, world.memory)
        await store.open()
        token = await store.acquire(SOURCE, Holder("offsets set", "here", 1, None), 1000.0)
        assert token is not None
        lease = Lease(SOURCE, token, 10.0, world.clock, world.clock.monotonic() + 10.0)
        command = Instance(world, "offsets set")
        opening = command.gate.hold("sink.open", "after")
        if at == "nothing":
            await world.run(10.0)

        moving = asyncio.create_task(move_offset(command._spec(world.pipelines[0]), offset=5, store=store, lease=lease))
        await world.run(10.0)  # if it opened the sink, the lease runs out meanwhile
        opening.release()

        with pytest.raises(Fenced):
            await moving
        assert command.gate.calls.count("sink.open") == (0 if at == "nothing" else 1)
        assert "sink.move" not in command.gate.calls
        assert world.stored() is None
