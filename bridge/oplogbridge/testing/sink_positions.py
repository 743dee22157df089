"""What a sink proves, and who may write: its position, and the fence around it."""

from __future__ import annotations

import pytest

from oplogbridge.errors import Fenced, Misconfigured, Unavailable
from oplogbridge.testing.sink_points import needs
from oplogbridge.testing.sink_rig import (
    FIRST,
    SOURCE_ID,
    SinkRig,
    assert_holds,
    go_on,
    make_batch,
    make_event,
    offset_of,
    opened,
    position_found_by_a_successor,
    within,
)
from oplogbridge.values import OFFSET_MAX, Position


class HoldsItsPosition:
    """Points of the contract that ask for the position, and what becomes of a predecessor."""

    async def test_the_traits_are_what_is_observed(self, rig: SinkRig) -> None:
        async with opened(rig) as sink:
            assert await within(rig, sink.position()) is None
            position = await within(rig, sink.write(make_batch(FIRST)))
            assert position == await within(rig, sink.position())
            if not rig.traits.holds_position:
                assert position is None
                with pytest.raises(Misconfigured):
                    await within(rig, sink.move(FIRST))
                return
            assert position is not None
            assert (position.source, position.destination) == (SOURCE_ID, sink.destination)
            assert rig.traits.guarantee == "exactly_once"
            if rig.traits.goes_back:
                assert offset_of(await within(rig, sink.move(FIRST))) == FIRST
                await within(rig, sink.write(make_batch(FIRST)))
            else:
                with pytest.raises(Misconfigured):
                    await within(rig, sink.move(FIRST))
                assert offset_of(await within(rig, sink.position())) == FIRST + 1

    @needs("position")
    async def test_the_position_survives_a_restart(self, rig: SinkRig) -> None:
        batch = make_batch(FIRST, next_offset=FIRST + 100)  # entries up to there were filtered out

        async with opened(rig) as sink:
            written = await within(rig, sink.write(batch))
        async with opened(rig) as successor:
            again = await within(rig, successor.position())

        assert written == again
        assert offset_of(again) == FIRST + 100

    @needs("position")
    async def test_the_position_survives_the_destination_being_killed(self, rig: SinkRig) -> None:
        batches = [make_batch(FIRST), make_batch(FIRST + 1)]

        async with opened(rig) as sink:
            await within(rig, sink.write(batches[0]))
        await rig.restart()
        assert await position_found_by_a_successor(rig) == FIRST + 1
        async with opened(rig) as sink:
            await within(rig, sink.write(batches[1]))

        await assert_holds(rig, batches)

    async def test_a_destination_without_a_position_takes_the_first_batch_at_any_offset(self, rig: SinkRig) -> None:
        batch = make_batch(FIRST + 5, from_offset=FIRST)

        async with opened(rig) as sink:
            await within(rig, sink.write(batch))

        await assert_holds(rig, [batch])

    @pytest.mark.parametrize("from_offset", [FIRST, FIRST + 1, FIRST + 3])
    @needs("position")
    async def test_a_batch_that_does_not_begin_at_the_position_is_refused(self, rig: SinkRig, from_offset: int) -> None:
        first = make_batch(FIRST, FIRST + 1)
        wrong = make_batch(FIRST + 5, from_offset=from_offset)

        async with opened(rig) as sink:
            await within(rig, sink.write(first))
            with pytest.raises(Unavailable):
                await within(rig, sink.write(wrong))

        await assert_holds(rig, [first])
        assert await position_found_by_a_successor(rig) == first.next_offset

    @needs("position")
    async def test_a_repeated_batch_is_there_once(self, rig: SinkRig) -> None:
        batch = make_batch(FIRST, FIRST + 1)

        for _ in range(2):
            async with opened(rig) as sink:
                for _ in range(2):
                    try:
                        await within(rig, sink.write(batch))
                    except Unavailable:
                        break

        await assert_holds(rig, [batch])

    @needs("position", "bare offset")
    async def test_a_resolved_start_is_kept_by_the_destination(self, rig: SinkRig) -> None:
        # protocol check, schedule 1: `latest` must stay what it was when the state store is wiped

        async with opened(rig) as sink:
            assert offset_of(await within(rig, sink.move(FIRST + 50))) == FIRST + 50
        async with opened(rig) as successor:
            found = await within(rig, successor.position())
            assert found == Position(FIRST + 50, SOURCE_ID, successor.destination, found.proof if found else "")
            with pytest.raises(Unavailable):
                await within(rig, successor.write(make_batch(FIRST + 60, from_offset=FIRST)))

        await assert_holds(rig, [])

    @needs("position", "bare offset")
    async def test_a_start_at_the_very_beginning_is_a_position(self, rig: SinkRig) -> None:
        batch = make_batch(FIRST, from_offset=0)

        async with opened(rig) as sink:
            assert offset_of(await within(rig, sink.move(0))) == 0
        assert await position_found_by_a_successor(rig) == 0
        async with opened(rig) as sink:
            await within(rig, sink.write(batch))

        await assert_holds(rig, [batch])

    @needs("position", "bare offset")
    async def test_the_position_can_be_moved_on(self, rig: SinkRig) -> None:
        first, last = make_batch(FIRST), make_batch(FIRST + 90, from_offset=FIRST + 90)

        async with opened(rig) as sink:
            await within(rig, sink.write(first))
            await within(rig, sink.move(FIRST + 90))
            await within(rig, sink.write(last))

        await assert_holds(rig, [first, last])

    @needs("position", "bare offset")
    async def test_the_position_can_be_moved_to_the_last_offset(self, rig: SinkRig) -> None:

        async with opened(rig) as sink:
            await within(rig, sink.move(OFFSET_MAX))

        assert await position_found_by_a_successor(rig) == OFFSET_MAX

    @needs("position", "bare offset")
    async def test_a_position_of_another_source_is_reported_as_such(self, rig: SinkRig) -> None:
        async with opened(rig) as sink:
            await within(rig, sink.write(make_batch(FIRST)))

        async with opened(rig, source_id="https://elsewhere.example.com/api/v4/1") as other:
            found = await within(rig, other.position())
            assert found is not None
            assert found.source == SOURCE_ID
            taken = await within(rig, other.move(FIRST + 1))  # a person decided
            assert taken is not None
            assert taken.source == "https://elsewhere.example.com/api/v4/1"

    @needs("position")
    async def test_an_interlude_counts_for_itself_and_the_position_comes_back(self, rig: SinkRig) -> None:
        # What an interlude does (docs/adr/0014): its events have places behind FIRST, and a source id of their own.
        before, behind = make_batch(FIRST), make_batch(FIRST + 1, FIRST + 2)
        told = [make_event(FIRST + 1 + n, id=f"{FIRST}-{n + 1}", place=f"{FIRST}-{n + 1}") for n in range(3)]
        during = f"{SOURCE_ID}#snapshot@{FIRST + 1}"

        async with opened(rig) as sink:
            await within(rig, sink.write(before))
        async with opened(rig, source_id=during) as sink:
            position = await within(rig, sink.move(FIRST + 1))
            assert position is not None
            await within(rig, sink.write(make_batch(*told[:2], from_offset=position.offset)))
        async with opened(rig, source_id=during) as sink:
            found = await within(rig, sink.position())
            assert found is not None
            assert (found.offset, found.source) == (FIRST + 3, during)
            await within(rig, sink.write(make_batch(told[2])))
        async with opened(rig) as sink:
            position = await within(rig, sink.move(FIRST + 1))
            assert position is not None
            await within(rig, sink.write(make_batch(FIRST + 1, FIRST + 2, from_offset=position.offset)))
            assert offset_of(await within(rig, sink.position())) == FIRST + 3

        await assert_holds(rig, [before, make_batch(*told), behind])

    # Fencing -------------------------------------------------------------------------------------------------------

    @needs("position", "fencing")
    async def test_opening_fences_the_predecessor(self, rig: SinkRig) -> None:
        first, second = make_batch(FIRST), make_batch(FIRST + 1, FIRST + 2)

        async with opened(rig) as predecessor:
            await within(rig, predecessor.write(first))
            async with opened(rig) as successor:
                with pytest.raises((Fenced, Unavailable)):
                    await within(rig, predecessor.write(second))
                with pytest.raises((Fenced, Unavailable)):
                    await within(rig, predecessor.move(FIRST + 90))
                assert offset_of(await within(rig, successor.position())) == first.next_offset
                await within(rig, successor.write(second))

        await assert_holds(rig, [first, second])

    @needs("position", "fencing")
    async def test_the_last_opener_wins(self, rig: SinkRig) -> None:
        batch = make_batch(FIRST)

        async with opened(rig) as first, opened(rig) as second, opened(rig) as third:
            for loser in (second, first):
                with pytest.raises((Fenced, Unavailable)):
                    await within(rig, loser.write(batch))
            await within(rig, third.write(batch))

        await assert_holds(rig, [batch])

    @needs("position", "fencing")
    async def test_a_successor_that_has_not_written_yet_fences_too(self, rig: SinkRig) -> None:
        # the pause of schedule 2: A sleeps before its first write, B opens and dies

        async with opened(rig) as sleeper:
            async with opened(rig):
                pass
            with pytest.raises((Fenced, Unavailable)):
                await within(rig, sleeper.write(make_batch(FIRST)))

        await assert_holds(rig, [])

    @needs("position", "expectation")
    async def test_of_two_writers_the_second_fails_whosever_it_is(self, rig: SinkRig) -> None:
        first, second = make_batch(FIRST), make_batch(FIRST, FIRST + 1)

        async with opened(rig) as predecessor, opened(rig) as successor:
            await within(rig, predecessor.write(first))
            with pytest.raises(Unavailable):
                await within(rig, successor.write(second))
        await go_on(rig, successor, [second])

        await assert_holds(rig, [first, make_batch(FIRST + 1)])

    @needs("lock")
    async def test_a_second_opener_is_refused_while_the_first_lives(self, rig: SinkRig) -> None:
        batches = [make_batch(FIRST), make_batch(FIRST + 1)]

        async with opened(rig) as first:
            await within(rig, first.write(batches[0]))
            second = rig.sink()
            with pytest.raises(Unavailable):
                await within(rig, second.open())
            await within(rig, second.close())
            await within(rig, first.write(batches[1]))
        assert await position_found_by_a_successor(rig) == FIRST + 2

        await assert_holds(rig, batches)
