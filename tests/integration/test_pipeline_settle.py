"""A source that commits lower sequences late loses nothing, if the pipeline waits as long as it takes."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from world import PipelineChoice, World


def write(world: World, sequence: int, *, written_at: float) -> None:
    when = datetime.fromtimestamp(written_at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ").encode()
    world.source.put(sequence, body=b'"operation":"update","object":{"id":"1","type":"user","updated_at":"%b"}' % when)


@pytest.mark.parametrize(("settle_seconds", "delivered"), [(0.0, ["1", "3", "2"]), (5.0, ["1", "2", "3"])])
async def test_an_entry_that_is_committed_late_arrives_in_its_place_if_the_line_waits(
    settle_seconds: float, delivered: list[str]
) -> None:
    async with World(settle_seconds=settle_seconds) as world:
        began_at = world.clock.unix()
        write(world, 1, written_at=began_at - 60)
        write(world, 3, written_at=began_at)
        world.start()
        await world.run(3)
        write(world, 2, written_at=began_at)  # three seconds after its neighbour could be seen

        await world.run(60)

        # Without the wait it is found by a second look, and told behind what has gone before.
        assert [event.id for event in world.at().log] == delivered


async def test_what_waits_is_asked_for_within_the_pace_and_holds_back_nothing_older() -> None:
    async with World(PipelineChoice("a"), PipelineChoice("b"), settle_seconds=20.0, page_limit=10) as world:
        began_at = world.clock.unix()
        for sequence in range(1, 6):
            write(world, sequence, written_at=began_at - 60 + 12 * sequence)
        world.start()

        await world.run(2)
        first = list(world.at("a").sequences)
        await world.run(60)

        assert first == [1, 2, 3]
        assert world.at("a").sequences == world.at("b").sequences == [1, 2, 3, 4, 5]
        assert len(world.source.polls) <= 62


async def test_a_restart_while_entries_wait_neither_loses_nor_repeats_them() -> None:
    async with World(settle_seconds=10.0) as world:
        began_at = world.clock.unix()
        for sequence in range(1, 6):
            write(world, sequence, written_at=began_at - 12 + 4 * sequence)
        one = world.start()
        await world.run(3)
        one.kill()
        world.start()

        await world.until(lambda: len(world.sequences) == 5)

        assert world.sequences == [1, 2, 3, 4, 5]


async def test_waiting_for_an_entry_to_settle_is_progress() -> None:
    async with World(settle_seconds=300.0) as world:
        write(world, 1, written_at=world.clock.unix())
        one = world.start()

        await world.run(200)

        status = one.pipeline()
        assert world.sequences == []
        assert status.progress_at is not None
        assert world.clock.monotonic() - status.progress_at < 5
