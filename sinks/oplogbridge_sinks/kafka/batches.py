"""Record batches, built whole before anything is sent: one per partition, split only where it would not fit.

A broker measures a batch as it arrives, compressed. So it is filled beyond the limit by as much as the last batches of
the topic compressed, compressed, and halved if that was too hopeful. Sending first and learning from the refusal costs
the producer: after one failed batch aiokafka's sequence numbers are wrong for good (aiokafka#1017).

Compressing is done here since aiokafka knows only the brokers' default levels. Measured on 4000 CloudEvents of 750 B,
us an event and size: zstd level 3 -> 1: 3.9 -> 1.4, 13 -> 12%; gzip 9 -> 1: 27 -> 1.5; lz4 9 -> 1: 5.7 -> 0.5, 17 ->
19%. It runs in a thread, without the interpreter's lock, while the next pages are read and encoded.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import cramjam
from aiokafka.codec import snappy_encode

from oplogbridge.values import Event
from oplogbridge_sinks.kafka.records import HEADER_BYTES, LaidOut, RecordBatch, lay_out, plain

BATCH_BYTES_MAX = 1_048_588  # Kafka's default of max.message.bytes
UNCOMPRESSED_BYTES_MAX = 8 << 20  # per builder: what 4 pages of 2 KB events need, and a bound on memory
_EVENTS_PER_TURN = 1000  # of the event loop: about 0.5 ms
_HEADROOM = 0.8  # of the limit, so that a batch of slightly worse data than the last one is not built twice

# Threads of its own: the loop's look names up, and a few of those that hang would hold up every pipeline.
_COMPRESSING = ThreadPoolExecutor(max_workers=os.cpu_count() or 1, thread_name_prefix="kafka-compress")
_INLINE_BYTES_MAX = 64 << 10  # compressed at once, in less time than it takes to hand it to a thread


class Codec(NamedTuple):
    attribute: int
    compress: Callable[[memoryview], Any] | None  # to anything with a length and a buffer


def _lz4(data: memoryview) -> Any:
    compressor = cramjam.lz4.Compressor(level=1, content_checksum=False, block_linked=False)  # unlinked: KIP-57
    compressor.compress(bytes(data))
    return compressor.finish()


CODECS = {
    "none": Codec(0, None),
    "gzip": Codec(1, lambda data: cramjam.gzip.compress(data, level=1)),
    "snappy": Codec(2, snappy_encode),
    "lz4": Codec(3, _lz4),
    "zstd": Codec(4, lambda data: cramjam.zstd.compress(data, level=1)),
}


async def _finish(records: bytearray, laid: LaidOut, codec: Codec, timestamp_ms: int) -> RecordBatch:
    compressed: Any = None
    if codec.compress is not None:
        if len(records) <= _INLINE_BYTES_MAX:
            compressed = codec.compress(memoryview(records))
        else:
            loop = asyncio.get_running_loop()
            compressed = await loop.run_in_executor(_COMPRESSING, codec.compress, memoryview(records))
    worth_it = compressed is not None and len(compressed) < len(records)
    return RecordBatch(
        memoryview(compressed) if worth_it else records,
        count=laid.records,
        event_count=laid.events,
        codec=codec.attribute if worth_it else 0,
        timestamp_ms=timestamp_ms,
        uncompressed=len(records),
    )


async def single(key: bytes, value: bytes, timestamp_ms: int, codec: Codec) -> RecordBatch:
    """A batch of one record without headers: the checkpoint."""
    return await _finish(bytearray(plain(key, value)), LaidOut(events=0, records=1), codec, timestamp_ms)


class RefusedEvent(NamedTuple):
    bytes: int  # as it travelled
    uncompressed_bytes: int


@dataclass(slots=True)
class TopicLimits:
    """What one topic takes, and how well its data compresses. Survives reopening: some of it is learned by refusal."""

    batch_bytes_max: int = BATCH_BYTES_MAX  # a batch of several events is kept below
    event_bytes_max: int | None = None  # the topic's max.message.bytes, where we may read it; above, we refuse an event
    uncompressed_bytes: int = field(init=False)
    refused: RefusedEvent | None = None  # the last single event that the broker called too large
    refused_at_seconds: float = 0.0  # when it last called anything too large, on the caller's clock; or "made"

    def __post_init__(self) -> None:
        self.uncompressed_bytes = self.batch_bytes_max

    def learn_ratio(self, uncompressed: int, compressed: int) -> None:
        ratio = max(1.0, uncompressed / max(1, compressed))
        room = int(self.batch_bytes_max * _HEADROOM * ratio)
        self.uncompressed_bytes = min(max(room, self.batch_bytes_max), UNCOMPRESSED_BYTES_MAX)

    def learn_refusal(self, batch: RecordBatch, now_seconds: float = 0.0) -> None:
        """The broker called this batch too large. The sink begins again, with this known."""
        self.refused_at_seconds = now_seconds
        if batch.event_count == 1:
            self.refused = RefusedEvent(batch.size(), batch.uncompressed_bytes)
        else:
            # It may have been laid out under an older, larger limit.
            self.batch_bytes_max = min(self.batch_bytes_max, max(1, batch.size() // 2))
            self.uncompressed_bytes = self.batch_bytes_max

    def refusal(self, batch: RecordBatch) -> str | None:
        """Why the topic will never take this batch of one event; None when it may."""
        size_bytes, taken_bytes, refused = batch.size(), self.event_bytes_max, self.refused
        if taken_bytes is not None and size_bytes > taken_bytes:
            return f"takes {size_bytes} bytes and its topic takes {taken_bytes}"
        # In both measures: a broker that compresses anew (`compression.type`) refuses a megabyte that travelled as
        # three hundred bytes, and an ordinary event that travels as four hundred is not larger than that.
        if refused and size_bytes >= refused.bytes and batch.uncompressed_bytes >= refused.uncompressed_bytes:
            return f"takes {size_bytes} bytes, {batch.uncompressed_bytes} uncompressed: too large for the broker"
        return None


@dataclass(frozen=True, slots=True)
class Built:
    batches: list[RecordBatch]
    refused: Event | None  # the first event that the topic will never take; nothing after it was built
    reason: str = ""


async def build(events: Sequence[Event], limits: TopicLimits, codec: Codec, timestamp_ms: int) -> Built:
    """The batches of one partition, in order.

    `timestamp_ms` is the wall clock of this write, never the entry's own time: a broker deletes by timestamp, so a
    backfill of last year's entries into a topic that keeps a week would be gone as soon as it was written.

    Lets the event loop turn now and then: the write before is under way, and wants its answers heard.
    """
    batches: list[RecordBatch] = []
    begin = 0
    count_max = len(events)
    while begin < len(events):
        bytes_max = limits.batch_bytes_max if codec.compress is None else limits.uncompressed_bytes
        records, laid = await _fill(events, begin, min(len(events), begin + count_max), bytes_max)
        batch, count = await _finish(records, laid, codec, timestamp_ms), laid.events
        if codec.compress is not None:
            limits.learn_ratio(batch.uncompressed_bytes, batch.size())
        if count > 1 and batch.size() > limits.batch_bytes_max:
            count_max = count // 2  # an odd page in the middle of well-behaved ones: the ratio alone may not be enough
            continue
        if count == 1 and (reason := limits.refusal(batch)) is not None:
            return Built(batches, events[begin], reason)
        batches.append(batch)
        begin += count
        count_max = len(events)
    return Built(batches, None)


async def _fill(events: Sequence[Event], begin: int, end: int, bytes_max: int) -> tuple[bytearray, LaidOut]:
    """The records of the events that fit, at least one, and how many they are."""
    records, count, taken = bytearray(), 0, 0
    while begin + taken < end:
        turn = events[begin + taken : min(begin + taken + _EVENTS_PER_TURN, end)]
        laid = lay_out(records, turn, count, bytes_max - HEADER_BYTES)
        taken += laid.events
        count += laid.records
        if laid.events < len(turn):
            break
        await asyncio.sleep(0)
    return records, LaidOut(taken, count)
