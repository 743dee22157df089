"""Record batches: what a broker would read out of them, and how they are split."""

from __future__ import annotations

import random
from typing import Any

import pytest
from aiokafka.record.memory_records import MemoryRecords

from oplogbridge import Event
from oplogbridge.testing.sink_rig import make_event
from oplogbridge_sinks.kafka.batches import CODECS, TopicLimits, build, single
from oplogbridge_sinks.kafka.records import RecordBatch

NOW_MS = 1_795_381_404_023


def as_read(batch: RecordBatch, producer: tuple[int, int, int] = (7, 3, 1000)) -> Any:
    batch._set_producer_state(*producer)
    records = MemoryRecords(bytes(batch._build()))
    read = records.next_batch()
    assert not records.has_next()
    assert read.validate_crc()
    return read


def noise(sequence: int, size_bytes: int) -> Event:
    return make_event(sequence, payload=random.Random(sequence).randbytes(size_bytes))


@pytest.mark.parametrize("codec", CODECS)
async def test_a_broker_reads_what_was_put_in(codec: str) -> None:
    events = [make_event(n, constant_headers=(("Oplog-Source", b"shop"), ("Empty", b""))) for n in range(1, 601)]

    built = await build(events, TopicLimits(), CODECS[codec], NOW_MS)

    (batch,) = built.batches
    read = as_read(batch)
    assert (read.producer_id, read.producer_epoch, read.base_sequence) == (7, 3, 1000)
    assert read.is_transactional
    assert read.compression_type == CODECS[codec].attribute
    assert [(r.key, r.value, tuple(r.headers), r.timestamp) for r in read] == [
        (event.key, event.payload, event.headers, NOW_MS) for event in events
    ]
    assert batch.record_count() == 600
    assert batch.size() == len(batch._build())


async def test_a_batch_that_compression_does_not_shrink_goes_as_it_is() -> None:
    event = make_event(1, key=b"", constant_headers=(), payload=random.Random(1).randbytes(500))
    built = await build([event], TopicLimits(), CODECS["zstd"], NOW_MS)
    assert as_read(built.batches[0]).compression_type == 0


@pytest.mark.parametrize("codec", ["none", "zstd"])
async def test_batches_stay_below_the_limit_and_keep_the_order(codec: str) -> None:
    events = [noise(n, 3000) for n in range(1, 200)]

    built = await build(events, TopicLimits(100_000), CODECS[codec], NOW_MS)

    assert all(batch.size() <= 100_000 for batch in built.batches)
    assert len(built.batches) <= 10
    assert [record.value for batch in built.batches for record in as_read(batch)] == [e.payload for e in events]


async def test_a_batch_of_compressible_events_is_filled_beyond_the_limit() -> None:
    limits = TopicLimits(100_000)
    events = [make_event(n, payload=b"the same again " * 50) for n in range(1, 2001)]

    await build(events, limits, CODECS["zstd"], NOW_MS)  # learns how well they compress
    built = await build(events, limits, CODECS["zstd"], NOW_MS)

    assert sum(len(event.payload) for event in events) > 10 * 100_000
    assert len(built.batches) == 1


async def test_an_odd_page_among_compressible_ones_is_split() -> None:
    limits = TopicLimits(100_000)
    tame = [make_event(n, payload=b"x" * 1000) for n in range(1, 1001)]
    wild = [noise(n, 1000) for n in range(1001, 2001)]
    await build(tame, limits, CODECS["zstd"], NOW_MS)

    built = await build([*tame, *wild, *tame], limits, CODECS["zstd"], NOW_MS)

    assert all(batch.size() <= 100_000 for batch in built.batches)
    assert sum(batch.record_count() for batch in built.batches) == 3000


async def test_the_first_event_that_is_too_large_is_named() -> None:
    limits = TopicLimits(10_000, event_bytes_max=10_000)
    events = [noise(1, 10), noise(2, 20_000), noise(3, 10), noise(4, 30_000)]

    built = await build(events, limits, CODECS["zstd"], NOW_MS)

    assert built.refused is events[1]
    assert built.reason.endswith("and its topic takes 10000")


async def test_an_event_is_measured_as_it_travels() -> None:
    limits = TopicLimits(10_000, event_bytes_max=10_000)
    built = await build([make_event(1, payload=b"x" * 100_000)], limits, CODECS["zstd"], NOW_MS)
    assert built.refused is None


async def test_where_no_limit_may_be_read_the_broker_decides_and_is_remembered() -> None:
    limits = TopicLimits()
    (batch,) = (await build([noise(1, 2_000_000)], limits, CODECS["zstd"], NOW_MS)).batches

    limits.learn_refusal(batch)

    assert (await build([noise(1, 2_000_000)], limits, CODECS["zstd"], NOW_MS)).refused is not None
    assert (await build([noise(2, 1_900_000)], limits, CODECS["zstd"], NOW_MS)).refused is None


async def test_what_a_broker_refused_condemns_no_event_that_is_smaller_in_any_measure() -> None:
    """A broker that compresses anew refuses a megabyte that travelled as a few hundred bytes."""
    limits = TopicLimits(event_bytes_max=1_048_588)
    tame = make_event(1, payload=b"x" * 2_000_000)
    (batch,) = (await build([tame], limits, CODECS["zstd"], NOW_MS)).batches
    ordinary = noise(2, 2000)
    assert batch.size() < 2000

    limits.learn_refusal(batch)

    assert (await build([ordinary], limits, CODECS["zstd"], NOW_MS)).refused is None
    built = await build([tame], limits, CODECS["zstd"], NOW_MS)
    assert built.refused is tame
    assert "uncompressed: too large for the broker" in built.reason


async def test_a_refused_batch_of_several_is_smaller_the_next_time() -> None:
    limits = TopicLimits()
    events = [noise(n, 1000) for n in range(1, 501)]
    (batch,) = (await build(events, limits, CODECS["zstd"], NOW_MS)).batches

    limits.learn_refusal(batch)
    again = await build(events, limits, CODECS["zstd"], NOW_MS)

    assert again.refused is None
    assert len(again.batches) > 1
    assert max(part.size() for part in again.batches) <= batch.size() // 2


async def test_the_checkpoint_is_a_batch_of_one() -> None:
    read = as_read(await single(b"bridge.orders", b'{"v":1}', NOW_MS, CODECS["none"]))
    assert [(record.key, record.value) for record in read] == [(b"bridge.orders", b'{"v":1}')]
