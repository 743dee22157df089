"""What a batch looks like in Kafka: partitions, order, time, compression, sizes."""

from __future__ import annotations

import random
import time
from itertools import groupby, pairwise

import msgspec
import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.partitioner import murmur2 as the_clients_murmur2

from kafka_reader import make_topic
from kafka_world import World, sequence_of
from oplogbridge import Batch, Event, Misconfigured, Rejected, Unavailable
from oplogbridge.testing import make_batch, make_event
from oplogbridge.testing.sink_rig import FIRST
from oplogbridge_sinks.kafka.cluster import Cluster
from oplogbridge_sinks.kafka.orphans import PATIENCE_SECONDS_MAX
from services import KafkaServer

_REFUSALS_MAX = 8


@pytest.fixture
def world(kafka_server: KafkaServer, unique: str) -> World:
    return World(kafka_server.bootstrap_servers, unique)


def noise(sequence: int, size_bytes: int) -> Event:
    return make_event(sequence, payload=random.Random(sequence).randbytes(size_bytes))


async def test_a_batch_of_four_pages_keeps_every_keys_order(world: World) -> None:
    chosen = random.Random(7)
    events = [make_event(FIRST + n, key=b"user/%d" % chosen.randrange(500)) for n in range(4000)]
    async with world.opened(create=True, partitions=4) as sink:
        await sink.write(make_batch(*events))

    records = await world.records()

    assert len(records) == 4000
    assert {record.partition for record in records} == {0, 1, 2, 3}
    assert all(record.partition == (the_clients_murmur2(record.key) & 0x7FFFFFFF) % 4 for record in records)
    for _, of_partition in groupby(records, key=lambda record: record.partition):
        sequences = [sequence_of(record) for record in of_partition]
        assert sequences == sorted(sequences)
    by_sequence = {sequence_of(record): record.value for record in records}
    assert by_sequence == {event.sequence: event.payload for event in events}


async def test_records_carry_the_time_of_the_write(world: World) -> None:
    before_ms = int(time.time() * 1000)
    async with world.opened(create=True) as sink:
        await sink.write(make_batch(make_event(FIRST, time="2015-02-05T08:15:17Z")))
    (record,) = await world.records()
    assert before_ms <= record.timestamp_ms <= time.time() * 1000


@pytest.mark.parametrize("compression", ["zstd", "none", "gzip", "snappy", "lz4"])
async def test_every_compression_can_be_read(world: World, compression: str) -> None:
    events = [make_event(FIRST + n, payload=b'{"n":%d,"text":"again and again"}' % n) for n in range(2000)]
    async with world.opened(create=True, compression=compression) as sink:
        await sink.write(make_batch(*events))
    assert [record.value for record in await world.records()] == [event.payload for event in events]


async def test_what_does_not_fit_into_one_batch_goes_in_several(world: World) -> None:
    events = [noise(FIRST + n, 20_000) for n in range(200)]  # 4 MB that no compression makes smaller
    async with world.opened(create=True, partitions=2) as sink:
        await sink.write(make_batch(*events))
    records = await world.records()
    assert sorted(sequence_of(record) for record in records) == [event.sequence for event in events]


async def test_a_too_large_event_among_four_partitions(world: World) -> None:
    events = [noise(FIRST + n, 100) for n in range(400)]
    events[250] = poison = noise(FIRST + 250, 1_100_000)
    events[300] = noise(FIRST + 300, 1_100_000)
    async with world.opened(create=True, partitions=4) as sink:
        with pytest.raises(Rejected, match=r"max\.message\.bytes") as rejected:
            await sink.write(make_batch(*events))
        assert rejected.value.event is poison
        position = await sink.position()
        assert position is not None
        assert position.offset == poison.sequence
        await sink.write(make_batch(*events[251:300], from_offset=poison.sequence))

    delivered = sorted(await world.sequences())
    assert delivered == [event.sequence for event in [*events[:250], *events[251:300]]]


async def test_a_topic_with_a_limit_of_its_own(world: World) -> None:
    await make_topic(world.servers, world.topic, 1, {"max.message.bytes": "20000"})
    events = [noise(FIRST + n, 5000) for n in range(20)]
    async with world.opened(create=True) as sink:
        await sink.write(make_batch(*events))
        with pytest.raises(Rejected):
            await sink.write(make_batch(noise(FIRST + 20, 25_000)))
    assert await world.sequences() == [event.sequence for event in events]


async def test_a_limit_that_may_not_be_read_is_learned(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    async def no_right(*_: object) -> None:
        return None

    monkeypatch.setattr(Cluster, "configs", no_right)
    await make_topic(world.servers, world.topic, 1, {"max.message.bytes": "20000"})
    events = [noise(FIRST + n, 5000) for n in range(10)]
    events[6] = poison = noise(FIRST + 6, 25_000)
    batch = make_batch(*events)

    rejected = await refused_at_last(world, batch)

    assert rejected is not None
    assert rejected.event is poison
    assert await world.sequences() == [event.sequence for event in events[:6]]


async def refused_at_last(world: World, batch: Batch) -> Rejected | None:
    """What a pipeline does: a new sink for each opening. None when everything was delivered."""
    waits_seconds: set[float | None] = set()
    for _ in range(_REFUSALS_MAX):  # each teaches something, and costs a producer
        async with world.opened(create=True) as sink:
            try:
                await sink.write(batch)
            except Rejected as rejected:
                return rejected
            except Unavailable as refused:
                waits_seconds.add(refused.retry_after_seconds)
            else:
                return None
        assert waits_seconds == {0}
    raise AssertionError("nothing is learned from the refusals")


async def test_a_topic_that_the_broker_keeps_uncompressed_is_delivered_to(world: World) -> None:
    """Its limit holds for batches that were measured compressed: for ever the same refusal, once."""
    await make_topic(world.servers, world.topic, 1, {"compression.type": "uncompressed"})
    events = [make_event(FIRST + n, payload=b"x" * 2000) for n in range(2000)]

    assert await refused_at_last(world, make_batch(*events)) is None

    assert await world.sequences() == [event.sequence for event in events]


async def test_an_event_that_only_uncompressed_is_too_large_is_rejected_and_no_other(world: World) -> None:
    await make_topic(world.servers, world.topic, 1, {"compression.type": "uncompressed"})
    poison, ordinary = make_event(FIRST + 1, payload=b"x" * 1_500_000), noise(FIRST + 2, 5000)

    rejected = await refused_at_last(world, make_batch(FIRST, poison, ordinary))
    assert rejected is not None
    assert rejected.event is poison
    async with world.opened() as sink:
        await sink.write(make_batch(ordinary, from_offset=poison.sequence))

    assert await world.sequences() == [FIRST, FIRST + 2]


async def test_topics_may_be_shared_and_somebody_elses_transaction_is_left_alone(world: World) -> None:
    await make_topic(world.servers, world.topic, 1)
    async with AIOKafkaProducer(bootstrap_servers=world.servers, transactional_id=f"{world.name}.other") as other:
        await other.begin_transaction()
        await other.send_and_wait(world.topic, b"theirs", headers=[("Oplog-Sequence", b"0")])

        began = time.monotonic()
        async with world.opened(create=True) as sink:
            await sink.write(make_batch(FIRST))
        async with world.opened() as sink:
            assert time.monotonic() - began < 2 * PATIENCE_SECONDS_MAX  # nobody waits for it
            await sink.write(make_batch(FIRST + 1))
        await other.commit_transaction()

    assert await world.sequences() == [0, FIRST, FIRST + 1]


async def test_somebody_elses_transaction_in_the_checkpoint_needs_a_person(world: World) -> None:
    async with world.opened(create=True):
        pass
    async with AIOKafkaProducer(bootstrap_servers=world.servers, transactional_id=f"{world.name}.other") as other:
        await other.begin_transaction()
        await other.send_and_wait(world.checkpoint, b"theirs", key=b"theirs")
        sink = world.sink()
        with pytest.raises(Misconfigured, match=r"kafka-transactions\.sh abort"):
            await sink.open()
        await sink.close()
        await other.abort_transaction()

    async with world.opened() as sink:
        assert await sink.position() is None


async def test_an_offset_below_zero_is_refused(world: World) -> None:
    async with world.opened(create=True) as sink:
        for offset in (-1, 2**63 + 1):
            with pytest.raises(Misconfigured):
                await sink.move(offset)
            await sink.close()
            await sink.open()


async def test_a_tombstone_stands_right_behind_its_delete(world: World) -> None:
    chosen = random.Random(7)
    deletes = {FIRST + n for n in range(3000) if chosen.random() < 0.3}
    events = [
        make_event(sequence, key=b"user/%d" % chosen.randrange(200), tombstone=sequence in deletes)
        for sequence in range(FIRST, FIRST + 3000)
    ]
    async with world.opened(create=True, partitions=4) as sink:
        position = await sink.write(make_batch(*events))
    assert position is not None
    assert position.offset == FIRST + 3000

    records = await world.records()

    seen = [record for record in records if record.value is not None]
    assert sorted(sequence_of(record) for record in seen) == [event.sequence for event in events]
    tombstones = [(before, record) for before, record in pairwise(records) if record.value is None]
    assert {sequence_of(record) for _, record in tombstones} == deletes
    assert len(tombstones) == len(deletes)
    for delete, tombstone in tombstones:
        assert (delete.partition, delete.key, sequence_of(delete)) == (
            tombstone.partition,
            tombstone.key,
            sequence_of(tombstone),
        )
        assert tombstone.headers == (("Oplog-Source", b"shop"), ("Oplog-Sequence", b"%d" % sequence_of(delete)))


async def test_a_delete_and_its_tombstone_are_never_in_two_batches(world: World) -> None:
    await make_topic(world.servers, world.topic, 1, {"max.message.bytes": "20000"})
    events = [noise(FIRST + n, 4000 + n) for n in range(40)]
    events = [msgspec.structs.replace(event, tombstone=True) for event in events]
    async with world.opened(create=True) as sink:
        await sink.write(make_batch(*events))
        with pytest.raises(Rejected) as rejected:
            await sink.write(make_batch(make_event(FIRST + 40, payload=noise(1, 25_000).payload, tombstone=True)))
        assert rejected.value.event.sequence == FIRST + 40
        await sink.write(make_batch(FIRST + 41, from_offset=FIRST + 40))

    records = await world.records()

    expected = [pair for event in events for pair in ((event.sequence, False), (event.sequence, True))]
    assert [(sequence_of(record), record.value is None) for record in records] == [*expected, (FIRST + 41, False)]


async def test_attributes_in_headers_are_those_of_the_event(world: World) -> None:
    shared, own = (
        (("content-type", b"application/json"), ("ce_type", b"t")),
        (("ce_id", b"1"), ("ce_subject", "å".encode())),
    )
    events = [make_event(FIRST + n, constant_headers=shared, own_headers=own[: n + 1]) for n in range(2)]
    async with world.opened(create=True) as sink:
        await sink.write(make_batch(*events))

    assert [record.headers for record in await world.records()] == [event.headers for event in events]
