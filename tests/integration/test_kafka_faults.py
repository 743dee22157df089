"""Kills, of the writer and of the broker, and what the broker forgets when it dies at the wrong moment."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Mapping
from itertools import groupby
from pathlib import Path

import pytest
from aiokafka import TopicPartition

from kafka_reader import make_topic
from kafka_world import World, deliver, sequence_of
from oplogbridge import Batch, Unavailable
from oplogbridge.testing import make_batch, make_event
from oplogbridge.testing.proxy import FaultProxy
from oplogbridge.testing.sink_rig import FIRST
from oplogbridge_sinks.kafka.batches import CODECS, TopicLimits, build, single
from oplogbridge_sinks.kafka.checkpoint import Checkpoint, WrittenTopic, encode
from oplogbridge_sinks.kafka.cluster import Cluster
from oplogbridge_sinks.kafka.producer import Producer
from services import KafkaServer

_BATCHES, _BATCH_EVENTS = 30, 50

_WRITER = """
import asyncio, sys
from kafka_world import World
from oplogbridge.testing import make_batch, make_event

async def main(servers, name, topic):
    sink = World(servers, name).sink(create=True, partitions=2, topic=topic)
    position = await sink.open()
    offset = position.offset if position else 1
    while True:  # a new type with each thousand, beside two that every batch has
        types = ["user", "order", f"type{offset // 1000}"]
        events = [
            make_event(n, object_type=types[n % 3], tombstone=n % 4 == 0) for n in range(offset, offset + 200)
        ]
        position = await sink.write(make_batch(*events))
        offset = position.offset
        print(offset, flush=True)

asyncio.run(main(*sys.argv[1:]))
"""


def _batches() -> list[Batch]:
    begins = range(FIRST, FIRST + _BATCHES * _BATCH_EVENTS, _BATCH_EVENTS)
    return [make_batch(*range(begin, begin + _BATCH_EVENTS)) for begin in begins]


@pytest.mark.parametrize("template", ["{source}", "{type}"])
async def test_a_writer_that_is_killed_loses_and_repeats_nothing(
    kafka_server: KafkaServer, unique: str, template: str
) -> None:
    """Into one topic, or into several by one transaction: all of them show a batch, or none does."""
    world = World(kafka_server.bootstrap_servers, unique)
    topic = f"{unique}.{template}"
    paths = [str(Path(__file__).parents[2] / part) for part in ("tests", "bridge", "sinks")]
    acknowledged = 1

    for kill in range(4):
        writer = await asyncio.create_subprocess_exec(
            sys.executable, "-c", _WRITER, world.servers, world.name, topic,
            env={"PYTHONPATH": ":".join(paths)}, stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        assert writer.stdout is not None
        for _ in range(3 + kill):  # and dies somewhere in the write after these
            acknowledged = int(await asyncio.wait_for(writer.stdout.readline(), 20))
        writer.kill()
        acknowledged = max([acknowledged, *map(int, (await writer.stdout.read()).split())])
        await writer.wait()

    async with world.opened(topic=topic) as sink:
        position = await sink.position()
    assert position is not None
    assert position.offset >= acknowledged
    topics = await world.topics()
    assert len(topics) == 1 if template == "{source}" else len(topics) > 3
    delivered: list[int] = []
    tombstones: list[int] = []
    for name in topics:
        records = await world.records(name)
        for _, of_partition in groupby(records, key=lambda record: record.partition):
            of_one = list(of_partition)
            sequences = [sequence_of(record) for record in of_one]
            assert sequences == sorted(sequences)
            delivered += [sequence_of(record) for record in of_one if record.value is not None]
            tombstones += [sequence_of(record) for record in of_one if record.value is None]
    assert sorted(delivered) == list(range(1, position.offset))
    assert sorted(tombstones) == list(range(4, position.offset, 4))


async def test_a_broker_that_is_killed_while_it_is_written_to(own_kafka: Callable[..., KafkaServer]) -> None:
    server = own_kafka()
    world = World(server.bootstrap_servers, "killed")
    batches = _batches()
    sink = world.sink(create=True, partitions=2, timeout="5s")
    first_ones = 5

    await deliver(sink, batches[:first_ones])
    delivery = asyncio.create_task(deliver(sink, batches))
    await asyncio.to_thread(server.kill)
    await asyncio.to_thread(server.restart)
    await delivery

    expected = list(range(FIRST, FIRST + _BATCHES * _BATCH_EVENTS))
    assert sorted(await world.sequences()) == expected


async def test_what_was_acknowledged_outlives_a_broker_that_dies_at_once(
    own_kafka: Callable[..., KafkaServer],
) -> None:
    """The broker's own defect: a transaction that it forgets to end. One kill in four meets it (`make chaos
    FAULT=kafka-orphans` goes on until three have)."""
    server = own_kafka()
    world = World(server.bootstrap_servers, "forgotten")

    for sequence in range(1, 3):
        async with world.opened(create=True, partitions=2) as sink:
            await sink.write(make_batch(sequence))
            await asyncio.to_thread(server.kill)
        await asyncio.to_thread(server.restart)
        async with world.opened() as sink:
            position = await sink.position()
            assert position is not None
            assert position.offset == sequence + 1

    assert sorted(await world.sequences()) == list(range(1, sequence + 1))


async def test_a_broker_that_does_not_answer_is_unavailable_in_time(kafka_server: KafkaServer, unique: str) -> None:
    async with FaultProxy("127.0.0.1", kafka_server.behind_proxy_port, port=kafka_server.proxied_port) as proxy:
        world = World(kafka_server.proxied_bootstrap_servers, unique)
        sink = world.sink(create=True, timeout="3s")
        await sink.open()
        await sink.write(make_batch(FIRST))
        proxy.stall()
        async with asyncio.timeout(20):
            with pytest.raises(Unavailable, match="within 3s"):
                await sink.write(make_batch(FIRST + 1))
            await sink.close()
            with pytest.raises(Unavailable):
                await sink.open()
            await sink.close()
        proxy.heal()
        assert await deliver(sink, [make_batch(FIRST + 1)]) == 1
    assert await World(kafka_server.bootstrap_servers, unique).sequences() == [FIRST, FIRST + 1]


async def test_no_broker_at_all_is_unavailable_at_once(unique: str) -> None:
    sink = World("127.0.0.1:1", unique).sink()
    async with asyncio.timeout(10):
        with pytest.raises(Unavailable):
            await sink.open()
        await sink.close()


# Orphans, made by hand: records of our producer id that the coordinator knows nothing of ----------------------------


class Forger:
    """Writes with the pipeline's transactional id as a sink does, but hides partitions from the coordinator."""

    def __init__(self, world: World, server: KafkaServer) -> None:
        self._world = world
        self._connection = {"bootstrap_servers": [server.bootstrap_servers]}

    async def transact(
        self,
        sequences: list[int],
        checkpoint: int | None,
        *,
        hidden: list[TopicPartition],
        commit: bool,
        topics: Mapping[int, str] | None = None,
    ) -> None:
        """`topics` names the topic of each sequence where they are several, each with one partition."""
        world = self._world
        producer = Producer(self._connection, world.owner, 10, 60)
        await producer.start()
        names = {world.topic} if topics is None else set(topics.values())
        found = await Cluster(producer.client).topics(names)
        written = {name: WrittenTopic(topic.id, len(topic.leaders)) for name, topic in found.items()}
        destination = f"kafka:{world.topic if topics is None else world.by_type}"
        await producer.begin([])
        producer._transactions._txn_partitions.update(hidden)
        futures = []
        for sequence in sequences:
            partition = TopicPartition(world.topic, sequence % 2)
            if topics is not None:
                partition = TopicPartition(topics[sequence], 0)
            (batch,) = (await build([make_event(sequence)], TopicLimits(), CODECS["none"], 1)).batches
            futures.append(await producer.send(batch, partition))
        if checkpoint is not None:
            value = encode(Checkpoint(checkpoint, "https://run.example.com/api/v4/1", destination, written))
            record = await single(world.owner.encode(), value, 1, CODECS["none"])
            futures.append(await producer.send(record, TopicPartition(world.checkpoint, 0)))
        await producer.delivered(futures)
        if commit:
            producer._transactions._txn_partitions.difference_update(hidden)
            await producer.commit()
        await producer.discard()


@pytest.fixture
def trusting_kafka(own_kafka: Callable[..., KafkaServer]) -> KafkaServer:
    """A broker that takes a transaction's records without asking the coordinator, as all did before 3.6."""
    return own_kafka(config={"transaction.partition.verification.enable": "false"})


async def test_orphans_end_as_their_transaction_did(trusting_kafka: KafkaServer) -> None:
    world = World(trusting_kafka.bootstrap_servers, "orphans")
    forger = Forger(world, trusting_kafka)
    data = [TopicPartition(world.topic, number) for number in range(2)]
    checkpoint = TopicPartition(world.checkpoint, 0)
    async with world.opened(create=True, partitions=2) as sink:
        await sink.write(make_batch(10, 11))

    async def opened_at() -> int:
        async with world.opened(timeout="5s") as sink:  # within which the broker is given time to end them itself
            position = await sink.position()
            assert position is not None
            return position.offset

    # Nothing of it can be read: it is aborted, and the events may be sent again.
    await forger.transact([12, 13], 14, hidden=[*data, checkpoint], commit=False)
    assert await opened_at() == 12
    assert sorted(await world.sequences()) == [10, 11]

    # The checkpoint covers records that stand open: they are committed.
    await forger.transact([12, 13], 14, hidden=data, commit=True)
    assert await opened_at() == 14
    assert sorted(await world.sequences()) == [10, 11, 12, 13]

    # One partition shows its part, the other and the checkpoint stand open: they are committed.
    await forger.transact([14, 15], 16, hidden=[data[0], checkpoint], commit=True)
    assert await opened_at() == 16
    assert sorted(await world.sequences()) == [10, 11, 12, 13, 14, 15]

    # And the pipeline goes on.
    async with world.opened() as sink:
        await sink.write(make_batch(16))
    assert sorted(await world.sequences()) == list(range(10, 17))


@pytest.mark.parametrize("broker", ["remembers transactions", "is older than 3.0"])
async def test_an_orphan_in_a_topic_that_no_committed_checkpoint_names_yet(
    trusting_kafka: KafkaServer, broker: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its checkpoint was ended and it was not: an acknowledged event, aborted with the next transaction that was."""
    if broker == "is older than 3.0":

        async def nothing(_: Producer) -> None:
            return None

        monkeypatch.setattr(Producer, "_last_transaction", nothing)
    world = World(trusting_kafka.bootstrap_servers, "new")
    forger = Forger(world, trusting_kafka)
    order, invoice = f"{world.name}.order", f"{world.name}.invoice"
    async with world.opened(create=True, partitions=1, topic=world.by_type) as sink:
        await sink.write(make_batch(make_event(10, object_type="order")))
    await make_topic(world.servers, invoice, 1)

    await forger.transact(
        [11, 12], 13, commit=True, topics={11: invoice, 12: order},
        hidden=[TopicPartition(invoice, 0), TopicPartition(world.checkpoint, 0)],
    )  # fmt: skip
    async with world.opened(topic=world.by_type) as sink:
        position = await sink.position()
        assert position is not None
        assert position.offset == 13
    await forger.transact([13], None, hidden=[], commit=False, topics={13: invoice})  # and a kill before its commit
    async with world.opened(topic=world.by_type) as sink:
        await sink.write(make_batch(make_event(13, object_type="invoice")))

    assert await world.sequences(order) == [10, 12]
    assert await world.sequences(invoice) == [11, 13]


async def test_a_producer_whose_throwing_away_is_cancelled_is_thrown_away_by_close(
    kafka_server: KafkaServer, unique: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sink = World(kafka_server.bootstrap_servers, unique).sink(create=True)
    await sink.open()
    discarding, discards = asyncio.Event(), []
    discard = Producer.discard

    async def slow(producer: Producer) -> None:
        discards.append(producer)
        if len(discards) == 1:
            discarding.set()
            await asyncio.Event().wait()  # until it is cancelled
        await discard(producer)

    async def failing(*_: object) -> None:
        raise OSError("the broker is gone")

    monkeypatch.setattr(Producer, "discard", slow)
    monkeypatch.setattr(Producer, "begin", failing)
    write = asyncio.create_task(sink.write(make_batch(FIRST)))
    await discarding.wait()
    write.cancel()
    await asyncio.wait([write])
    assert write.cancelled()

    await sink.close()

    assert len(discards) == 2
    assert len(set(discards)) == 1
