"""Record batches of version 2, byte by byte as Kafka's `DefaultRecordBatch` and `DefaultRecord` have them. Pure.

aiokafka's compiled builder would do, at twice the cost: it takes headers as lists made for each record, and computes a
checksum of the whole uncompressed batch that compressing then makes worthless (benchmarks/steps.py).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from aiokafka.record.util import calc_crc32c

from oplogbridge.values import Event, Headers

# Base offset, length, leader epoch, magic, checksum, attributes, last offset delta, first and last timestamp, producer
# id, producer epoch, sequence number of the first record, count.
_HEADER = struct.Struct(">qiibIhiqqqhii")
HEADER_BYTES = _HEADER.size
_MAGIC = 2
_TRANSACTIONAL = 0x10
_LENGTH_COUNTS_FROM = 12  # what follows the length field
_CRC = struct.Struct(">I"), 17
_CRC_COUNTS_FROM = 21
_PRODUCER = struct.Struct(">qhi"), 43
_NO_PRODUCER = (-1, -1, 0)


class RecordBatch:
    """A finished batch in the shape of aiokafka's BatchBuilder, for `send_batch`."""

    __slots__ = ("_buffer", "_count", "event_count", "uncompressed_bytes")

    def __init__(
        self,
        records: bytearray | memoryview,
        *,
        count: int,
        event_count: int,
        codec: int,
        timestamp_ms: int,
        uncompressed: int,
    ) -> None:
        """`count` records, as they travel, so compressed unless `codec` is 0; `uncompressed` is what they were before.

        With tombstones among them they are more than the events."""
        length = HEADER_BYTES + len(records) - _LENGTH_COUNTS_FROM
        attributes = _TRANSACTIONAL | codec
        self._buffer = bytearray(
            _HEADER.pack(
                *(0, length, -1, _MAGIC, 0, attributes, count - 1, timestamp_ms, timestamp_ms), *_NO_PRODUCER, count
            )
        )
        self._buffer += records
        self._count = count
        self.event_count = event_count
        self.uncompressed_bytes = HEADER_BYTES + uncompressed

    def record_count(self) -> int:
        return self._count

    def size(self) -> int:
        return len(self._buffer)

    def closed(self) -> bool:
        return True

    def close(self) -> None:
        """Nothing: it never takes another record."""

    def _set_producer_state(self, producer_id: int, producer_epoch: int, base_sequence: int) -> None:
        """Called by aiokafka when the batch's turn has come; the checksum covers these fields."""
        field_format, at = _PRODUCER
        field_format.pack_into(self._buffer, at, producer_id, producer_epoch, base_sequence)
        field_format, at = _CRC
        covered: Any = memoryview(self._buffer)[_CRC_COUNTS_FROM:]
        field_format.pack_into(self._buffer, at, calc_crc32c(covered))

    def _build(self) -> bytearray:
        return self._buffer


def varint(number: int) -> bytes:
    """A length or a difference as Kafka writes them: zigzag, seven bits a byte, the lowest first."""
    left = number << 1 if number >= 0 else (-number << 1) - 1
    text = bytearray()
    while left > 0x7F:
        text.append(left & 0x7F | 0x80)
        left >>= 7
    text.append(left)
    return bytes(text)


_NO_VALUE = varint(-1)
_VARINTS = [varint(number) for number in range(1 << 14)]  # 0.7 MiB: what nearly all lengths and offsets come to


class _NameTexts(dict[str, bytes]):
    """Names of headers as they are laid out. The codec has a dozen, so this is bounded only against abuse."""

    NAMES_MAX = 1000

    def __missing__(self, name: str) -> bytes:
        if len(self) >= self.NAMES_MAX:
            self.clear()
        text = self[name] = _text(name.encode())
        return text


_NAME_TEXTS = _NameTexts()


class LaidOut(NamedTuple):
    events: int
    records: int  # a tombstone is one of its own


def lay_out(records: bytearray, events: Sequence[Event], first: int, bytes_max: int) -> LaidOut:
    """Append the records of `events` to `records`; how many fitted below `bytes_max`. The first of a batch always does.

    `first` is how many records the batch has already. Every record has the batch's timestamp. A tombstone stands right
    behind its event, never in another batch.
    """
    varints, names, join = _VARINTS, _NAME_TEXTS, b"".join
    headers, own_count, headers_text, own_text = None, 0, b"", b""
    known: dict[tuple[int, int], bytes] = {}  # by the identity of headers that events share, and how many are their own
    number = first
    for taken, event in enumerate(events):
        own = event.own_headers
        if event.constant_headers is not headers or len(own) != own_count:
            headers, own_count, own_text = event.constant_headers, len(own), b""
            kind = id(headers), own_count
            headers_text = known.get(kind) or known.setdefault(kind, _constant_headers(headers, own_count))
        key, payload = event.key, event.payload
        sequence = event.id.encode() if event.place is None else event.number
        try:
            if own_count:
                parts: list[bytes] = []
                for name, value in own:
                    parts += names[name], varints[len(value)], value
                own_text = join(parts)
            record = join(
                (
                    b"\0\0",  # attributes, and the difference from the batch's timestamp
                    varints[number],
                    varints[len(key)],
                    key,
                    varints[len(payload)],
                    payload,
                    headers_text,
                    varints[len(sequence)],
                    sequence,
                    own_text,
                )
            )
            length = varints[len(record)]
        except IndexError:  # a large one
            tail = b"".join([headers_text, _text(sequence), *_header_parts(own)])
            record = join((b"\0\0", varint(number), _text(key), _text(payload), tail))
            length = varint(len(record))
        tombstone = _tombstone(number + 1, event) if event.tombstone else b""
        if number and len(records) + len(length) + len(record) + len(tombstone) > bytes_max:
            return LaidOut(taken, number - first)
        records += length
        records += record
        number += 1
        if tombstone:
            records += tombstone
            number += 1
    return LaidOut(len(events), number - first)


def _constant_headers(headers: Headers, own_count: int) -> bytes:
    """The headers of a record up to the length of the event's id; those that are the event's own follow that."""
    count = varint(len(headers) + 1 + own_count)
    return b"".join([count, *_header_parts(headers), _NAME_TEXTS["Oplog-Sequence"]])


def _header_parts(headers: Headers) -> Iterator[bytes]:
    for name, value in headers:
        yield _NAME_TEXTS[name]
        yield _text(value)


def _tombstone(number: int, event: Event) -> bytes:
    """The event's key without a value, for a compacted topic. Without the headers that describe a payload: who reads
    CloudEvents from headers must not take it for a copy of the delete."""
    headers = tuple(header for header in event.constant_headers if header[0] == "Oplog-Source")
    tail = b"".join([_constant_headers(headers, 0), _text(event.number)])
    record = b"".join((b"\0\0", varint(number), _text(event.key), _NO_VALUE, tail))
    return varint(len(record)) + record


def _text(value: bytes) -> bytes:
    return varint(len(value)) + value


def plain(key: bytes, value: bytes) -> bytes:
    """One record without headers."""
    record = b"\0\0\0" + _text(key) + _text(value) + b"\0"
    return varint(len(record)) + record
