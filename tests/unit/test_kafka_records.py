"""Records as a reader of Kafka's format finds them: aiokafka's own, which shares no code with ours."""

from __future__ import annotations

from aiokafka.record.memory_records import MemoryRecords
from aiokafka.record.util import decode_varint
from hypothesis import given
from hypothesis import strategies as st

from oplogbridge.testing import make_event
from oplogbridge.values import Headers
from oplogbridge_sinks.kafka.records import HEADER_BYTES, RecordBatch, lay_out, varint

NOW_MS = 1_795_381_404_023
HEADERS = st.lists(st.tuples(st.text(max_size=90), st.binary(max_size=90)), max_size=3).map(tuple)


@given(st.integers(-(2**63), 2**63 - 1))
def test_a_number_of_any_size_is_read_back(number: int) -> None:
    text = varint(number)

    read, end = decode_varint(bytearray(text), 0)

    assert (read, end) == (number, len(text))


@given(
    st.lists(
        st.tuples(
            st.binary(max_size=90),
            st.binary(max_size=9000) | st.integers(16_000, 16_500).map(bytes),
            HEADERS,
            HEADERS | st.just((("big", bytes(16_400)),)),
            st.booleans(),
        ),
        min_size=1,
        max_size=80,
    )
)
def test_records_of_any_key_payload_and_headers_are_read_back(
    made: list[tuple[bytes, bytes, Headers, Headers, bool]],
) -> None:
    events = [
        make_event(
            7**n % 2**62 + 1,
            key=key,
            payload=payload,
            constant_headers=(*shared, ("Oplog-Source", b"shop")),
            own_headers=own,
            tombstone=tombstone,
        )
        for n, (key, payload, shared, own, tombstone) in enumerate(made)
    ]
    records = bytearray()
    cut = len(events) // 2

    count = lay_out(records, events[:cut], 0, 2**30).records
    count += lay_out(records, events[cut:], count, 2**30).records
    batch = RecordBatch(
        records, count=count, event_count=len(events), codec=0, timestamp_ms=NOW_MS, uncompressed=len(records)
    )

    batch._set_producer_state(1, 2, 3)
    found = MemoryRecords(bytes(batch._build())).next_batch()
    assert found.validate_crc()
    expected: list[tuple[bytes, bytes | None, Headers]] = []
    for event in events:
        expected.append((event.key, event.payload, event.headers))
        if event.tombstone:
            sequence = ("Oplog-Sequence", event.id.encode())
            named_source = [header for header in event.constant_headers if header[0] == "Oplog-Source"]
            expected.append((event.key, None, (*named_source, sequence)))
    assert [(r.offset, r.key, r.value, tuple(r.headers), r.timestamp) for r in found] == [
        (offset, *one, NOW_MS) for offset, one in enumerate(expected)
    ]
    assert batch.record_count() == len(expected)
    assert batch.size() == batch.uncompressed_bytes == HEADER_BYTES + len(records)


@given(st.lists(st.integers(0, 3000), min_size=1, max_size=40), st.integers(1, 9000))
def test_what_does_not_fit_is_left_out_and_the_first_always_fits(sizes: list[int], bytes_max: int) -> None:
    events = [make_event(n, payload=b"x" * size, tombstone=n % 2 == 0) for n, size in enumerate(sizes, 1)]
    records = bytearray()

    count, record_count = lay_out(records, events, 0, bytes_max)

    assert count >= 1
    assert record_count == count + count // 2
    assert len(records) <= bytes_max or count == 1
    if count < len(events):
        more = bytearray()
        lay_out(more, events[count : count + 1], 0, 2**30)  # with its tombstone, which never goes alone
        assert len(records) + len(more) > bytes_max
