"""Reads a page entry by entry: when one has a field that we do not know, or is malformed. Three times slower than a
page at once, so `decode` takes this way only then. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Set
from typing import NamedTuple, TypeVar

import msgspec
from msgspec import Raw

from oplogbridge.errors import Misconfigured
from oplogbridge.source.sequences import sequence_of
from oplogbridge.values import Entry, Malformed

Wire = TypeVar("Wire")


class EntryMalformed(Exception):
    """It can become no event; the message says why."""


class ReadPage(NamedTuple):
    """A page as it was read, before its order is checked. `has_more` is None where the source does not say."""

    entries: list[Entry]
    malformed: list[Malformed]
    numbers: bool  # any of its sequences is a number, which a source may have rounded
    datamodel_hash: str | None = None
    has_more: bool | None = None
    next_request_start: str | int | None = None


class PageRaw(msgspec.Struct, frozen=True):
    entries: list[Raw]
    datamodel_hash: str | None = None
    has_more: bool | None = None
    next_request_start: str | int | None = None


_decode_fields = msgspec.json.Decoder(dict[str, Raw]).decode
_decode_number = msgspec.json.Decoder(int | str | float | None).decode
_NULL = Raw(b"null")
_ESCAPE = re.compile(
    rb"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(?P<half>\\u[dD][89a-fA-F][0-9a-fA-F]{2})|\\."
)


def decode_entry(
    raw: Raw, decode: Callable[[bytes | Raw], Wire], known: Set[str]
) -> tuple[Wire, dict[str, Raw] | None]:
    """One entry, and the fields beside the known ones, which the vendor may have added; None nearly always."""
    try:
        return decode(raw), None
    except msgspec.ValidationError:
        fields = _decode_fields(raw)
        unknown = {name: value for name, value in fields.items() if name not in known}
        if not unknown:
            raise
        known_fields = {name: value for name, value in fields.items() if name in known}
        return decode(msgspec.json.encode(known_fields)), unknown


def read_one_by_one(
    body: bytes, *, split: Callable[[bytes], PageRaw], entry_of_raw: Callable[[Raw], tuple[Entry, bool]]
) -> ReadPage:
    """The page, its sound entries and its malformed ones. `entry_of_raw` also tells whether a number is the sequence.

    Raises:
        msgspec.DecodeError: It is no page.
        Misconfigured: An entry has no usable sequence.
    """
    page, damaged = _page_of(body, split)
    entries: list[Entry] = []
    malformed: list[Malformed] = []
    numbers = False
    for index, raw in enumerate(page.entries):
        try:
            if index in damaged:
                raise EntryMalformed("it holds half of a surrogate pair, which is no Unicode text")
            entry, numbered = entry_of_raw(raw)
            entries.append(entry)
            numbers = numbers or numbered
        except (EntryMalformed, msgspec.DecodeError) as error:
            text = damaged.get(index) or bytes(raw)
            malformed.append(Malformed(_sequence_or_stop(raw, error), text, str(error)))
    return ReadPage(entries, malformed, numbers, page.datamodel_hash, page.has_more, page.next_request_start)


def _page_of(body: bytes, split: Callable[[bytes], PageRaw]) -> tuple[PageRaw, dict[int, bytes]]:
    """The page entry by entry, and the text as received of those that hold half of a surrogate pair, by index.

    JavaScript writes such halves (`"\\ud83d"`) and JSON's grammar allows them, but msgspec refuses the whole page. So
    they are masked, without moving anything, to find the entries that have them.
    """
    try:
        return split(body), {}
    except msgspec.ValidationError:
        raise
    except msgspec.DecodeError:
        masked = _ESCAPE.sub(lambda found: b"\\ufffd" if found["half"] else found.group(), body)
        page = split(masked)
    damaged: dict[int, bytes] = {}
    end = 0
    for index, raw in enumerate(page.entries):
        start = masked.index(raw, end)
        end = start + len(raw)
        if body[start:end] != masked[start:end]:
            damaged[index] = body[start:end]
    return page, damaged


def _sequence_or_stop(raw: Raw, cause: Exception) -> int:
    """The sequence of an entry that is otherwise malformed; an entry without one cannot be passed by anybody."""
    written = _NULL
    try:
        fields = _decode_fields(raw)
        written = fields.get("sequence_id", fields.get("sequence", _NULL))
        value = _decode_number(written)
    except msgspec.DecodeError:
        value = None
    sequence = sequence_of(value)
    if sequence is None:
        shown = bytes(written)[:40].decode(errors="replace")  # and no more of it: the rest may be personal
        raise Misconfigured(
            f"the source sent an entry without a usable sequence (0 < n < 2^63, exact): {shown!r}; "
            "nothing can be delivered past it, have it mended at the source"
        ) from cause
    return sequence
