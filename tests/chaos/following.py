"""Consumers that follow a destination while it is filled, in flat memory: what a soak counts by."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass, field

import redis.asyncio
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError
from nats.errors import Error as NatsError
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy
from nats.js.errors import APIError

from chaos.destinations import (
    NAME,
    PARTITIONS,
    Destination,
    FileDestination,
    KafkaDestination,
    NatsDestination,
    RedisDestination,
    WebhookDestination,
)
from nats_reader import stream_client

READ_ENTRIES = 5_000
READ_BYTES = 4 << 20
LOOK_SECONDS = 0.05
SILENT_SECONDS = 1.0  # whoever heard nothing for so long asks anew: the server may be another process now

Part = tuple[str, list[int]]  # a lane, and the sequences that came in it


@dataclass
class Tally:
    """How many events came for the first time, and their sum; with both equal to the source's nothing is missing."""

    count: int = 0
    total: int = 0
    again: int = 0  # at or below the highest of its lane: a copy, or out of order
    highest: dict[str, int] = field(default_factory=dict)  # by lane

    def take(self, lane: str, sequences: Iterable[int]) -> None:
        highest = self.highest.get(lane, 0)
        for sequence in sequences:
            if sequence <= highest:
                self.again += 1
                continue
            highest = sequence
            self.count += 1
            self.total += sequence
        self.highest[lane] = highest


async def follow(destination: Destination, tally: Tally) -> None:
    """For ever."""
    async for lane, sequences in FOLLOWERS[destination.kind](destination):
        tally.take(lane, sequences)


def _sequence(payload: bytes) -> int:
    return int(json.loads(payload)["id"])


async def _file(destination: FileDestination) -> AsyncIterator[Part]:
    while not destination.path.exists():
        await asyncio.sleep(LOOK_SECONDS)
    rest = b""
    with destination.path.open("rb") as file:
        while True:
            chunk = file.read(READ_BYTES)
            *lines, rest = (rest + chunk).split(b"\n")  # what has no newline yet is not whole
            yield "file", [_sequence(line) for line in lines]
            await asyncio.sleep(0.0 if chunk else LOOK_SECONDS)


async def _redis(destination: RedisDestination) -> AsyncIterator[Part]:
    last: bytes = b"0-0"
    while True:
        try:
            async with redis.asyncio.from_url(destination.server.url) as client:
                while True:
                    found = await client.xread({NAME: last}, count=READ_ENTRIES, block=100)
                    for _, entries in found:
                        last = entries[-1][0]
                        yield "stream", [_sequence(fields[b"event"]) for _, fields in entries]
        except (redis.RedisError, OSError):
            await asyncio.sleep(LOOK_SECONDS)


async def _nats(destination: NatsDestination) -> AsyncIterator[Part]:
    last = 0  # the stream's own number
    while True:
        try:
            async with stream_client(destination.server.url) as jetstream:
                start = ConsumerConfig(
                    deliver_policy=DeliverPolicy.BY_START_SEQUENCE, opt_start_seq=last + 1, ack_policy=AckPolicy.NONE
                )
                subscription = await jetstream.pull_subscribe("", stream=NAME, config=start)
                while True:  # pulled: what is pushed faster than it is read ends the connection
                    messages = await subscription.fetch(READ_ENTRIES, timeout=SILENT_SECONDS)
                    last = messages[-1].metadata.sequence.stream
                    yield "stream", [_sequence(message.data) for message in messages]
        except (NatsError, APIError, OSError, TimeoutError):
            await asyncio.sleep(LOOK_SECONDS)


async def _kafka(destination: KafkaDestination) -> AsyncIterator[Part]:
    partitions = [TopicPartition(NAME, number) for number in range(PARTITIONS)]
    positions = dict.fromkeys(partitions, 0)
    while True:
        consumer = AIOKafkaConsumer(
            bootstrap_servers=destination.server.bootstrap_servers,
            isolation_level="read_committed",
            enable_auto_commit=False,
            fetch_max_wait_ms=50,
        )
        try:
            await consumer.start()
            known = await consumer._client.fetch_all_metadata()
            if not known.partitions_for_topic(NAME):
                raise OSError("no topic yet")
            consumer.assign(partitions)
            for partition, position in positions.items():
                consumer.seek(partition, position)
            while True:
                for partition, records in (await consumer.getmany(timeout_ms=200, max_records=READ_ENTRIES)).items():
                    positions[partition] = records[-1].offset + 1
                    yield str(partition.partition), [_sequence(record.value) for record in records]
        except (KafkaError, OSError):
            await asyncio.sleep(LOOK_SECONDS)
        finally:
            await consumer.stop()


async def _webhook(destination: WebhookDestination) -> AsyncIterator[Part]:
    """What it acknowledged is taken from it, so that it does not grow."""
    receiver = destination.receiver
    while True:
        posts, receiver.acknowledged, receiver.posts = receiver.acknowledged, [], []
        for post in posts:
            events = json.loads(post.body)
            yield "posts", [int(event["id"]) for event in (events if isinstance(events, list) else [events])]
        await asyncio.sleep(LOOK_SECONDS)


FOLLOWERS: dict[str, Callable[..., AsyncIterator[Part]]] = {
    "file": _file,
    "redis": _redis,
    "nats": _nats,
    "kafka": _kafka,
    "webhook": _webhook,
}
