"""Kafka as a stranger sees it: plain aiokafka clients, nothing of the sink's."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic, RecordsToDelete

_DECIDED_WITHIN_SECONDS = 30.0


class Record(NamedTuple):
    partition: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...]
    timestamp_ms: int


@asynccontextmanager
async def admin(bootstrap_servers: str) -> AsyncIterator[Any]:
    client = AIOKafkaAdminClient(bootstrap_servers=bootstrap_servers)
    await client.start()
    try:
        yield client
    finally:
        await client.close()


async def make_topic(
    bootstrap_servers: str, topic: str, partitions: int, configs: Mapping[str, str] | None = None
) -> None:
    """That it exists is fine. Returns when it can be written to."""
    async with admin(bootstrap_servers) as client:
        await client.create_topics([NewTopic(topic, partitions, 1, topic_configs=dict(configs or {}))])
        while any(
            p["leader"] < 0 for p in (await client.describe_topics([topic]))[0]["partitions"] or [{"leader": -1}]
        ):
            pass


async def _has_leaders(client: Any, topic: str) -> bool:
    (described,) = await client.describe_topics([topic])
    return bool(described["partitions"]) and all(partition["leader"] >= 0 for partition in described["partitions"])


async def delete_topic(bootstrap_servers: str, topic: str) -> None:
    """Returns when brokers say that it is gone."""
    async with admin(bootstrap_servers) as client:
        await client.delete_topics([topic])
        while topic in await client.list_topics():
            pass


async def add_partitions(bootstrap_servers: str, topic: str, count: int) -> None:
    """Returns when brokers say that they are there."""
    async with admin(bootstrap_servers) as client:
        await client.create_partitions({topic: NewPartitions(count)})
        while len((await client.describe_topics([topic]))[0]["partitions"]) < count:
            pass


async def write_record(bootstrap_servers: str, topic: str, key: bytes, value: bytes | None) -> None:
    async with AIOKafkaProducer(bootstrap_servers=bootstrap_servers) as producer:
        await producer.send_and_wait(topic, value, key=key)


async def cut_front(bootstrap_servers: str, topic: str, kept: int) -> None:
    """Delete all but the last so many records of a topic with one partition, as retention does."""
    partition = TopicPartition(topic, 0)
    async with _consumer(bootstrap_servers, "read_committed") as consumer, admin(bootstrap_servers) as client:
        consumer.assign([partition])
        offsets = []
        while (
            len(offsets) < kept
            or await consumer.position(partition) < (await consumer.end_offsets([partition]))[partition]
        ):
            for batch in (await consumer.getmany(partition, timeout_ms=200)).values():
                offsets += [record.offset for record in batch]
        await client.delete_records({partition: RecordsToDelete(before_offset=offsets[-kept])})


async def read_committed(bootstrap_servers: str, topic: str) -> list[Record]:
    """All that stands in the topic for a reader of committed data, partition after partition.

    Waits until nothing is undecided: a commit is answered before its markers are written.
    """
    async with _consumer(bootstrap_servers, "read_committed") as consumer:
        metadata = await consumer._client.fetch_all_metadata()
        partitions = [TopicPartition(topic, number) for number in sorted(metadata.partitions_for_topic(topic) or ())]
        if not partitions:
            return []
        consumer.assign(partitions)
        ends = await decided_ends(bootstrap_servers, consumer, partitions)
        records = []
        for partition in partitions:
            consumer.pause(*[other for other in partitions if other != partition])
            consumer.resume(partition)
            while await consumer.position(partition) < ends[partition]:
                for batch in (await consumer.getmany(partition, timeout_ms=200)).values():
                    records += [Record(r.partition, r.key, r.value, tuple(r.headers), r.timestamp) for r in batch]
        return records


async def decided_ends(bootstrap_servers: str, committed: Any, partitions: list[TopicPartition]) -> dict[Any, int]:
    """The logs' ends, once the last stable offsets have reached them. `committed` reads committed data only."""
    async with _consumer(bootstrap_servers, "read_uncommitted") as consumer, asyncio.timeout(_DECIDED_WITHIN_SECONDS):
        consumer.assign(partitions)
        ends: dict[Any, int] = await consumer.end_offsets(partitions)
        while await committed.end_offsets(partitions) != ends:
            ends = await consumer.end_offsets(partitions)
        return ends


@asynccontextmanager
async def _consumer(bootstrap_servers: str, isolation_level: str) -> AsyncIterator[Any]:
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap_servers,
        isolation_level=isolation_level,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        fetch_max_wait_ms=50,
    )
    await consumer.start()
    try:
        yield consumer
    finally:
        await consumer.stop()
