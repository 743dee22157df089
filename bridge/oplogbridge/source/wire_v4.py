"""The form of API v4, and what is taken from it: sequence, operation, object and its head. Pure."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from msgspec import UNSET, Raw, UnsetType

from oplogbridge.source.one_by_one import EntryMalformed, PageRaw, ReadPage, decode_entry, read_one_by_one
from oplogbridge.source.sequences import sequence_of, sequences_of
from oplogbridge.values import Entry


class _EntryWire(msgspec.Struct, frozen=True, gc=False, forbid_unknown_fields=True):
    operation: str
    object: Raw
    sequence_id: str | UnsetType = UNSET
    sequence: int | str | UnsetType = UNSET
    events: Raw | UnsetType = UNSET
    app_id: Raw | UnsetType = UNSET


class _ObjectHead(msgspec.Struct, frozen=True, gc=False):
    type: str
    id: str
    updated_at: object = None  # a data model may have a field of this name and of any type


class _ObjectName(msgspec.Struct, frozen=True, gc=False):
    type: str
    id: str


class _PageWire(msgspec.Struct, frozen=True):
    entries: list[_EntryWire]
    datamodel_hash: str | None = None
    has_more: bool | None = None
    next_request_start: str | int | None = None


_decode_page = msgspec.json.Decoder(_PageWire).decode
_decode_raws = msgspec.json.Decoder(PageRaw).decode
_decode_entry = msgspec.json.Decoder(_EntryWire).decode
_decode_head = msgspec.json.Decoder(_ObjectHead).decode
_decode_name = msgspec.json.Decoder(_ObjectName).decode
_KNOWN = frozenset(_EntryWire.__struct_fields__)


def read_v4(body: bytes, keep_raw: bool) -> ReadPage:
    """A page of v4. Raises msgspec.DecodeError when it is none, and as `read_one_by_one` does."""
    try:
        page = _decode_page(body)
        raws = _decode_raws(body).entries if keep_raw else [None] * len(page.entries)
        entries, numbers = _entries_of(page.entries, raws)
    except (msgspec.DecodeError, EntryMalformed):  # an unknown field or a malformed entry
        return read_one_by_one(body, split=_decode_raws, entry_of_raw=lambda raw: _entry_of_raw(raw, keep_raw=keep_raw))
    return ReadPage(entries, [], numbers, page.datamodel_hash, page.has_more, page.next_request_start)


def _entries_of(wires: Sequence[_EntryWire], raws: Sequence[Raw | None]) -> tuple[list[Entry], bool]:
    """The entries of a page, and whether they are numbered by numbers rather than by text.

    `raws` are their bytes, where those are to be kept, else as many None.

    Raises:
        EntryMalformed, msgspec.DecodeError: One of them at least is malformed.
    """
    ids = [wire.sequence_id for wire in wires]
    sequences = sequences_of(ids)
    if sequences is None:  # an old source, or one malformed entry among good ones
        return [_entry_of(wire, raw) for wire, raw in zip(wires, raws, strict=True)], UNSET in ids
    entries: list[Entry] = []
    for wire, sequence, raw in zip(wires, sequences, raws, strict=True):
        try:
            head = _decode_head(wire.object)
        except msgspec.DecodeError:
            head = _head_of(wire.object)
        updated_at = head.updated_at
        entries.append(
            Entry(
                sequence,
                wire.sequence_id,  # type: ignore[arg-type]
                wire.operation,
                wire.object,
                head.type,
                head.id,
                updated_at if type(updated_at) is str else None,
                wire.events,
                wire.app_id,
                None,
                raw,
            )
        )
    return entries, False


def _entry_of(wire: _EntryWire, raw: Raw | None = None, unknown: dict[str, Raw] | None = None) -> Entry:
    sequence = sequence_of(wire.sequence_id if wire.sequence_id is not UNSET else wire.sequence)
    if sequence is None:
        raise EntryMalformed("it has no usable sequence")
    head = _head_of(wire.object)
    return Entry(
        sequence,
        str(sequence),
        wire.operation,
        wire.object,
        head.type,
        head.id,
        head.updated_at if isinstance(head.updated_at, str) else None,
        wire.events,
        wire.app_id,
        unknown,
        raw,
    )


def _entry_of_raw(raw: Raw, *, keep_raw: bool) -> tuple[Entry, bool]:
    """One entry by itself, and whether a number is its sequence."""
    wire, unknown = decode_entry(raw, _decode_entry, _KNOWN)
    return _entry_of(wire, raw if keep_raw else None, unknown), wire.sequence_id is UNSET


def _head_of(object_: Raw) -> _ObjectHead:
    try:
        return _decode_head(object_)
    except msgspec.DecodeError:
        pass  # it may have a type and an id, and an `updated_at` such as 1e999, which is not ours to judge
    try:
        name = _decode_name(object_)
    except msgspec.DecodeError as error:
        raise EntryMalformed(f"its object is not usable: {error}") from error
    return _ObjectHead(name.type, name.id)
