"""What a pipeline does when its destination, its store or the machine fails in the middle."""

from __future__ import annotations

import asyncio
import itertools

import pytest

from oplogbridge.errors import Misconfigured
from oplogbridge.source.start import Start
from oplogbridge.state import Mark, Stored
from oplogbridge.testing import MemorySettings
from oplogbridge.values import OFFSET_MAX, SEQUENCE_MAX
from world import SOURCE_ID, PipelineChoice, World, in_order_once

NO_POSITION = MemorySettings(holds_position=False)


async def test_a_write_whose_answer_was_lost_is_not_repeated() -> None:
    async with World() as world:
        world.source.append(6)
        world.at().lose_replies(2)
        one = world.start()

        await world.until(lambda: (stored := world.stored()) is not None and stored.offset == 7)

        assert world.sequences == world.source.sequences
        assert one.pipeline().rewinds == 0


async def test_without_a_position_a_write_whose_answer_was_lost_is_repeated_and_nothing_is_missing() -> None:
    async with World(PipelineChoice(settings=NO_POSITION)) as world:
        world.source.append(6)
        world.at().lose_replies(1)
        world.start()

        await world.until(lambda: (stored := world.stored()) is not None and stored.offset == 7)

        assert list(dict.fromkeys(world.sequences)) == world.source.sequences
        assert len(world.sequences) > 6


async def test_a_refused_write_is_tried_again_ever_more_slowly_and_what_was_read_ahead_is_read_again() -> None:
    async with World() as world:
        world.source.append(30)
        world.at().refuse(6)
        one = world.start()
        writes: list[float] = []
        await world.until(lambda: one.gate.calls.count("sink.write") == 1)
        for n in range(2, 7):
            await world.until(lambda n=n: one.gate.calls.count("sink.write") == n)
            writes.append(world.clock.monotonic())

        await world.until(lambda: len(world.sequences) == 30)

        gaps = [later - earlier for earlier, later in itertools.pairwise(writes)]
        assert gaps == sorted(gaps)
        assert world.sequences == world.source.sequences


async def test_lost_writes_are_delivered_again_loudly_and_the_log_holds_each_once(
    capsys: pytest.CaptureFixture[str],
) -> None:
    async with World() as world:
        one = world.start()
        for _ in range(4):
            world.source.append(2)
            expected = len(world.source.sequences)
            await world.until(lambda expected=expected: len(world.sequences) == expected)
        world.at().lose_writes(3)

        await world.until(lambda: len(world.sequences) == 8)

        assert world.sequences == world.source.sequences
        assert one.pipeline().rewinds == 1
        assert "destination went back" in capsys.readouterr().out


async def test_a_save_whose_answer_was_lost_is_found_again() -> None:
    async with World() as world:
        world.source.append(6)
        one = world.start()
        one.gate.fail("store.save", "after", times=2)

        await world.until(lambda: (stored := world.stored()) is not None and stored.offset == 7)

        assert world.sequences == world.source.sequences


async def test_filtered_pages_move_the_stored_offset_and_not_the_destination() -> None:
    async with World(PipelineChoice(types=frozenset({"user"}))) as world:
        world.source.append(2)
        world.source.append(7, type_="order")
        one = world.start()
        await world.until(lambda: (stored := world.stored()) is not None and stored.offset == 10)
        assert world.stored() == Stored(10, Mark(4), SOURCE_ID, world.at_text())
        polls = len(world.source.polls)

        one.kill()
        two = world.start()
        await world.until(lambda: len(world.source.polls) > polls)

        assert world.source.poll_offsets[polls] == 10  # it does not read them again
        assert one.pipeline().entries_filtered == 7
        assert two.pipeline().rewinds == 0


async def test_a_machine_that_slept_longer_than_the_lease_does_not_write_what_it_had_read() -> None:
    async with World(PipelineChoice(settings=NO_POSITION)) as world:
        world.source.append(3)
        one = world.start()
        polled = one.gate.hold("client.poll", "after")
        await world.until(lambda: polled.is_reached)
        one.gate.fail("store.acquire", times=10**6)

        world.clock.advance(3600)  # type: ignore[attr-defined]
        polled.release()
        await world.run(5)

        assert "sink.write" not in one.gate.calls
        assert world.sequences == []


@pytest.mark.parametrize(("where", "never"), [("client.poll", "sink.write"), ("store.load", "sink.move")])
async def test_the_lease_is_checked_in_the_instant_before_the_destination_is_changed(where: str, never: str) -> None:
    async with World() as world:
        world.source.append(3)
        one = world.start()
        reached = one.gate.hold(where, "after")
        renewing = one.gate.hold("store.renew")  # nobody else notices that time has passed
        await world.until(lambda: reached.is_reached and renewing.is_reached)

        world.clock.advance(world.lease_ttl_seconds)  # type: ignore[attr-defined]
        reached.release()
        await world.run(0)

        assert never not in one.gate.calls
        assert one.source_status.lease_held is False


async def test_a_machine_that_slept_does_not_write_the_next_batch_behind_the_one_in_flight() -> None:
    settings = MemorySettings(holds_position=False, events_max=3)
    async with World(PipelineChoice(settings=settings)) as world:
        world.source.append(9)
        one = world.start()
        writing = one.gate.hold("sink.write", "after")
        await world.until(lambda: writing.is_reached)
        await world.run(3)
        one.gate.fail("store.acquire", times=10**6)

        world.clock.advance(3600)  # type: ignore[attr-defined]
        writing.release()
        await world.run(5)

        assert one.gate.calls.count("sink.write") == 1
        assert world.sequences == [1, 2, 3]


@pytest.mark.parametrize("changed", ["source", "destination"])
@pytest.mark.parametrize("settings", [None, NO_POSITION])
async def test_an_offset_of_something_else_stops_the_line_before_anything_is_moved(
    changed: str, settings: MemorySettings | None
) -> None:
    async with World(PipelineChoice(settings=settings)) as world:
        world.source.append(3)
        one = world.start()
        await world.until(lambda: len(world.sequences) == 3)
        one.stop()
        await one.ended()
        if changed == "source":
            world.source_id = "https://elsewhere"
        else:
            name = f"{world.name}.other"
            world.pipelines = (
                PipelineChoice(settings=(settings or MemorySettings()).model_copy(update={"name": name})),
            )
        stored = world.stored()

        two = world.start()
        await world.until(lambda: two.pipeline().state == "stopped")
        await world.run(60)

        assert "sink.move" not in two.gate.calls
        assert world.stored() == stored
        assert world.sequences == [1, 2, 3]
        assert "oplog-bridge offsets set orders" in (two.pipeline().error or "")


async def test_a_pipeline_whose_sink_hangs_does_not_hold_back_its_neighbour() -> None:
    async with World(PipelineChoice("stuck"), PipelineChoice("free")) as world:
        world.source.append(40)
        one = world.start()
        hold = one.gate.hold("sink.write")  # whoever comes first
        await world.until(lambda: hold.is_reached)

        await world.until(lambda: 40 in (len(world.at("stuck").sequences), len(world.at("free").sequences)))
        assert min(len(world.at(name).sequences) for name in ("stuck", "free")) == 0
        hold.release()
        await world.until(lambda: len(world.at("stuck").sequences) == len(world.at("free").sequences) == 40)

        assert world.at("stuck").sequences == world.at("free").sequences == world.source.sequences


async def test_a_stuck_sink_reads_only_so_far_ahead() -> None:
    async with World() as world:
        world.source.append(100)
        one = world.start()
        hold = one.gate.hold("sink.write")
        await world.until(lambda: hold.is_reached)

        await world.run(100)

        looks = 2 + 3  # of the log watch, at the log's ends and for late entries
        assert len(world.source.polls) <= 8 + looks  # the one in flight, six ahead of it, one in the hand


async def test_a_position_that_a_neighbour_reset_is_found_and_what_was_read_ahead_is_dropped() -> None:
    async with World() as world:
        world.source.append(60)
        one = world.start()
        await world.until(lambda: len(world.sequences) >= 9)
        world.at().lose_writes(len(world.at().writes) - 1)

        await world.until(lambda: len(world.sequences) == 60)

        assert in_order_once(world.sequences)
        assert one.pipeline().rewinds == 1


async def test_latest_while_the_source_is_down_waits_for_it_and_begins_behind_what_is_there_then() -> None:
    async with World(PipelineChoice(start=Start("latest"))) as world:
        world.source.append(3)
        one = world.start()
        one.gate.fail("client.poll_tail", times=3)
        await world.until(lambda: one.source_status.poll_failures == 3)
        world.source.append(1)

        await world.until(lambda: world.stored() is not None)
        world.source.append(1)
        await world.until(lambda: len(world.sequences) == 1)

        assert world.sequences == [5]


async def test_a_source_that_refuses_stops_each_pipeline_and_each_heals_by_itself() -> None:
    async with World(PipelineChoice("a"), PipelineChoice("b")) as world:
        world.source.append(3)
        world.source.answers.append(Misconfigured("401: check `auth` of the source"))
        one = world.start()
        await world.until(lambda: {status.state for status in one.status.values()} == {"stopped"})

        await world.until(lambda: world.at("a").sequences == world.at("b").sequences == [1, 2, 3])

        assert {status.error for status in one.status.values()} == {None}


async def test_nothing_is_left_behind_after_a_drain() -> None:
    before = asyncio.all_tasks()
    async with World(PipelineChoice("a", letters=MemorySettings()), PipelineChoice("b")) as world:
        world.source.append(5)
        world.at("a").reject(3)
        one = world.start()
        await world.until(lambda: len(world.at("b").sequences) == 5 and world.letters("a").sequences == [3])

        one.stop()
        one.stop()
        await one.ended()

        assert asyncio.all_tasks() == before
        assert one.open_sinks == 0
        assert all(client.closed for client in one.clients)
        assert world.memory.leases == {}


async def test_the_highest_sequence_of_all_is_delivered_and_the_line_goes_on_behind_it() -> None:
    async with World() as world:
        world.source.put(SEQUENCE_MAX - 1)
        world.source.put(SEQUENCE_MAX)
        one = world.start()

        await world.until(lambda: len(world.sequences) == 2)
        await world.run(30)

        assert world.stored() == Stored(OFFSET_MAX, Mark(OFFSET_MAX), SOURCE_ID, world.at_text())
        assert (one.pipeline().state, one.pipeline().retries) == ("running", 0)
        assert world.source.poll_offsets[-1] == OFFSET_MAX
