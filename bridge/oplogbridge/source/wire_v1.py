"""The form of API v1, brought to that of v4. Pure.

A page is a bare array. An entry has `timestamp`, `type` and `id` beside `data`, which holds the fields alone; v4 has
all of them in `object`. So the object is made of the entry's own bytes, those of `data` spliced in as they came.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from msgspec import UNSET, Raw, UnsetType

from oplogbridge.source.one_by_one import EntryMalformed, PageRaw, ReadPage, decode_entry, read_one_by_one
from oplogbridge.source.sequences import sequence_of
from oplogbridge.values import Entry


class _EntryWire(msgspec.Struct, frozen=True, gc=False, forbid_unknown_fields=True):
    sequence: int | str
    operation: str
    type: str
    id: str
    timestamp: Raw | UnsetType = UNSET
    data: Raw | UnsetType = UNSET  # null, or missing, when there is nothing to say of a deleted object


_decode_page = msgspec.json.Decoder(list[_EntryWire]).decode
_decode_raws = msgspec.json.Decoder(list[Raw]).decode
_decode_entry = msgspec.json.Decoder(_EntryWire).decode
_decode_time = msgspec.json.Decoder(str).decode
_encode = msgspec.json.Encoder().encode
_KNOWN = frozenset(_EntryWire.__struct_fields__)
_WHITE_SPACE = b" \t\r\n"


def read_v1(body: bytes, keep_raw: bool) -> ReadPage:
    """A page of v1. Raises msgspec.DecodeError when it is none, and as `read_one_by_one` does."""
    try:
        wires = _decode_page(body)
        raws: Sequence[Raw | None] = _decode_raws(body) if keep_raw else [None] * len(wires)
        entries = [_entry_of(wire, raw) for wire, raw in zip(wires, raws, strict=True)]
    except (msgspec.DecodeError, EntryMalformed):  # an unknown field or a malformed entry
        return read_one_by_one(
            body,
            split=lambda text: PageRaw(_decode_raws(text)),
            entry_of_raw=lambda raw: _entry_of_raw(raw, keep_raw=keep_raw),
        )
    return ReadPage(entries, [], numbers=any(type(wire.sequence) is int for wire in wires))


def _entry_of(wire: _EntryWire, raw: Raw | None, unknown: dict[str, Raw] | None = None) -> Entry:
    sequence = sequence_of(wire.sequence)
    if sequence is None:
        raise EntryMalformed("it has no usable sequence")
    time = b"" if wire.timestamp is UNSET else bytes(wire.timestamp)
    updated_at = _decode_time(time) if time[:1] == b'"' else None
    return Entry(
        sequence,
        str(sequence),
        wire.operation,
        Raw(_object_of(wire)),
        wire.type,
        wire.id,
        updated_at,
        UNSET,
        UNSET,
        unknown,
        raw,
    )


def _object_of(wire: _EntryWire) -> bytes:
    parts = [b'{"id":', _encode(wire.id), b',"type":', _encode(wire.type)]
    if wire.timestamp is not UNSET:
        parts += b',"updated_at":', bytes(wire.timestamp)
    data = b"null" if wire.data is UNSET else bytes(wire.data)
    if data[:1] == b"{":
        members = data[1:-1].strip(_WHITE_SPACE)
        parts += (b",", members) if members else ()
    elif data != b"null":
        raise EntryMalformed("its data is no object")  # nor shown: it may be personal
    return b"".join([*parts, b"}"])


def _entry_of_raw(raw: Raw, *, keep_raw: bool) -> tuple[Entry, bool]:
    """One entry by itself, and whether a number is its sequence."""
    wire, unknown = decode_entry(raw, _decode_entry, _KNOWN)
    return _entry_of(wire, raw if keep_raw else None, unknown), type(wire.sequence) is int
