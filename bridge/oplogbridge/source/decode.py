"""From the bytes of a page to a checked `Page`. Pure.

Two forms exist (docs/source.md): where `sequence_ids=true` is honoured every entry has a string `sequence_id` and the
page has `has_more` and `next_request_start`; elsewhere the entry has an integer `sequence` and only an empty page says
that nothing follows.
"""

from __future__ import annotations

import re
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
_RUNS_MAX = 1024  # honest sources leave one a thousand entries; only the last of them matter


class PageUnreadable(Exception):
    """The body is no page: cut off, or from a proxy. Asking again may help."""


@dataclass(slots=True)
class PageDecoder:
    """Decodes the pages of one source. `keep_raw` keeps every entry's bytes, for pipelines of format `raw`."""

    keep_raw: bool = False
    rounded_allowed: bool = False
    # How many consecutive sequences, just below an offset, look as if they had gone through a double. By offset, since
    # pipelines read different parts in turns, and a pipeline that stopped at such a run tries its last page again.
    _runs: dict[int, int] = field(default_factory=dict)

    def decode(self, body: bytes, from_offset: int) -> Page:
        """The page that `body` is.

        Raises:
            PageUnreadable: It is not JSON, or JSON of another shape.
            Misconfigured: It is a page, but passing it would need a guess: an entry without a usable sequence, two
                different entries with one sequence, sequences that were rounded, bytes that are not UTF-8.
        """
        try:
            wire, entries, malformed, numbers = self._read(body)
            body.decode()  # msgspec.Raw does not check UTF-8 inside; once per page is cheap
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
        if malformed:
            wanted = [one for one in malformed if one.sequence >= from_offset]
            dropped += len(malformed) - len(wanted)
            malformed = _without_copies(entries, wanted)
        if numbers and not self.rounded_allowed:
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

    def _read(self, body: bytes) -> tuple[_PageWire | _PageRaw, list[Entry], list[Malformed], bool]:
        """The page, its entries, and whether any of them is numbered by a number rather than by text."""
        if not self.keep_raw:
            try:
                wire = _page.decode(body)
                numbers = any(entry.sequence_id is UNSET for entry in wire.entries)
                return wire, [_entry_of(entry, None) for entry in wire.entries], [], numbers
            except (msgspec.DecodeError, _EntryMalformed):
                pass  # an unknown field or a malformed entry: read this page entry by entry
        raw, damaged = _page_of(body)
        entries: list[Entry] = []
        malformed: list[Malformed] = []
        numbers = False
        for index, bytes_of in enumerate(raw.entries):
            try:
                if index in damaged:
                    raise _EntryMalformed("it holds half of a surrogate pair, which is no Unicode text")
                entry, numbered = _one(bytes_of, keep_raw=self.keep_raw)
                entries.append(entry)
                numbers = numbers or numbered
            except (_EntryMalformed, msgspec.DecodeError) as error:
                text = damaged.get(index) or bytes(bytes_of)
                malformed.append(Malformed(_sequence_or_stop(bytes_of, error), text, str(error)))
        return raw, entries, malformed, numbers

    def _refuse_rounded(self, entries: Sequence[Entry], from_offset: int) -> None:
        length = self._runs.get(from_offset, 0)
        for entry in entries:
            if not _looks_rounded(entry.sequence):
                length = 0
                continue
            length = max(length + 1, self._runs.get(entry.sequence + 1, 0))
            if length >= ROUNDED_RUN_MAX:
                raise Misconfigured(
                    f"the source's sequences went through a float: {length} in a row up to {entry.sequence} are "
                    "exactly what a double can hold, so entries between them may be hidden; have the source send exact "
                    "numbers, or accept the risk with `rounded_sequences: allow`"
                )
            if len(self._runs) >= _RUNS_MAX:
                self._runs.pop(next(iter(self._runs)))
            self._runs[entry.sequence + 1] = length


class _EntryMalformed(Exception):
    pass


_NULL = Raw(b"null")


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


class _ObjectName(msgspec.Struct, frozen=True, gc=False):
    type: str
    id: str


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
_decode_name = msgspec.json.Decoder(_ObjectName).decode
_number = msgspec.json.Decoder(int | str | float | None)
_KNOWN = frozenset(_Wire.__struct_fields__)


def _entry_of(wire: _Wire, raw: Raw | None, unknown: dict[str, Raw] | None = None) -> Entry:
    sequence = _sequence_of(wire.sequence_id if wire.sequence_id is not UNSET else wire.sequence)
    if sequence is None:
        raise _EntryMalformed("it has no usable sequence")
    try:
        head = _decode_head(wire.object)
    except msgspec.DecodeError:
        head = _head_without_time(wire.object)
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


def _head_without_time(object_: Raw) -> _ObjectHead:
    """For an object that has a type and an id, and an `updated_at` such as 1e999, which is not ours to judge."""
    try:
        name = _decode_name(object_)
    except msgspec.DecodeError as error:
        raise _EntryMalformed(f"its object is not usable: {error}") from error
    return _ObjectHead(name.type, name.id)


def _one(raw: Raw, *, keep_raw: bool) -> tuple[Entry, bool]:
    try:
        wire, unknown = _wire.decode(raw), None
    except msgspec.ValidationError:
        fields = _fields.decode(raw)
        unknown = {name: value for name, value in fields.items() if name not in _KNOWN}
        if not unknown:
            raise
        known = {name: value for name, value in fields.items() if name in _KNOWN}
        wire = _wire.decode(msgspec.json.encode(known))
    return _entry_of(wire, raw if keep_raw else None, unknown), wire.sequence_id is UNSET


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
        value = _number.decode(fields.get("sequence_id", fields.get("sequence", _NULL)))
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
    return _compared(one) == _compared(other)


def _compared(entry: Entry) -> list[object]:
    """All of an entry but its own bytes, where a space may differ; `Raw` compares by its bytes."""
    return [getattr(entry, name) for name in Entry.__struct_fields__ if name != "raw"]


def _without_copies(entries: Sequence[Entry], malformed: Sequence[Malformed]) -> list[Malformed]:
    """Ascending, exact copies dropped."""
    sound = {entry.sequence for entry in entries}
    kept: dict[int, Malformed] = {}
    for one in sorted(malformed, key=lambda m: m.sequence):
        if one.sequence in sound or kept.get(one.sequence, one) != one:
            raise _two_with_one_sequence(one.sequence)
        kept[one.sequence] = one
    return list(kept.values())


def _two_with_one_sequence(sequence: int) -> Misconfigured:
    return Misconfigured(
        f"the source sent two different entries with sequence {sequence}: nobody but the vendor can say which is "
        "right; ask for the log to be mended"
    )


def _next_request_start(value: str | int | None, from_offset: int) -> int:
    """Where an empty page with more to come goes on. Absent or backwards: ask the same offset again."""
    text = str(from_offset if value is None else value)
    if not (text.isascii() and text.isdecimal() and len(text) <= 19 and int(text) <= OFFSET_MAX):
        raise PageUnreadable(f"next_request_start is no offset: {text[:40]!r}")
    return max(int(text), from_offset)


def _looks_rounded(sequence: int) -> bool:
    if sequence < _FLOAT_EXACT_MAX:
        return False
    rounded = float(sequence)
    return int(rounded) == sequence or int(Decimal(repr(rounded))) == sequence


def _page_of(body: bytes) -> tuple[_PageRaw, dict[int, bytes]]:
    """The page entry by entry, and the text as received of those that hold half of a surrogate pair, by index.

    JavaScript writes such halves (`"\\ud83d"`) and JSON's grammar allows them, but msgspec refuses the whole page. So
    they are masked, without moving anything, to find the entries that have them.
    """
    try:
        return _page_raw.decode(body), {}
    except msgspec.ValidationError:
        raise
    except msgspec.DecodeError:
        masked = _ESCAPE.sub(lambda found: b"\\ufffd" if found["half"] else found.group(), body)
        page = _page_raw.decode(masked)
    damaged: dict[int, bytes] = {}
    end = 0
    for index, raw in enumerate(page.entries):
        start = masked.index(raw, end)
        end = start + len(raw)
        if body[start:end] != masked[start:end]:
            damaged[index] = body[start:end]
    return page, damaged


_ESCAPE = re.compile(
    rb"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(?P<half>\\u[dD][89a-fA-F][0-9a-fA-F]{2})|\\."
)
