"""The live tail: from the moment at which the source served an entry to the moment at which a consumer had it.

The source's own record tells when the page was served (its arrival there, so the page's way back counts as well); the
consumer is this process. Both read CLOCK_MONOTONIC, which all processes of a machine share.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

import nats
import redis.asyncio
from aiokafka import AIOKafkaConsumer, TopicPartition
from arrived import sequences_of
from destinations import Destination, KafkaTopic, LineFile, NatsStream, RedisStream
from source import Served, served_at

POLL_INTERVAL = "50ms"
RATE_PER_SECOND = 200.0
FILE_LOOK_SECONDS = 0.0005


@dataclass(frozen=True, slots=True)
class Latency:
    """Milliseconds. Entries of a page share its fate, so `pages` is how much the percentiles rest on."""

    entries: int
    pages: int
    p50: float
    p99: float
    longest: float


Arrival = tuple[int, float]  # sequence, when


async def arrivals(destination: Destination) -> AsyncIterator[list[Arrival]]:
    """What a consumer gets, as soon as it gets it, for ever."""
    if isinstance(destination, KafkaTopic):
        follow = _kafka(destination)
    elif isinstance(destination, RedisStream):
        follow = _redis(destination)
    elif isinstance(destination, NatsStream):
        follow = _nats(destination)
    else:
        assert isinstance(destination, LineFile)
        follow = _file(destination)
    async for payloads in follow:
        at = monotonic()
        yield [(sequence, at) for sequence in sequences_of(payloads)]


async def _kafka(destination: KafkaTopic) -> AsyncIterator[list[bytes]]:
    consumer = AIOKafkaConsumer(
        bootstrap_servers=destination.bootstrap_servers, isolation_level="read_committed", enable_auto_commit=False
    )
    await consumer.start()
    try:
        partition = TopicPartition(destination.name, 0)
        consumer.assign([partition])
        await consumer.seek_to_beginning(partition)
        while True:
            for records in (await consumer.getmany(timeout_ms=1000)).values():
                yield [record.value for record in records]
    finally:
        await consumer.stop()


async def _redis(destination: RedisStream) -> AsyncIterator[list[bytes]]:
    async with redis.asyncio.from_url(destination.url) as client:
        after: bytes | str = "0"
        while True:
            for _, entries in await client.xread({destination.name: after}, block=1000):
                after = entries[-1][0]
                yield [fields[b"event"] for _, fields in entries]


async def _nats(destination: NatsStream) -> AsyncIterator[list[bytes]]:
    client = await nats.connect(destination.url)
    try:
        subscription = await client.jetstream().subscribe("", stream=destination.name, ordered_consumer=True)
        async for message in subscription.messages:
            yield [message.data]
    finally:
        await client.close()


async def _file(destination: LineFile) -> AsyncIterator[list[bytes]]:
    """Up to where the sidecar says that it counts; looked at as often as the machine allows without burning it."""
    read, sidecar = 0, Path(f"{destination.path}.position")
    seen = -1
    while True:
        try:
            changed = sidecar.stat().st_ino  # renamed into place, so a new inode each time
        except FileNotFoundError:
            changed = -1
        if changed != seen:
            seen = changed
            end = await destination.end()
            if end > read:
                with destination.path.open("rb") as lines:
                    payloads = os.pread(lines.fileno(), end - read, read).splitlines()
                read = end
                yield payloads
        await asyncio.sleep(FILE_LOOK_SECONDS)


def latency_of(arrived: list[Arrival], polls: list[Served], *, since: float) -> Latency:
    """Of the entries served after `since`: before that everything is new to everybody."""
    waits: list[float] = []
    pages: set[float] = set()
    for sequence, at in arrived:
        served = served_at(polls, sequence)
        if served is not None and served >= since:
            waits.append((at - served) * 1000)
            pages.add(served)
    waits.sort()
    last = len(waits) - 1
    return Latency(len(waits), len(pages), waits[last // 2], waits[min(last, int(len(waits) * 0.99))], waits[last])
