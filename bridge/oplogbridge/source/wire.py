"""The form in which entries travel, and what is taken from it: sequence, operation, object and its head. Pure."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from msgspec import UNSET, Raw, UnsetType

from oplogbridge.values import SEQUENCE_MAX, Entry


class EntryMalformed(Exception):
    """It can become no event; the message says why."""


class EntryWire(msgspec.Struct, frozen=True, gc=False, forbid_unknown_fields=True):
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


class PageWire(msgspec.Struct, frozen=True):
    entries: list[EntryWire]
    datamodel_hash: str | None = None
    has_more: bool | None = None
    next_request_start: str | int | None = None


decode_page = msgspec.json.Decoder(PageWire).decode
decode_fields = msgspec.json.Decoder(dict[str, Raw]).decode
_decode_entry = msgspec.json.Decoder(EntryWire).decode
_decode_head = msgspec.json.Decoder(_ObjectHead).decode
_decode_name = msgspec.json.Decoder(_ObjectName).decode
_KNOWN = frozenset(EntryWire.__struct_fields__)


def entries_of(wires: Sequence[EntryWire], raws: Sequence[Raw | None]) -> tuple[list[Entry], bool]:
    """The entries of a page, and whether they are numbered by numbers rather than by text.

    `raws` are their bytes, where those are to be kept, else as many None.

    Raises:
        EntryMalformed, msgspec.DecodeError: One of them at least is malformed.
    """
    ids = [wire.sequence_id for wire in wires]
    sequences = _sequences_of(ids)
    if sequences is None:  # an old source, or one malformed entry among good ones
        return [entry_of(wire, raw) for wire, raw in zip(wires, raws, strict=True)], UNSET in ids
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


def _sequences_of(ids: Sequence[str | UnsetType]) -> list[int] | None:
    """All of them at once when each is the text of a sequence, as `sequence_of` has it; a third of its time."""
    try:
        sequences = list(map(int, ids))  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return None
    if list(map(str, sequences)) != ids or (sequences and not 0 < min(sequences) <= max(sequences) <= SEQUENCE_MAX):
        return None  # also " 7", "+7", "07", "1_0" and digits of other scripts, all of which int takes
    return sequences


def entry_of(wire: EntryWire, raw: Raw | None = None, unknown: dict[str, Raw] | None = None) -> Entry:
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


def entry_of_raw(raw: Raw, *, keep_raw: bool) -> tuple[Entry, bool]:
    """One entry on its own, with fields that the vendor may have added; and whether a number is its sequence."""
    try:
        wire, unknown = _decode_entry(raw), None
    except msgspec.ValidationError:
        fields = decode_fields(raw)
        unknown = {name: value for name, value in fields.items() if name not in _KNOWN}
        if not unknown:
            raise
        known = {name: value for name, value in fields.items() if name in _KNOWN}
        wire = _decode_entry(msgspec.json.encode(known))
    return entry_of(wire, raw if keep_raw else None, unknown), wire.sequence_id is UNSET


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


def sequence_of(value: object) -> int | None:
    """The sequence as an exact int, or None when it is not one in 0 < n < 2^63 in plain decimal."""
    if type(value) is str:
        if not (value.isdecimal() and value.isascii() and len(value) <= 19) or value[0] == "0":
            return None
        number = int(value)
    elif type(value) is int:
        number = value
    else:
        return None
    return number if 0 < number <= SEQUENCE_MAX else None
