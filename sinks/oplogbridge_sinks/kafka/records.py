"""Record batches of version 2, byte by byte as Kafka's `DefaultRecordBatch` and `DefaultRecord` have them. Pure.

aiokafka's compiled builder would do, at twice the cost: it takes headers as lists made for each record, and computes a
checksum of the whole uncompressed batch that compressing then makes worthless (benchmarks/steps.py).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from typing import Any

from aiokafka.record.util import calc_crc32c

from oplogbridge.values import Event

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

    __slots__ = ("_buffer", "_count", "uncompressed_bytes")

    def __init__(
        self, records: bytearray | memoryview, *, count: int, codec: int, timestamp_ms: int, uncompressed: int
    ) -> None:
        """`records` as they travel, so compressed unless `codec` is 0; `uncompressed` is what they were before."""
        length = HEADER_BYTES + len(records) - _LENGTH_COUNTS_FROM
        attributes = _TRANSACTIONAL | codec
        self._buffer = bytearray(
            _HEADER.pack(
                *(0, length, -1, _MAGIC, 0, attributes, count - 1, timestamp_ms, timestamp_ms), *_NO_PRODUCER, count
            )
        )
        self._buffer += records
        self._count = count
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


_VARINTS = [varint(number) for number in range(1 << 14)]  # 0.7 MiB: what nearly all lengths and offsets come to


def lay_out(records: bytearray, events: Sequence[Event], first: int, bytes_max: int) -> int:
    """Append the records of `events` to `records`; how many fitted below `bytes_max`. The first of a batch always does.

    `first` is how many records the batch has already. Every record has the batch's timestamp.
    """
    varints, join = _VARINTS, b"".join
    headers, headers_text = None, b""
    for number, event in enumerate(events, first):
        if event.constant_headers is not headers:
            headers = event.constant_headers
            headers_text = _constant_headers(headers)
        key, payload, sequence = event.key, event.payload, event.id.encode()
        try:
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
                )
            )
            length = varints[len(record)]
        except IndexError:  # a large one
            tail = headers_text + _text(sequence)
            record = join((b"\0\0", varint(number), _text(key), _text(payload), tail))
            length = varint(len(record))
        if number and len(records) + len(length) + len(record) > bytes_max:
            return number - first
        records += length
        records += record
    return len(events)


def _constant_headers(headers: Sequence[tuple[str, bytes]]) -> bytes:
    """The headers of a record up to the length of the last one's value, which is the event's id."""
    return b"".join([varint(len(headers) + 1), *_header_parts(headers), _text(b"Oplog-Sequence")])


def _header_parts(headers: Sequence[tuple[str, bytes]]) -> Iterator[bytes]:
    for name, value in headers:
        yield _text(name.encode())
        yield _text(value)


def _text(value: bytes) -> bytes:
    return varint(len(value)) + value


def plain(key: bytes, value: bytes) -> bytes:
    """One record without headers."""
    record = b"\0\0\0" + _text(key) + _text(value) + b"\0"
    return varint(len(record)) + record
