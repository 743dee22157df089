"""The executable half of `oplogbridge.sink.DestinationReader`: what a sink has written, its reader finds.

    class TestKafkaReader(SinkReaderContract):
        @pytest.fixture
        async def rig(self, kafka, unique):
            yield KafkaRig(kafka, unique)

What a destination cannot do is waived as in `SinkContract`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, ClassVar

import pytest

from oplogbridge.errors import Misconfigured, Unavailable
from oplogbridge.sink import Delivered, DestinationReader, Lane
from oplogbridge.testing.sink_rig import (
    FIRST,
    SOURCE_ID,
    SinkRig,
    assert_nothing_left,
    make_batch,
    make_event,
    opened,
    within,
)
from oplogbridge.values import OFFSET_MAX, Batch, Event

MANY = 2_500  # more than one page of any reader


def cloudevent(sequence: int, **changes: Any) -> Event:
    """An event whose payload says what it is, which is all that some destinations show."""
    event = make_event(sequence, **changes)
    payload = b'{"specversion":"1.0","id":"%b","sequence":"%b","partitionkey":"%b","data":{"object":{}}}' % (
        event.id.encode(),
        event.number.zfill(19),
        event.key,
    )
    return make_event(sequence, **{"payload": payload, **changes})


def batch_of(*sequences: int, from_offset: int | None = None) -> Batch:
    return make_batch(*[cloudevent(sequence) for sequence in sequences], from_offset=from_offset)


class SinkReaderContract:
    """Subclass it, give it a `rig` fixture, waive with a reason."""

    waived: ClassVar[Mapping[str, str]] = {}

    @pytest.fixture
    def rig(self) -> SinkRig:
        raise NotImplementedError("a subclass of SinkReaderContract gives the rig")

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        assert all(cls.waived.values()), "a waiver needs a reason"
        for name in cls.waived:
            assert hasattr(SinkReaderContract, name), f"waived, but not in the suite: {name}"
            setattr(cls, name, None)

    async def test_what_was_written_is_read_in_order_with_sequence_key_and_payload(self, rig: SinkRig) -> None:
        batches = [batch_of(FIRST, FIRST + 3), batch_of(FIRST + 9, from_offset=FIRST + 4)]
        await written(rig, batches)

        async with reading(rig) as (reader, lanes):
            found = await all_of(rig, reader, lanes)

        assert_are(found, [event for batch in batches for event in batch.events], reader)

    async def test_many_pages_are_one_log(self, rig: SinkRig) -> None:
        step = min(rig.traits.events_max, MANY)
        batches = [batch_of(*range(at, min(at + step, FIRST + MANY))) for at in range(FIRST, FIRST + MANY, step)]
        await written(rig, batches)

        async with reading(rig) as (reader, lanes):
            found = await all_of(rig, reader, lanes)

        assert_are(found, [event for batch in batches for event in batch.events], reader)

    async def test_of_a_range_only_what_lies_in_it_is_read(self, rig: SinkRig) -> None:
        batch = batch_of(*range(FIRST, FIRST + 10))
        await written(rig, [batch])

        async with reading(rig) as (reader, lanes):
            middle = await all_of(rig, reader, lanes, FIRST + 3, FIRST + 6)
            none = await all_of(rig, reader, lanes, FIRST + 10, OFFSET_MAX)

        assert_are(middle, batch.events[3:6], reader)
        assert none == []

    async def test_a_destination_that_is_not_there_holds_nothing_and_is_not_made(self, rig: SinkRig) -> None:
        async with reading(rig) as (reader, lanes):
            assert await all_of(rig, reader, lanes) == []

        assert await rig.read_back() == []
        async with opened(rig) as sink:
            assert await within(rig, sink.position()) is None

    async def test_a_writer_is_not_harmed_and_what_he_adds_is_not_read(self, rig: SinkRig) -> None:
        batches = [batch_of(FIRST), batch_of(FIRST + 1)]

        async with opened(rig) as sink:
            await within(rig, sink.write(batches[0]))
            async with reading(rig) as (reader, lanes):
                await within(rig, sink.write(batches[1]))
                found = await all_of(rig, reader, lanes)
            await within(rig, sink.write(batch_of(FIRST + 2)))

        assert_are(found, batches[0].events, reader)

    async def test_what_retention_has_taken_is_known_to_be_trimmed(self, rig: SinkRig) -> None:
        batch = batch_of(*range(FIRST, FIRST + 10))
        await written(rig, [batch])

        async with reading(rig) as (_, lanes):
            assert {lane.first_kept for lane in lanes} == {None}
        await rig.trim(4)
        async with reading(rig) as (reader, lanes):
            found = await all_of(rig, reader, lanes)

        assert_are(found, batch.events[6:], reader)
        assert [lane.first_kept for lane in lanes] == [FIRST + 6]

    async def test_what_retention_takes_while_lanes_are_read_is_told_too(self, rig: SinkRig) -> None:
        batch = batch_of(*range(FIRST, FIRST + 10))
        await written(rig, [batch])

        async with reading(rig) as (reader, lanes):
            await rig.trim(4)
            found = await all_of(rig, reader, lanes)
            kept = await within(rig, reader.kept())

        assert_are(found, batch.events[6:], reader)
        assert [(lane.name, lane.first_kept) for lane in kept] == [(lanes[0].name, FIRST + 6)]

    async def test_an_event_beside_the_log_has_a_place(self, rig: SinkRig) -> None:
        place = f"{FIRST}-1"
        event = cloudevent(FIRST + 1, id=place, place=place, own_headers=(("Oplog-Place", place.encode()),))
        async with opened(rig) as sink:
            await within(rig, sink.write(batch_of(FIRST)))
        async with opened(rig, source_id=f"{SOURCE_ID}#snapshot@{FIRST + 1}") as sink:
            await within(rig, sink.move(FIRST + 1))
            await within(rig, sink.write(make_batch(event)))

        async with reading(rig) as (reader, lanes):
            log, beside = await all_of(rig, reader, lanes)

        assert (log.sequence, log.id, log.place) == (FIRST, str(FIRST), None)
        assert (beside.sequence, beside.id, beside.place) == (FIRST, place, place)

    async def test_a_destination_that_is_down_is_said_to_be(self, rig: SinkRig) -> None:
        await written(rig, [batch_of(FIRST)])
        reader = rig.reader()

        async with rig.down():
            with pytest.raises((Unavailable, Misconfigured)):
                await within(rig, reader.open())
            await within(rig, reader.close())
        async with reading(rig) as (reader, lanes):
            assert len(await all_of(rig, reader, lanes)) == 1

    async def test_closing_leaves_nothing_behind(self, rig: SinkRig) -> None:
        await written(rig, [batch_of(FIRST)])
        await rig.may_read()
        tasks, connections = asyncio.all_tasks(), await rig.connections()
        reader = rig.reader()

        lanes = await within(rig, reader.open())
        await anext(aiter(reader.pages(lanes[0], 0, OFFSET_MAX)))
        await within(rig, reader.close())
        await within(rig, reader.close())

        await assert_nothing_left(rig, tasks, connections)


async def written(rig: SinkRig, batches: Sequence[Batch]) -> None:
    async with opened(rig) as sink:
        for batch in batches:
            await within(rig, sink.write(batch))


@asynccontextmanager
async def reading(rig: SinkRig) -> AsyncIterator[tuple[DestinationReader, Sequence[Lane]]]:
    await rig.may_read()
    reader = rig.reader()
    try:
        yield reader, await within(rig, reader.open())
    finally:
        await within(rig, reader.close())


async def all_of(
    rig: SinkRig, reader: DestinationReader, lanes: Sequence[Lane], begin: int = 0, end: int = OFFSET_MAX
) -> list[Delivered]:
    async with asyncio.timeout(rig.deadline_seconds):
        return [one for lane in lanes async for page in reader.pages(lane, begin, end) for one in page]


def assert_are(found: Sequence[Delivered], events: Sequence[Event], reader: DestinationReader) -> None:
    def by_lane(told: Sequence[tuple[str, Any]]) -> dict[str, list[Any]]:
        lanes: dict[str, list[Any]] = {}
        for lane, one in told:
            lanes.setdefault(lane, []).append(one)
        return lanes

    assert by_lane([(one.lane, (one.sequence, one.id, one.key, one.payload)) for one in found]) == by_lane(
        [(reader.lane_of(one), (one.sequence, one.id, one.key, reader.shown(one))) for one in events]
    )
    assert {(one.place, one.replay) for one in found} <= {(None, None)}
