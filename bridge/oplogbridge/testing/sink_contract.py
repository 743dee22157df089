"""The executable half of the sink contract (`oplogbridge.sink`). Every sink passes it, ours like anyone's.

A sink's test file gives a `rig` and gets the suite:

    class TestKafkaSink(SinkContract):
        waived = {"test_a_foreign_writer_is_noticed": "topics may be shared"}

        @pytest.fixture
        async def rig(self, kafka, unique):
            yield KafkaRig(kafka, unique)

What a destination cannot do is waived by the test's name, with the reason; a reason is documentation, so write it for a
reader of the guarantees. Whole abilities (a position, fencing, …) are left out with `lacks`, and a test checks that the
destination lacks just those.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Set
from dataclasses import replace
from typing import Any, ClassVar, Literal, TypeVar

import pytest

from oplogbridge.errors import BridgeError, Fenced, Misconfigured, Rejected, Unavailable
from oplogbridge.sink import SinkContext
from oplogbridge.testing.sink_rig import (
    FIRST,
    SOURCE_ID,
    SinkRig,
    assert_ends_in_a_next_step,
    assert_holds,
    assert_nothing_left,
    chain,
    go_on,
    make_batch,
    make_event,
    offset_of,
    opened,
    position_found_by_a_successor,
    within,
)
from oplogbridge.values import OFFSET_MAX, SEQUENCE_MAX, Event, Position

Ability = Literal["position", "fencing", "lock", "size limit"]
Test = TypeVar("Test", bound=Callable[..., Any])


def needs(*abilities: Ability) -> Callable[[Test], Test]:
    """A point of the contract that only holds where the destination has these."""

    def mark(test: Test) -> Test:
        setattr(test, "needs", frozenset(abilities))  # noqa: B010
        return test

    return mark


class SinkContract:
    """Subclass it, give it a `rig` fixture, waive with a reason."""

    waived: ClassVar[Mapping[str, str]] = {}
    lacks: ClassVar[Set[Ability]] = frozenset({"lock"})  # most fence a predecessor that lives, a file locks him in

    @pytest.fixture
    def rig(self) -> SinkRig:
        raise NotImplementedError("a subclass of SinkContract gives the rig")

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Points that are waived, or that need what this destination lacks, are not collected: nothing is skipped."""
        super().__init_subclass__(**kwargs)
        unknown = [name for name in cls.waived if not hasattr(SinkContract, name)]
        assert not unknown, f"waived, but not in the suite: {unknown}"
        assert all(cls.waived.values()), "a waiver needs a reason"
        for name, test in list(vars(SinkContract).items()):
            if name in cls.waived or cls.lacks & getattr(test, "needs", frozenset()):
                setattr(cls, name, None)

    async def test_it_lacks_just_what_it_says(self, rig: SinkRig) -> None:
        has = {
            "position": rig.traits.holds_position,
            "fencing": rig.opening == "fences",
            "lock": rig.opening == "is refused",
            "size limit": rig.rejected_bytes is not None,
        }
        assert self.lacks == {ability for ability, present in has.items() if not present}

    # Delivering ----------------------------------------------------------------------------------------------------

    async def test_what_was_written_is_there_for_another_reader_in_order(self, rig: SinkRig) -> None:
        batches = [make_batch(FIRST, FIRST + 3), make_batch(FIRST + 9, from_offset=FIRST + 4)]

        async with opened(rig) as sink:
            for batch in batches:
                position = await within(rig, sink.write(batch))
                assert offset_of(position) == (batch.next_offset if rig.traits.holds_position else None)

        await assert_holds(rig, batches)

    async def test_what_was_written_can_be_read_while_the_sink_is_open(self, rig: SinkRig) -> None:
        batch = make_batch(FIRST)

        async with opened(rig) as sink:
            await within(rig, sink.write(batch))
            await assert_holds(rig, [batch])

    async def test_a_batch_prepared_while_another_is_written_arrives_as_any_other(self, rig: SinkRig) -> None:
        batches = [make_batch(FIRST, FIRST + 1), make_batch(FIRST + 5, FIRST + 7, from_offset=FIRST + 2)]
        batches.append(make_batch(FIRST + 8))

        async with opened(rig) as sink:
            prepared = await within(rig, sink.prepare(batches[0].events))
            for batch, following in zip(batches, [*batches[1:], make_batch(FIRST + 9)], strict=True):
                writing = asyncio.create_task(sink.write(replace(batch, prepared=prepared)))
                prepared = await within(rig, sink.prepare(following.events))
                position = await within(rig, writing)
                assert offset_of(position) == (batch.next_offset if rig.traits.holds_position else None)

        await assert_holds(rig, batches)  # and not what was prepared last

    async def test_a_prepared_batch_after_a_failed_one_is_nobodys(self, rig: SinkRig) -> None:
        """Closed and opened again, the sink writes what it is given then, whatever it once prepared."""
        lost, kept = make_batch(FIRST, FIRST + 1), make_batch(FIRST)

        async with opened(rig) as sink:
            await within(rig, sink.prepare(lost.events))
            await within(rig, sink.close())
            await within(rig, sink.open())
            await within(rig, sink.write(kept))

        await assert_holds(rig, [kept])

    async def test_every_byte_arrives(self, rig: SinkRig) -> None:
        odd = [
            make_event(FIRST, payload=b""),
            make_event(FIRST + 1, payload=bytes(range(256))),
            make_event(FIRST + 2, payload=b'{\r\n "a":\t"1"\n}\n'),
            make_event(FIRST + 3, payload='{"name":"Ærøskøbing \U0001f600"}'.encode()),
            make_event(FIRST + 4, key="user/åäö {}*\r\n".encode()),
            make_event(FIRST + 5, key=b"\x00\xff"),
            make_event(FIRST + 6, type="oplog.ordre-linje.opprette", operation="opprette"),
            make_event(FIRST + 7, constant_headers=(("Oplog-Source", "bérgen%20".encode()), ("Empty", b""))),
        ]
        batch = make_batch(*odd)

        async with opened(rig) as sink:
            await within(rig, sink.write(batch))

        await assert_holds(rig, [batch])

    async def test_the_largest_numbers_are_kept_exactly(self, rig: SinkRig) -> None:
        batches = [make_batch(2**53 + 1), make_batch(SEQUENCE_MAX - 1, SEQUENCE_MAX, from_offset=2**53 + 2)]
        assert batches[-1].next_offset == OFFSET_MAX

        async with opened(rig) as sink:
            for batch in batches:
                await within(rig, sink.write(batch))

        await assert_holds(rig, batches)
        if rig.traits.holds_position:
            assert await position_found_by_a_successor(rig) == OFFSET_MAX

    async def test_a_batch_of_events_max_is_one_write(self, rig: SinkRig) -> None:
        batch = make_batch(*range(FIRST, FIRST + rig.traits.events_max))

        async with opened(rig) as sink:
            await within(rig, sink.write(batch))

        await assert_holds(rig, [batch])

    async def test_an_event_of_bytes_max_is_written(self, rig: SinkRig) -> None:
        batch = make_batch(make_event(FIRST, payload=b"x" * rig.traits.bytes_max))

        async with opened(rig) as sink:
            await within(rig, sink.write(batch))

        await assert_holds(rig, [batch])

    async def test_one_byte_more_than_bytes_max_is_written_or_rejected_by_name(self, rig: SinkRig) -> None:
        large = make_event(FIRST, payload=b"x" * (rig.traits.bytes_max + 1))

        async with opened(rig) as sink:
            try:
                await within(rig, sink.write(make_batch(large)))
            except Rejected as rejected:
                named: Event | None = rejected.event
            else:
                named = None

        assert named in (large, None)
        await assert_holds(rig, [make_batch(large)] if named is None else [])

    @needs("size limit")
    async def test_an_event_that_is_too_large_is_named_and_what_came_before_it_is_durable(self, rig: SinkRig) -> None:
        assert rig.rejected_bytes is not None
        poison = make_event(FIRST + 2, payload=b"x" * rig.rejected_bytes)
        before, after = make_batch(FIRST, FIRST + 1, next_offset=poison.sequence), make_batch(FIRST + 3, FIRST + 4)

        async with opened(rig) as sink:
            with pytest.raises(Rejected) as rejected:
                await within(rig, sink.write(make_batch(*before.events, poison, *after.events)))
            assert rejected.value.event is poison
            await assert_holds(rig, [before])
            if rig.traits.holds_position:
                assert offset_of(await within(rig, sink.position())) == poison.sequence
            # and the sink goes on without being opened again
            rest = make_batch(*after.events, from_offset=poison.sequence)
            await within(rig, sink.write(rest))

        await assert_holds(rig, [before, rest])

    @needs("size limit")
    async def test_a_prepared_batch_with_an_event_that_is_too_large_is_written_up_to_it(self, rig: SinkRig) -> None:
        assert rig.rejected_bytes is not None
        poison = make_event(FIRST + 2, payload=b"x" * rig.rejected_bytes)
        before = make_batch(FIRST, FIRST + 1, next_offset=poison.sequence)
        whole = make_batch(*before.events, poison, FIRST + 3)

        async with opened(rig) as sink:
            prepared = await within(rig, sink.prepare(whole.events))
            with pytest.raises(Rejected) as rejected:
                await within(rig, sink.write(replace(whole, prepared=prepared)))
            assert rejected.value.event is poison

        await assert_holds(rig, [before])

    @needs("size limit")
    async def test_a_poison_event_at_the_front_leaves_everything_as_it_was(self, rig: SinkRig) -> None:
        assert rig.rejected_bytes is not None
        first, poison = make_batch(FIRST), make_event(FIRST + 5, payload=b"x" * rig.rejected_bytes)

        async with opened(rig) as sink:
            await within(rig, sink.write(first))
            with pytest.raises(Rejected):
                await within(rig, sink.write(make_batch(poison, FIRST + 6, from_offset=first.next_offset)))
            if rig.traits.holds_position:
                assert offset_of(await within(rig, sink.position())) == first.next_offset
            # and the sink goes on without being opened again, as it does behind a dead letter: twice, so that what the
            # refusal left behind in its bookkeeping shows
            rest = [make_batch(FIRST + 6, from_offset=first.next_offset), make_batch(FIRST + 7)]
            for batch in rest:
                await within(rig, sink.write(batch))

        await assert_holds(rig, [first, *rest])

    # The position --------------------------------------------------------------------------------------------------

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

    @needs("position")
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

    @needs("position")
    async def test_a_start_at_the_very_beginning_is_a_position(self, rig: SinkRig) -> None:
        batch = make_batch(FIRST, from_offset=0)

        async with opened(rig) as sink:
            assert offset_of(await within(rig, sink.move(0))) == 0
        assert await position_found_by_a_successor(rig) == 0
        async with opened(rig) as sink:
            await within(rig, sink.write(batch))

        await assert_holds(rig, [batch])

    @needs("position")
    async def test_the_position_can_be_moved_on(self, rig: SinkRig) -> None:
        first, last = make_batch(FIRST), make_batch(FIRST + 90, from_offset=FIRST + 90)

        async with opened(rig) as sink:
            await within(rig, sink.write(first))
            await within(rig, sink.move(FIRST + 90))
            await within(rig, sink.write(last))

        await assert_holds(rig, [first, last])

    @needs("position")
    async def test_the_position_can_be_moved_to_the_last_offset(self, rig: SinkRig) -> None:

        async with opened(rig) as sink:
            await within(rig, sink.move(OFFSET_MAX))

        assert await position_found_by_a_successor(rig) == OFFSET_MAX

    @needs("position")
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

    # Faults --------------------------------------------------------------------------------------------------------

    async def test_a_destination_that_is_down_is_unavailable_and_works_again(self, rig: SinkRig) -> None:
        batches = [make_batch(FIRST), make_batch(FIRST + 1)]
        sink = rig.sink()
        await within(rig, sink.open())
        await within(rig, sink.write(batches[0]))

        async with rig.down():
            with pytest.raises(Unavailable):
                await within(rig, sink.write(batches[1]))
            await within(rig, sink.close())
            with pytest.raises(Unavailable):
                await within(rig, sink.open())
            await within(rig, sink.close())
        await go_on(rig, sink, batches[1:])

        await assert_holds(rig, batches)

    @pytest.mark.parametrize("where", ["request", "reply"])
    async def test_a_write_that_is_cut_off_is_whole_or_not_there(
        self, rig: SinkRig, where: Literal["request", "reply"]
    ) -> None:
        batches = [make_batch(FIRST), make_batch(*range(FIRST + 1, FIRST + 51)), make_batch(FIRST + 51)]
        sink = rig.sink()
        await within(rig, sink.open())
        await within(rig, sink.write(batches[0]))

        async with rig.cut(where):
            with pytest.raises(Unavailable):
                await within(rig, sink.write(batches[1]))
        await within(rig, sink.close())
        await go_on(rig, sink, batches[1:])

        await assert_holds(rig, batches)

    async def test_a_write_can_be_cancelled_anywhere(self, rig: SinkRig) -> None:
        tasks_before, connections_before = asyncio.all_tasks(), await rig.connections()
        batches = [make_batch(FIRST + index, FIRST + index + 1) for index in range(0, 2 * rig.cancel_points_max, 2)]

        for awaits, batch in enumerate(batches):
            sink = rig.sink()
            await within(rig, sink.open())
            if rig.traits.holds_position:
                assert offset_of(await within(rig, sink.position())) in (None, batch.from_offset)
            write = asyncio.ensure_future(sink.write(batch))
            for _ in range(awaits):
                await asyncio.sleep(0)
            write.cancel()
            await asyncio.wait([write])
            await within(rig, sink.close())
            if rig.traits.holds_position:
                await go_on(rig, sink, [batch])

        await assert_nothing_left(rig, tasks_before, connections_before)
        if rig.traits.holds_position:
            await assert_holds(rig, batches)

    @needs("position")
    async def test_a_foreign_writer_is_noticed(self, rig: SinkRig) -> None:

        async with opened(rig) as sink:
            await within(rig, sink.write(make_batch(FIRST)))
            await rig.write_foreign()
            with pytest.raises(Misconfigured) as stopped:
                await within(rig, sink.write(make_batch(FIRST + 1)))
            assert_ends_in_a_next_step(stopped.value)

    @needs("position")
    async def test_a_foreign_writer_is_noticed_by_the_next_opener(self, rig: SinkRig) -> None:
        async with opened(rig) as sink:
            await within(rig, sink.write(make_batch(FIRST)))
        await rig.write_foreign()
        sink = rig.sink()

        with pytest.raises(Misconfigured):
            await within(rig, sink.open())
        await within(rig, sink.close())

    @needs("position")
    async def test_a_destination_of_another_pipeline_is_left_to_it(self, rig: SinkRig) -> None:
        batches = [make_batch(FIRST), make_batch(FIRST + 1)]
        async with opened(rig) as sink:
            await within(rig, sink.write(batches[0]))

        intruder = rig.sink(owner="bridge.payments")
        with pytest.raises(Misconfigured) as stopped:
            await within(rig, intruder.open())
        assert_ends_in_a_next_step(stopped.value)
        with pytest.raises(BridgeError):
            await within(rig, intruder.write(batches[1]))
        await within(rig, intruder.close())
        async with opened(rig) as sink:
            await within(rig, sink.write(batches[1]))

        await assert_holds(rig, batches)

    @needs("position")
    async def test_a_destination_that_somebody_else_filled_is_not_taken(self, rig: SinkRig) -> None:
        await rig.write_foreign()
        before = await rig.read_back()
        sink = rig.sink()

        for _ in range(2):  # a slow retry must not get past it
            with pytest.raises(Misconfigured) as stopped:
                await within(rig, sink.open())
            await within(rig, sink.close())

        assert_ends_in_a_next_step(stopped.value)
        assert await rig.read_back() == before

    @needs("position")
    async def test_a_person_can_decide_about_what_stands_there(self, rig: SinkRig) -> None:
        # `offsets set` moves a sink whose `open` was refused; the pipeline never does
        await rig.write_foreign()
        before = await rig.read_back()
        sink = rig.sink()
        with pytest.raises(Misconfigured):
            await within(rig, sink.open())

        await within(rig, sink.move(FIRST + 90))
        await within(rig, sink.close())
        async with opened(rig) as sink:
            assert offset_of(await within(rig, sink.position())) == FIRST + 90
            batch = make_batch(FIRST + 90)
            await within(rig, sink.write(batch))

        assert await rig.read_back() == [*before, *map(rig.expected, batch.events)]

    @needs("position")
    async def test_lost_writes_show_in_the_position(self, rig: SinkRig) -> None:
        # schedule 7: the heartbeat and every reconnect compare; the sink only has to be honest
        batches = [make_batch(FIRST), make_batch(FIRST + 1), make_batch(FIRST + 2)]

        async with opened(rig) as sink:
            await within(rig, sink.write(batches[0]))
            await within(rig, sink.write(batches[1]))
        await rig.lose_writes()
        assert await position_found_by_a_successor(rig) == batches[1].from_offset
        async with opened(rig) as successor:
            await within(rig, successor.write(batches[1]))
            await within(rig, successor.write(batches[2]))

        await assert_holds(rig, batches)

    # Leaving -------------------------------------------------------------------------------------------------------

    async def test_closing_is_allowed_at_any_time(self, rig: SinkRig) -> None:
        sink = rig.sink()
        await within(rig, sink.close())
        await within(rig, sink.open())
        await within(rig, sink.close())
        await within(rig, sink.close())

        await within(rig, sink.open())  # and it can be opened again
        await within(rig, sink.write(make_batch(FIRST)))
        await within(rig, sink.close())

    async def test_closing_leaves_no_task_and_no_connection(self, rig: SinkRig) -> None:
        tasks_before, connections_before = asyncio.all_tasks(), await rig.connections()

        async with opened(rig) as sink:
            await within(rig, sink.write(make_batch(FIRST)))

        await assert_nothing_left(rig, tasks_before, connections_before)

    async def test_a_sink_that_is_not_open_refuses(self, rig: SinkRig) -> None:
        sink = rig.sink()
        with pytest.raises(Unavailable):
            await within(rig, sink.write(make_batch(FIRST)))
        with pytest.raises(Unavailable):
            await within(rig, sink.position())

        await assert_holds(rig, [])

    # What it shows -------------------------------------------------------------------------------------------------

    async def test_nothing_secret_is_shown(self, rig: SinkRig) -> None:
        sink = rig.sink()
        context = SinkContext(owner="bridge.orders", pipeline="orders", source="shop", source_id=SOURCE_ID)
        shown = [repr(sink), sink.destination, repr(rig.settings), str(rig.settings), rig.settings.model_dump_json()]
        shown += rig.plugin.permissions(rig.settings, context)
        if rig.secrets:  # then it is something that one connects to
            async with rig.down():
                with pytest.raises(BridgeError) as failed:
                    await within(rig, sink.open())
                shown += chain(failed.value)
                await within(rig, sink.close())

        for secret in rig.secrets:
            assert not [text for text in shown if secret in text]

    async def test_the_plugin_describes_itself(self, rig: SinkRig) -> None:
        plugin, traits = rig.plugin, rig.traits
        assert plugin.settings.model_config.get("frozen") is True
        assert plugin.settings.model_config.get("extra") == "forbid"
        assert plugin.summary
        assert "\n" not in plugin.summary
        assert traits.events_max >= 1
        assert traits.bytes_max >= 1
        assert rig.sink().destination == rig.sink().destination != ""
