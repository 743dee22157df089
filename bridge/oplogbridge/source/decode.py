"""From the bytes of a page to a checked `Page`. Pure.

Two forms exist (docs/source.md): where `sequence_ids=true` is honoured every entry has a string `sequence_id` and the
page has `has_more` and `next_request_start`; elsewhere the entry has an integer `sequence` and only an empty page says
that nothing follows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal

import msgspec
from msgspec import UNSET, Raw, UnsetType

from oplogbridge.errors import Misconfigured
from oplogbridge.values import OFFSET_MAX, SEQUENCE_MAX, Entry, Malformed, Page

ROUNDED_RUN_MAX = (
    8  # an honest sequence equals its own float once in a thousand: eight in a row is a source that rounds
)
_FLOAT_EXACT_MAX = 2**53


class PageUnreadable(Exception):
    """The body is no page: cut off, or from a proxy. Asking again may help."""


@dataclass(slots=True)
class RoundedRun:
    """How many consecutive sequences, just below `next_offset`, look as if they had gone through a double."""

    length: int = 0
    next_offset: int = 0


@dataclass(slots=True)
class PageDecoder:
    """Decodes the pages of one source. `keep_raw` keeps every entry's bytes, for pipelines of format `raw`."""

    keep_raw: bool = False
    rounded_allowed: bool = False
    _run: RoundedRun = field(default_factory=RoundedRun)

    def decode(self, body: bytes, from_offset: int) -> Page:
        """The page that `body` is.

        Raises:
            PageUnreadable: It is not JSON, or JSON of another shape.
            Misconfigured: It is a page, but passing it would need a guess: an entry without a usable sequence, two
                different entries with one sequence, sequences that were rounded, bytes that are not UTF-8.
        """
        try:
            body.decode()  # msgspec.Raw does not check UTF-8 inside; once per page is cheap
            wire, entries, malformed = self._read(body)
        except UnicodeDecodeError as error:
            raise Misconfigured(
                f"the page at offset {from_offset} holds bytes that are not UTF-8 (byte {error.start}): "
                "have the entry mended at the source"
            ) from error
        except RecursionError as error:
            raise Misconfigured(
                f"the page at offset {from_offset} is nested too deeply to be read: have the entry mended at the source"
            ) from error
        except msgspec.DecodeError as error:
            raise PageUnreadable(f"the answer is not a page of the oplog ({error})") from error

        entries, reordered = _ascending(entries)
        dropped = 0
        if entries and entries[0].sequence < from_offset:
            kept = [entry for entry in entries if entry.sequence >= from_offset]
            dropped, entries = len(entries) - len(kept), kept
        malformed = sorted((m for m in malformed if m.sequence >= from_offset), key=lambda m: m.sequence)
        _no_clash(entries, malformed)

        string_ids = wire.has_more is not None
        if not string_ids and not self.rounded_allowed:
            self._refuse_rounded(entries, from_offset)
        last = max(
            entries[-1].sequence if entries else from_offset - 1,
            malformed[-1].sequence if malformed else from_offset - 1,
        )
        next_offset = last + 1
        if last < from_offset and wire.has_more:
            next_offset = max(next_offset, _next_request_start(wire.next_request_start, from_offset))
        return Page(
            from_offset=from_offset,
            next_offset=next_offset,
            entries=entries,
            malformed=malformed,
            # Without `has_more` a short page is not the end (vendor: "no more than the limit"); only an empty one is.
            more=wire.has_more if wire.has_more is not None else len(wire.entries) > 0,
            datamodel_hash=wire.datamodel_hash,
            bytes_received=len(body),
            dropped=dropped,
            reordered=reordered,
        )

    def _read(self, body: bytes) -> tuple[_PageWire | _PageRaw, list[Entry], list[Malformed]]:
        if not self.keep_raw:
            try:
                wire = _page.decode(body)
                return wire, [_entry_of(entry, None) for entry in wire.entries], []
            except (msgspec.ValidationError, _EntryMalformed):
                pass  # an unknown field or a malformed entry: read this page entry by entry
        raw = _page_raw.decode(body)
        entries: list[Entry] = []
        malformed: list[Malformed] = []
        for bytes_of in raw.entries:
            try:
                entries.append(_one(bytes_of, keep_raw=self.keep_raw))
            except (_EntryMalformed, msgspec.ValidationError) as error:
                malformed.append(Malformed(_sequence_or_stop(bytes_of, error), bytes(bytes_of), str(error)))
        return raw, entries, malformed

    def _refuse_rounded(self, entries: Sequence[Entry], from_offset: int) -> None:
        run = self._run
        if from_offset != run.next_offset:
            run.length = 0  # another part of the log, or the same page again: only neighbours make a run
        for entry in entries:
            run.length = run.length + 1 if _looks_rounded(entry.sequence) else 0
            run.next_offset = entry.sequence + 1
            if run.length >= ROUNDED_RUN_MAX:
                raise Misconfigured(
                    f"the source's sequences went through a float: {run.length} in a row up to {entry.sequence} are "
                    "exactly what a double can hold, so entries between them may be hidden; have the source send exact "
                    "numbers, or accept the risk with `rounded_sequences: allow`"
                )


class _EntryMalformed(Exception):
    pass


class _Wire(msgspec.Struct, frozen=True, gc=False, forbid_unknown_fields=True):
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


class _PageWire(msgspec.Struct, frozen=True):
    entries: list[_Wire]
    datamodel_hash: str | None = None
    has_more: bool | None = None
    next_request_start: str | int | None = None


class _PageRaw(msgspec.Struct, frozen=True):
    entries: list[Raw]
    datamodel_hash: str | None = None
    has_more: bool | None = None
    next_request_start: str | int | None = None


_page = msgspec.json.Decoder(_PageWire)
_page_raw = msgspec.json.Decoder(_PageRaw)
_wire = msgspec.json.Decoder(_Wire)
_fields = msgspec.json.Decoder(dict[str, Raw])
_decode_head = msgspec.json.Decoder(_ObjectHead).decode
_number = msgspec.json.Decoder(int | str | float | None)
_KNOWN = frozenset(_Wire.__struct_fields__)


def _entry_of(wire: _Wire, raw: Raw | None, unknown: dict[str, Raw] | None = None) -> Entry:
    sequence = _sequence_of(wire.sequence_id if wire.sequence_id is not UNSET else wire.sequence)
    if sequence is None:
        raise _EntryMalformed("it has no usable sequence")
    try:
        head = _decode_head(wire.object)
    except msgspec.ValidationError as error:
        raise _EntryMalformed(f"its object is not usable: {error}") from error
    updated_at = head.updated_at
    return Entry(
        sequence,
        wire.operation,
        wire.object,
        head.type,
        head.id,
        updated_at if type(updated_at) is str else None,
        wire.events,
        wire.app_id,
        unknown,
        raw,
    )


def _one(raw: Raw, *, keep_raw: bool) -> Entry:
    try:
        wire, unknown = _wire.decode(raw), None
    except msgspec.ValidationError:
        fields = _fields.decode(raw)
        unknown = {name: value for name, value in fields.items() if name not in _KNOWN}
        if not unknown:
            raise
        known = {name: value for name, value in fields.items() if name in _KNOWN}
        wire = _wire.decode(msgspec.json.encode(known))
    return _entry_of(wire, raw if keep_raw else None, unknown)


def _sequence_of(value: int | str | UnsetType) -> int | None:
    """The sequence as an exact int, or None when it is not one in 0 < n < 2^63 in plain decimal."""
    if type(value) is str:
        if not (value.isdecimal() and value.isascii() and len(value) <= 19):
            return None
        number = int(value)
        if value[0] == "0":
            return None
    elif type(value) is int:
        number = value
    else:
        return None
    return number if 0 < number <= SEQUENCE_MAX else None


def _sequence_or_stop(raw: Raw, cause: Exception) -> int:
    """The sequence of an entry that is otherwise malformed; an entry without one cannot be passed by anybody."""
    try:
        fields = _fields.decode(raw)
        value = _number.decode(fields.get("sequence_id", fields.get("sequence", Raw(b"null"))))
    except msgspec.DecodeError:
        value = None
    sequence = _sequence_of(value) if isinstance(value, int | str) else None
    if sequence is None:
        shown = bytes(raw)[:200].decode(errors="replace")
        raise Misconfigured(
            f"the source sent an entry without a usable sequence (0 < n < 2^63, exact): {shown!r}; "
            "nothing can be delivered past it, have it mended at the source"
        ) from cause
    return sequence


def _ascending(entries: list[Entry]) -> tuple[list[Entry], bool]:
    """Entries in strictly ascending order without exact copies, and whether the source's order was another."""
    last = 0
    for entry in entries:
        if entry.sequence <= last:
            break
        last = entry.sequence
    else:
        return entries, False
    kept: list[Entry] = []
    for entry in sorted(entries, key=lambda e: e.sequence):
        if kept and kept[-1].sequence == entry.sequence:
            if not _same(kept[-1], entry):
                raise _two_with_one_sequence(entry.sequence)
            continue
        kept.append(entry)
    return kept, True


def _same(one: Entry, other: Entry) -> bool:
    return one.operation == other.operation and bytes(one.object) == bytes(other.object)


def _no_clash(entries: Sequence[Entry], malformed: Sequence[Malformed]) -> None:
    if not malformed:
        return
    seen = {entry.sequence for entry in entries}
    for entry in malformed:
        if entry.sequence in seen:
            raise _two_with_one_sequence(entry.sequence)
        seen.add(entry.sequence)


def _two_with_one_sequence(sequence: int) -> Misconfigured:
    return Misconfigured(
        f"the source sent two different entries with sequence {sequence}: nobody but the vendor can say which is "
        "right; ask for the log to be mended"
    )


def _next_request_start(value: str | int | None, from_offset: int) -> int:
    """Where an empty page with more to come goes on. Absent or backwards: ask the same offset again."""
    try:
        start = int(value) if value is not None else from_offset
    except ValueError as error:
        raise PageUnreadable(f"next_request_start is no number: {value!r}") from error
    if start > OFFSET_MAX:
        raise PageUnreadable(f"next_request_start is beyond 2^63: {value!r}")
    return max(start, from_offset)


def _looks_rounded(sequence: int) -> bool:
    if sequence < _FLOAT_EXACT_MAX:
        return False
    rounded = float(sequence)
    return int(rounded) == sequence or int(Decimal(repr(rounded))) == sequence
