"""Reads a destination as a stranger would and counts. Shares no code with the bridge: clients, JSON, arithmetic."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import redis
from aiokafka import AIOKafkaConsumer, TopicPartition

from nats_reader import read_stream


@dataclass(frozen=True)
class Found:
    """One event at the destination: its sequence, from the payload, and the lane in which its order is promised."""

    sequence: int
    lane: str
    key: str
    data: dict[str, Any]


@dataclass(frozen=True)
class Audit:
    lost: int
    duplicated: int
    reordered: int
    altered: int
    foreign: int

    def __str__(self) -> str:
        return (
            f"{self.lost} lost, {self.duplicated} duplicated, {self.reordered} reordered, {self.altered} altered, "
            f"{self.foreign} foreign"
        )


EXACT = Audit(0, 0, 0, 0, 0)


def audit(expected: list[dict[str, Any]], found: list[Found]) -> Audit:
    """Compare what the source says it wrote with what stands at the destination, in the destination's order."""
    wanted = {int(entry["sequence_id"]): entry for entry in expected}
    seen = Counter(event.sequence for event in found)
    lanes: dict[str, list[Found]] = {}
    for event in found:
        lanes.setdefault(event.lane, []).append(event)
    reordered = sum(
        later.sequence < earlier.sequence for events in lanes.values() for earlier, later in pairwise(events)
    )
    altered = 0
    for event in found:
        entry = wanted.get(event.sequence)
        if entry is not None and (
            event.data.get("object") != entry["object"] or event.data.get("operation") != entry["operation"]
        ):
            altered += 1
    return Audit(
        lost=sum(sequence not in seen for sequence in wanted),
        duplicated=sum(count - 1 for count in seen.values()),
        reordered=reordered,
        altered=altered,
        foreign=sum(sequence not in wanted for sequence in seen),
    )


def _found(payload: bytes, lane: str, key: str) -> Found:
    event = json.loads(payload)
    assert event["id"] == event["data"]["sequence"] == event["sequence"].lstrip("0"), event
    return Found(int(event["id"]), lane, key, event["data"])


def read_file(path: Path) -> list[Found]:
    return [_found(line, "file", json.loads(line)["partitionkey"]) for line in path.read_bytes().splitlines()]


def read_redis(url: str, stream: str) -> list[Found]:
    with redis.Redis.from_url(url) as client:
        entries = client.xrange(stream)
    found = []
    for entry_id, fields in entries:
        event = _found(fields[b"event"], "stream", fields[b"key"].decode())
        assert entry_id == f"{event.sequence}-0".encode(), (entry_id, event.sequence)
        found.append(event)
    return found


async def read_nats(url: str, stream: str) -> list[Found]:
    """Of a message also the headers: they name the entry that is in its payload, and its key."""
    found = []
    for message in await read_stream(url, stream):
        event = _found(message.data, "stream", message.key.decode())
        headers = dict(message.headers)
        assert headers["Oplog-Sequence"] == str(event.sequence).encode(), (headers, event)
        assert headers["Nats-Msg-Id"].endswith(b"-%d" % event.sequence), headers
        found.append(event)
    return found


def read_posts(posts: Iterable[tuple[str, str, bytes]], *, by_key: bool = False) -> list[Found]:
    """What a receiver keeps that drops copies by their `webhook-id` (the first of each three), as it is told to. The
    second is the key, in which alone the order is promised with `by_key`."""
    kept: dict[str, tuple[str, bytes]] = {}
    for webhook_id, key, payload in posts:
        assert kept.setdefault(webhook_id, (key, payload)) == (key, payload), f"two events came as {webhook_id}"
    return [_found(payload, key if by_key else "", key) for key, payload in kept.values()]


def _check_tombstone(record: Any, before: Found | None) -> None:
    """A record without a value stands right behind the delete whose key and sequence it has."""
    assert before is not None, f"a tombstone of {record.key} behind no event"
    assert before.data["operation"] == "delete", before
    sequence = int(dict(record.headers)["Oplog-Sequence"])
    assert (before.key, before.sequence) == (record.key.decode(), sequence), (before, record)


async def read_kafka(bootstrap_servers: str, topic: str) -> list[Found]:
    """Every committed event of the topic, partition by partition."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap_servers, isolation_level="read_committed", auto_offset_reset="earliest"
    )
    await consumer.start()
    try:
        partitions = [
            TopicPartition(topic, number)
            for number in consumer.partitions_for_topic(topic) or await _known(consumer, topic)
        ]
        consumer.assign(partitions)
        ends = await consumer.end_offsets(partitions)
        await consumer.seek_to_beginning(*partitions)
        found: list[Found] = []
        last: dict[str, Found | None] = {}  # by lane: the event right before
        while any([await consumer.position(partition) < ends[partition] for partition in partitions]):
            for partition, records in (await consumer.getmany(timeout_ms=500)).items():
                for record in records:
                    lane = str(partition.partition)
                    if record.value is None:
                        _check_tombstone(record, last.get(lane))
                    else:
                        found.append(_found(record.value, lane, record.key.decode()))
                    last[lane] = None if record.value is None else found[-1]
        return found
    finally:
        await consumer.stop()


async def _known(consumer: AIOKafkaConsumer, topic: str) -> set[int]:
    await consumer._client._wait_on_metadata(topic)
    return consumer.partitions_for_topic(topic) or set()
