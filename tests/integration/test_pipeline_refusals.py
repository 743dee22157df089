"""What a destination will never take, and what cannot become an event: stop, or a dead letter, and nothing skipped."""

from __future__ import annotations

import pytest

from oplogbridge.testing import MemorySettings
from world import PipelineChoice, World

LETTERS = PipelineChoice(letters=MemorySettings())


def is_past(world: World, offset: int) -> bool:
    stored = world.stored()
    return stored is not None and stored.offset >= offset


@pytest.mark.parametrize("holds_position", [True, False])
@pytest.mark.parametrize("rejected", [[1], [2], [3], [1, 2, 3], [1, 3], [6], list(range(1, 7))])
async def test_rejected_events_become_dead_letters_and_all_others_arrive_in_order(
    rejected: list[int], holds_position: bool
) -> None:
    settings = MemorySettings(holds_position=holds_position)
    async with World(PipelineChoice(settings=settings, letters=MemorySettings())) as world:
        world.source.append(6)
        world.at().reject(*rejected)
        one = world.start()

        await world.until(lambda: is_past(world, 7))

        assert world.sequences == [sequence for sequence in range(1, 7) if sequence not in rejected]
        assert world.letters().sequences == rejected
        assert one.pipeline().dead_letters == one.pipeline().events_rejected == len(rejected)
        assert one.pipeline().events_delivered == 6 - len(rejected)


@pytest.mark.parametrize("malformed", [[1], [2], [3], [1, 2, 3], [2, 4], [6]])
async def test_malformed_entries_become_dead_letters_and_all_others_arrive_in_order(malformed: list[int]) -> None:
    async with World(LETTERS) as world:
        for sequence in range(1, 7):
            if sequence in malformed:
                world.source.put_malformed(sequence)
            else:
                world.source.put(sequence)
        world.start()

        await world.until(lambda: is_past(world, 7))

        assert world.sequences == [sequence for sequence in range(1, 7) if sequence not in malformed]
        assert world.letters().sequences == malformed


async def test_without_dead_letters_a_rejected_event_stops_the_line_behind_all_that_came_before_it() -> None:
    async with World() as world:
        world.source.append(6)
        world.at().reject(5, reason="too large")
        one = world.start()

        await world.until(lambda: one.pipeline().state == "stopped")
        await world.run(3600)

        assert world.sequences == [1, 2, 3, 4]
        assert is_past(world, 5)
        assert not is_past(world, 6)
        assert "sequence 5 cannot be delivered: too large" in (one.pipeline().error or "")
        assert "offsets set orders 6" in (one.pipeline().error or "")


async def test_without_dead_letters_a_malformed_entry_stops_the_line_behind_all_that_came_before_it() -> None:
    async with World() as world:
        world.source.append(1)
        world.source.put_malformed(2)
        world.source.append(1)
        one = world.start()

        await world.until(lambda: one.pipeline().state == "stopped")
        await world.run(3600)

        assert world.sequences == [1]
        assert "sequence 2 cannot be delivered" in (one.pipeline().error or "")


async def test_a_stopped_line_tries_again_slowly_and_heals_by_itself() -> None:
    async with World() as world:
        world.source.append(3)
        world.at().reject(2)
        one = world.start()
        await world.until(lambda: one.pipeline().state == "stopped")
        opened = one.gate.calls.count("sink.open")
        await world.run(3600)
        assert 10 <= one.gate.calls.count("sink.open") - opened <= 20

        world.at()._rejected.clear()
        await world.until(lambda: world.sequences == [1, 2, 3])

        assert one.pipeline().error is None


@pytest.mark.parametrize("call", ["sink.write", "store.save", "sink.open", "sink.move", "sink.position"])
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("nth", [0, 1, 2, 3])
async def test_a_crash_at_any_step_around_a_dead_letter_neither_doubles_nor_loses_it(
    call: str, when: str, nth: int
) -> None:
    async with World(LETTERS) as world:
        world.source.append(2)
        world.source.put_malformed(3)
        world.source.append(2)
        world.at().reject(2)
        one = world.start()
        hold = one.gate.hold(call, when, skip=nth)  # type: ignore[arg-type]
        await world.until(lambda: hold.is_reached or is_past(world, 6))
        one.kill()

        world.start()
        await world.until(lambda: is_past(world, 6))

        assert world.sequences == [1, 4, 5]
        assert world.letters().sequences == [2, 3]


async def test_nothing_behind_a_dead_letter_is_delivered_before_it_is_durable() -> None:
    async with World(LETTERS) as world:
        world.source.append(3)
        world.at().reject(2)
        world.letters().down()
        one = world.start()
        await world.until(lambda: one.pipeline().state == "retrying")
        await world.run(60)
        assert world.sequences == [1]

        world.letters().up()
        await world.until(lambda: is_past(world, 4))

        assert (world.sequences, world.letters().sequences) == ([1, 3], [2])


async def test_a_letter_that_its_own_destination_refuses_stops_the_line() -> None:
    async with World(PipelineChoice(letters=MemorySettings(event_bytes_max=10))) as world:
        world.source.append(3)
        world.at().reject(2)
        one = world.start()

        await world.until(lambda: one.pipeline().state == "stopped")

        assert world.sequences == [1]
        assert "choose another `dead_letter` sink" in (one.pipeline().error or "")


async def test_a_broken_dead_letter_destination_holds_back_nobody_who_has_no_letters() -> None:
    async with World(LETTERS) as world:
        world.letters().down()
        world.source.append(6)
        world.start()

        await world.until(lambda: len(world.sequences) == 6)

        assert world.letters().log == []


async def test_an_event_that_is_too_large_for_the_destination_is_a_dead_letter() -> None:
    large = b'"operation":"update","object":{"id":"1","type":"user","x":"%b"}' % (b"x" * 5000)
    async with World(PipelineChoice(settings=MemorySettings(event_bytes_max=2000), letters=MemorySettings())) as world:
        world.source.append(1)
        world.source.append(1, body=large)
        world.source.append(1)
        world.start()

        await world.until(lambda: is_past(world, 4))

        assert (world.sequences, world.letters().sequences) == ([1, 3], [2])


async def test_a_foreign_writer_stops_the_line_until_a_person_decides() -> None:
    async with World() as world:
        world.source.append(3)
        one = world.start()
        await world.until(lambda: len(world.sequences) == 3)
        world.at().write_foreign(world.at().log[0])
        world.source.append(3)

        await world.until(lambda: one.pipeline().state == "stopped")
        await world.run(600)

        assert len(world.at().log) == 4
        assert "somebody else writes here" in (one.pipeline().error or "")


async def test_dead_letters_may_go_where_no_position_is_held_and_are_then_kept_at_least_once() -> None:
    async with World(PipelineChoice(letters=MemorySettings(holds_position=False))) as world:
        world.source.append(4)
        world.at().reject(2, 4)
        one = world.start()
        crash = one.gate.hold("sink.write", "after")  # the letter of 2 is durable, nobody knows
        await world.until(lambda: crash.is_reached)
        one.kill()
        world.start()

        await world.until(lambda: is_past(world, 5))

        assert world.sequences == [1, 3]
        assert world.letters().sequences == [2, 2, 4]
