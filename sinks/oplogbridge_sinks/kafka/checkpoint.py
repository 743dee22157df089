"""The checkpoint: where a pipeline stands, kept in a compacted topic of its own and written with the events it covers.

    key    the owner, "{name}.{pipeline}"
    value  {"v": 1, "offset": "6112271540663877634", "source": "/oplogs/shop", "destination": "kafka:oplog.shop",
            "topics": {"oplog.shop": {"id": "R3Zt0TWfTLqBkXhSxsvtEg", "partitions": 4}}}

The offset is text, since it may be 2^63. `topics` is what has been written to: a topic of the same name with another id
has lost what the offset promises, and another number of partitions would scatter a key's events.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import orjson
from aiokafka import TopicPartition
from aiokafka.consumer.fetcher import READ_COMMITTED, READ_UNCOMMITTED, PartitionRecords

from oplogbridge.errors import Misconfigured
from oplogbridge.values import OFFSET_MAX
from oplogbridge_sinks.kafka.cluster import Cluster

VERSION = 1
_TAIL_OFFSETS = 64  # first looked at: about 30 checkpoints, each followed by its transaction's marker
_TAIL_GROWTH = 16


class WrittenTopic(NamedTuple):
    """A topic as it was when it was first written to."""

    id: str  # "" where the broker named none
    partitions: int


class Checkpoint(NamedTuple):
    offset: int
    source: str
    destination: str
    topics: Mapping[str, WrittenTopic]


def encode(checkpoint: Checkpoint) -> bytes:
    topics = {name: {"id": topic.id, "partitions": topic.partitions} for name, topic in checkpoint.topics.items()}
    return orjson.dumps(
        {
            "v": VERSION,
            "offset": str(checkpoint.offset),
            "source": checkpoint.source,
            "destination": checkpoint.destination,
            "topics": topics,
        }
    )


def decode(value: bytes, topic: str) -> Checkpoint:
    """Raises Misconfigured, naming `topic`, when the record is a newer version's or is no checkpoint."""
    try:
        record: Any = orjson.loads(value)
        version = record["v"]
    except (ValueError, KeyError, TypeError) as error:
        raise _unreadable(topic, "no JSON object with a version") from error
    if isinstance(version, int) and version > VERSION:
        raise Misconfigured(
            f"kafka: the last record of {topic} has format version {version}, this oplog-bridge knows {VERSION}:"
            " run the version that wrote it, or a newer one"
        )
    try:
        offset = int(record["offset"]) if str(record["offset"]).isdecimal() else -1
        topics = {
            str(name): WrittenTopic(str(written["id"]), int(written["partitions"]))
            for name, written in record["topics"].items()
        }
        checkpoint = Checkpoint(offset, str(record["source"]), str(record["destination"]), topics)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise _unreadable(topic, f"{type(error).__name__}: {error}") from error
    if version != VERSION or not 0 <= offset <= OFFSET_MAX:
        raise _unreadable(topic, f"version {version!r}, offset {record['offset']!r}")
    return checkpoint


def _unreadable(topic: str, why: str) -> Misconfigured:
    return Misconfigured(
        f"kafka: the last record of {topic} is no checkpoint ({why}): find out who wrote it, then `oplog-bridge offsets"
        " set` puts a new one there"
    )


async def read(
    cluster: Cluster, partition: TopicPartition, owner: bytes, *, committed: bool = True
) -> Checkpoint | None:
    """The last checkpoint; None when there is none, or it was erased on purpose (a null value).

    With `committed=False`, whatever became of its transaction: only for what the last transaction may have touched.

    Reads backwards, in growing steps: a busy pipeline writes tens of thousands of records between two compactions, and
    a predecessor that kept failing leaves long stretches of aborted ones.
    """
    begin = (await cluster.begins([partition]))[partition]
    end = (await cluster.ends([partition], committed=committed))[partition]
    tail = _TAIL_OFFSETS
    while True:
        start = max(begin, end - tail)
        last = await _last_record(cluster, partition, start, end, committed)
        if last is not None:
            break
        if start == begin:
            return None
        tail *= _TAIL_GROWTH
    if last.key != owner:
        raise _unreadable(partition.topic, f"its key is {last.key!r}, not {owner!r}")
    return None if last.value is None else decode(last.value, partition.topic)


async def _last_record(cluster: Cluster, partition: TopicPartition, start: int, end: int, committed: bool) -> Any:
    """The last record of [start, end), of those that are committed or of all."""
    isolation = READ_COMMITTED if committed else READ_UNCOMMITTED
    last = None
    offset = start
    while offset < end:
        fetched = await cluster.fetch(partition, offset, committed=committed)
        records = PartitionRecords(  # type: ignore[no-untyped-call]  # aiokafka has no types there
            partition, fetched.batches, fetched.aborted, offset, None, None, True, isolation
        )
        for record in records:
            last = record
        if records.next_fetch_offset <= offset:
            break  # compacted away up to the end
        offset = records.next_fetch_offset
    return last
