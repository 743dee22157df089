"""When a line goes back, by a person's hand or because its destination lost something, and what its letters do then."""

from __future__ import annotations

import asyncio

import pytest
from structlog.testing import capture_logs

from oplogbridge.errors import Misconfigured
from oplogbridge.testing import MemorySettings
from world import Instance, PipelineChoice, World

LETTERS = PipelineChoice(letters=MemorySettings())
LETTERS_THAT_STAY = PipelineChoice(letters=MemorySettings(goes_back=False))


def is_past(world: World, offset: int) -> bool:
    stored = world.stored()
    return stored is not None and stored.offset >= offset


async def delivered_but_for(world: World, rejected: int) -> Instance:
    """Entries 1 to 4; one of them is a letter."""
    world.source.append(4)
    world.at().reject(rejected)
    one = world.start()
    await world.until(lambda: is_past(world, 5))
    assert world.letters().sequences == [rejected]
    return one


async def stopped(world: World, one: Instance) -> None:
    world.at().lose_position()
    await world.until(lambda: one.pipeline().state == "stopped")


async def set_offset(one: Instance, offset: int) -> None:
    assert one.runner is not None
    await one.runner.set_offset("orders", offset)


async def test_an_event_that_is_refused_after_a_move_behind_a_letter_becomes_one_too() -> None:
    async with World(LETTERS) as world:
        one = await delivered_but_for(world, 3)
        await stopped(world, one)
        world.at().reject(2)  # it was delivered the first time

        await set_offset(one, 2)
        await world.until(lambda: is_past(world, 5))

        assert world.sequences == [1, 2, 4, 4]
        assert world.letters().sequences == [3, 2, 3]  # a repeated letter beats a lost one


async def test_a_move_ahead_leaves_the_letters_where_they_are() -> None:
    async with World(LETTERS) as world:
        one = await delivered_but_for(world, 3)
        await stopped(world, one)
        world.source.append(2)
        world.at().reject(6)

        await set_offset(one, 6)
        position = world.letters().position
        await world.until(lambda: is_past(world, 7))

        assert position is not None
        assert position.offset == 4
        assert world.letters().sequences == [3, 6]


async def test_a_move_works_where_the_letters_cannot_go_back_and_says_so() -> None:
    async with World(LETTERS_THAT_STAY) as world:
        one = await delivered_but_for(world, 3)
        await stopped(world, one)
        world.at().reject(2)

        with capture_logs() as said:
            await set_offset(one, 2)
            await world.until(lambda: is_past(world, 5))

        assert world.sequences == [1, 2, 4, 4]
        assert world.letters().sequences == [3]
        warning = next(line for line in said if line["event"] == "dead letters cannot be taken back")
        assert (warning["log_level"], warning["pipeline"], warning["offset"]) == ("warning", "orders", 2)
        assert "cannot go back to 2" in warning["reason"]
        assert [line["sequence"] for line in said if line["event"] == "dead letter kept already"] == [2, 3]


async def test_what_a_destination_lost_and_refuses_now_becomes_a_letter() -> None:
    async with World(LETTERS) as world:
        one = await delivered_but_for(world, 3)
        world.at().lose_writes(2)  # all of them
        world.at().reject(2)

        await world.until(lambda: one.pipeline().rewinds == 1)
        await world.until(lambda: world.sequences == [1, 4])

        assert world.letters().sequences == [3, 2, 3]


async def test_a_destination_that_went_back_is_served_again_also_where_the_letters_cannot_go_back() -> None:
    async with World(LETTERS_THAT_STAY) as world:
        one = await delivered_but_for(world, 3)
        world.at().lose_writes(2)

        with capture_logs() as said:
            await world.until(lambda: one.pipeline().rewinds == 1)
            await world.until(lambda: world.sequences == [1, 2, 4])

        assert world.letters().sequences == [3]
        assert [line["event"] for line in said].count("dead letters cannot be taken back") == 1


@pytest.mark.parametrize("call", ["sink.open", "sink.move", "store.save"])
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("nth", [0, 1])
async def test_a_crash_at_any_step_of_going_back_loses_no_letter(call: str, when: str, nth: int) -> None:
    async with World(LETTERS) as world:
        one = await delivered_but_for(world, 3)
        world.at().lose_writes(2)
        world.at().reject(2)
        hold = one.gate.hold(call, when, skip=nth)  # type: ignore[arg-type]
        await world.until(lambda: hold.is_reached or world.sequences == [1, 4])
        one.kill()

        world.start()
        await world.until(lambda: world.sequences == [1, 4] and is_past(world, 5))

        assert set(world.letters().sequences) == {2, 3}


async def test_a_move_while_the_line_is_being_closed_is_refused_until_it_is() -> None:
    async with World() as world:
        world.source.append(1)
        one = world.start()
        await world.until(lambda: world.sequences == [1])
        closing = one.gate.hold("sink.close", skip=1)  # the first is when the heartbeat finds that the position is gone
        await stopped(world, one)
        await world.until(lambda: closing.is_reached)
        begun = len(one.gate.calls)

        try:
            with pytest.raises(Misconfigured, match="is being closed or moved just now: try again"):
                await asyncio.wait_for(set_offset(one, 2), 5)
            assert "sink.open" not in one.gate.calls[begun:]
        finally:
            closing.release()  # nothing cancels a close: the world could not end
        await world.run(0)

        await set_offset(one, 2)
        await world.until(lambda: one.pipeline().state == "running")
