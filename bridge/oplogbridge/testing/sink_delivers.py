"""What a sink delivers: every byte, in order, within its bounds, up to an event that is refused."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from oplogbridge.errors import Rejected
from oplogbridge.testing.sink_points import needs
from oplogbridge.testing.sink_rig import (
    FIRST,
    SinkRig,
    assert_holds,
    make_batch,
    make_event,
    offset_of,
    opened,
    position_found_by_a_successor,
    within,
)
from oplogbridge.values import OFFSET_MAX, SEQUENCE_MAX, Event


class Delivers:
    """Points of the contract that ask what arrived."""

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
            make_event(FIRST + 8, own_headers=(("ce_id", b"8"), ("ce_subject", b"user/b%C3%A9rgen"))),
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
