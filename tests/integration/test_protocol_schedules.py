"""The ten schedules that broke an earlier wording of the delivery protocol, each as a test.

They are numbered as in the protocol's check. Where a schedule concerns one destination alone its test is with that
sink: 9 (a JetStream tail that expired) is with the NATS sink's tests; 10 (a file removed while it is open) is with the
file sink's tests, and here only what the pipeline does when a sink reports it.
"""

from __future__ import annotations

import itertools
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from oplogbridge.errors import Fenced, Misconfigured, Unavailable
from oplogbridge.source.start import Start
from oplogbridge.state import Mark, Stored
from oplogbridge.testing import MemorySettings
from scripted import Late, When
from world import SOURCE_ID, Instance, PipelineChoice, World, in_order_once, shortest_gap

LATEST = PipelineChoice(start=Start("latest"))
NO_POSITION = MemorySettings(holds_position=False)


async def test_1_latest_is_resolved_once_even_if_the_store_forgets_it() -> None:
    async with World(LATEST) as world:
        world.source.append(3)
        one = world.start()
        await world.until(lambda: one.pipeline().state == "running")
        one.kill()
        world.memory.wipe()
        world.source.append(2)  # `latest` resolved again would lose them

        world.start()
        await world.until(lambda: len(world.sequences) == 2)

        assert world.sequences == [4, 5]


@pytest.mark.parametrize("call", ["sink.move", "store.save"])
@pytest.mark.parametrize("when", ["before", "after"])
async def test_1_latest_survives_a_crash_at_any_step_of_keeping_it(call: str, when: str) -> None:
    async with World(LATEST) as world:
        world.source.append(3)
        one = world.start()
        hold = one.gate.hold(call, when)  # type: ignore[arg-type]
        await world.until(lambda: hold.is_reached)
        kept = world.at().position is not None
        one.kill()
        world.source.append(2)

        world.start()
        await world.until(lambda: world.stored() is not None and world.stored().offset == 6)  # type: ignore[union-attr]

        assert world.sequences == ([4, 5] if kept else [])  # not kept anywhere: it was never begun


async def test_1_a_sink_without_a_position_keeps_latest_in_the_store() -> None:
    async with World(PipelineChoice(start=Start("latest"), settings=NO_POSITION)) as world:
        world.source.append(3)
        one = world.start()
        await world.until(lambda: world.stored() is not None)
        one.kill()
        world.source.append(2)

        world.start()
        await world.until(lambda: len(world.sequences) == 2)

        assert world.sequences == [4, 5]
        assert world.stored() == Stored(6, None, SOURCE_ID, world.at_text())


async def test_2_a_position_read_before_a_pause_is_not_compared_with_a_successors_mark() -> None:
    async with World() as world:
        world.source.append(3)
        one = world.start()
        reading = one.gate.hold("sink.open", "after")  # it read "no position" and falls asleep
        renewing = one.gate.hold("store.renew")
        await world.until(lambda: reading.is_reached)
        two = world.start()
        await world.until(lambda: len(world.sequences) == 3)

        reading.release()
        await world.run(0)
        assert one.pipeline().state != "stopped"
        renewing.release()
        world.source.append(1)
        await world.until(lambda: len(world.sequences) == 4)

        assert two.source_status.lease_held
        assert world.sequences == [1, 2, 3, 4]
        assert one.pipeline().error is None or "lease" in one.pipeline().error


async def test_3_only_a_store_that_loses_the_lease_lets_two_processes_poll_and_the_log_stays_right() -> None:
    async with World() as world:
        world.source.append(6)
        one = world.start()
        await world.until(lambda: len(world.source.polls) == 1)
        world.memory.leases.clear()  # accepted and documented: one poll may come too early
        world.start()
        await world.until(lambda: len(world.sequences) == 6)
        await world.run(60)

        assert world.sequences == world.source.sequences
        early = [gap for gap in _gaps(world.source.poll_times) if gap < world.poll_interval_seconds]
        assert len(early) <= 3  # until the first write, save or renewal finds out
        assert one.gate.calls.count("store.acquire") >= 2


async def test_4_offsets_set_moves_the_sink_first_and_needs_the_lease() -> None:
    async with World() as world:
        world.source.append(6)
        one = world.start()
        await world.until(lambda: len(world.sequences) == 6)
        assert one.runner is not None

        with pytest.raises(Misconfigured, match="stop the instance"):  # it runs: no `set` slips in between
            await one.runner.set_offset("orders", 3)

        world.at().lose_position()  # the heartbeat finds it, and it stops
        await world.until(lambda: one.pipeline().state == "stopped")
        begun = len(one.gate.calls)
        world.source.append(1)
        before, now = await one.runner.set_offset("orders", 7)
        assert [call for call in one.gate.calls[begun:] if call in ("sink.move", "store.save")] == [
            "sink.move",
            "store.save",
        ]
        assert (before is not None and before.offset, now.offset) == (7, 7)
        await world.until(lambda: len(world.sequences) == 7)

        assert world.sequences == world.source.sequences


@pytest.mark.parametrize("who_saves_next", ["the same process", "a successor"])
async def test_5_a_save_that_lands_late_does_not_take_the_offset_back(who_saves_next: str) -> None:
    async with World(PipelineChoice(settings=NO_POSITION)) as world:
        one = world.start()
        await world.until(lambda: world.stored() is not None)
        late = _delay_the_next_save(one)
        world.source.append(3)
        await world.until(lambda: late != [])
        if who_saves_next == "a successor":
            one.kill()
            world.start()
        world.source.append(3)
        await world.until(lambda: (stored := world.stored()) is not None and stored.offset == 7)

        with pytest.raises(Unavailable if who_saves_next == "the same process" else Fenced):
            await late[0]()  # the network gives it up now
        assert world.stored() == Stored(7, None, SOURCE_ID, world.at_text())

        await world.run(30)
        assert world.stored() == Stored(7, None, SOURCE_ID, world.at_text())


async def test_6_a_choice_that_differs_from_what_is_stored_is_saved_before_the_first_poll() -> None:
    async with World() as world:
        world.source.append(3)
        one = world.start()
        saving = one.gate.hold("store.save", skip=1)
        await world.until(lambda: saving.is_reached)
        one.kill()  # the position is ahead of the mark now
        assert world.stored() == Stored(0, Mark(0), SOURCE_ID, world.at_text())

        two = world.start()
        polling = two.gate.hold("client.poll")
        await world.until(lambda: polling.is_reached)

        assert world.stored() == Stored(4, Mark(4), SOURCE_ID, world.at_text())


async def test_7_what_a_sink_loses_while_the_line_is_idle_is_noticed_by_the_heartbeat_and_delivered_again() -> None:
    async with World() as world:
        world.source.append(6)
        one = world.start()
        await world.until(lambda: len(world.sequences) == 6)
        world.at().lose_writes(1)
        assert len(world.sequences) < 6
        lost_at = world.clock.monotonic()

        await world.until(lambda: len(world.sequences) == 6)

        assert world.clock.monotonic() - lost_at < 15
        assert one.pipeline().rewinds == 1
        assert world.sequences == world.source.sequences


async def test_7_what_a_sink_loses_is_noticed_by_the_next_write_too() -> None:
    async with World() as world:
        world.source.append(6)
        one = world.start()
        await world.until(lambda: len(world.sequences) == 6)
        world.at().lose_writes(1)
        world.source.append(1)

        await world.until(lambda: len(world.sequences) == 7)

        assert world.sequences == world.source.sequences
        assert one.pipeline().rewinds == 1


async def test_7_what_the_store_loses_while_the_line_is_idle_is_noticed_by_the_heartbeat() -> None:
    async with World() as world:
        world.source.append(3)
        one = world.start()
        await world.until(lambda: len(world.sequences) == 3)
        before = dict(world.memory.offsets)
        world.source.append(3)
        await world.until(lambda: len(world.sequences) == 6)
        await world.run(1)
        world.memory.offsets = before  # a fail-over to a replica that lagged

        await world.until(lambda: one.gate.calls.count("sink.open") == 2)
        await world.run(2)

        assert world.stored() == Stored(7, Mark(7), SOURCE_ID, world.at_text())
        assert world.sequences == world.source.sequences


@pytest.mark.parametrize("settings", [None, NO_POSITION])
async def test_8_a_live_holder_that_finds_nothing_stored_goes_on_from_its_last_save(
    settings: MemorySettings | None,
) -> None:
    async with World(PipelineChoice(start=Start("latest"), settings=settings)) as world:
        world.source.append(3)
        one = world.start()
        await world.until(lambda: one.pipeline().state == "running")
        world.source.append(2)
        await world.until(lambda: len(world.sequences) == 2)
        world.at().refuse(1)
        world.source.append(2)
        world.memory.offsets.clear()  # the lease is still there
        await world.until(lambda: len(world.sequences) == 4)

        assert world.sequences == [4, 5, 6, 7]
        assert world.source.tails == 1
        assert one.gate.calls.count("sink.open") >= 2


async def test_9_a_position_that_is_gone_stops_the_line_and_nothing_is_delivered_twice() -> None:
    """On JetStream a tail expires; wherever a position goes without the mark's consent only a person can know."""
    async with World() as world:
        world.source.append(3)
        one = world.start()
        await world.until(lambda: len(world.sequences) == 3)
        one.stop()
        await one.ended()
        world.at().lose_position()

        two = world.start()
        await world.until(lambda: two.pipeline().state == "stopped")
        await world.run(600)

        assert world.sequences == [1, 2, 3]
        assert "position is gone" in (two.pipeline().error or "")


async def test_10_a_destination_that_was_taken_away_under_an_open_sink_is_not_written_to() -> None:
    """What the file sink sees by inode and length reaches the pipeline as an error; it opens again and stops."""
    async with World() as world:
        world.source.append(3)
        one = world.start()
        await world.until(lambda: len(world.sequences) == 3)
        world.at().lose_position()
        world.at().refuse(1)
        world.source.append(3)

        await world.until(lambda: one.pipeline().state == "stopped")

        assert world.sequences == [1, 2, 3]
        assert in_order_once(world.sequences)
        assert shortest_gap(world.source.poll_times) >= world.poll_interval_seconds


def _gaps(times: list[float]) -> list[float]:
    return [later - earlier for earlier, later in itertools.pairwise(times)]


def _delay_the_next_save(one: Instance) -> list[Callable[[], Awaitable[Any]]]:
    """It is sent, its sender gives it up, and it lands when the test says."""
    late: list[Callable[[], Awaitable[Any]]] = []

    async def at_step(name: str, when: When) -> None:
        if (name, when) == ("store.save", "before") and not late:
            raise Late

    one.gate.at_step, one.gate.late = at_step, late.append
    return late
