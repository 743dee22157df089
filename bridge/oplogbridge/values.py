"""The values that travel along the line. They hold no behaviour that waits, reads a clock or logs.

    source --Page--> codec --Batch--> sink --Position--> state store

A *sequence* is an entry's number, 0 < n < 2^63. An *offset* is the next sequence to read (last finished + 1), so it may
be 2^63. Both are Python ints in memory and decimal text everywhere outside: a double cannot hold them.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import msgspec

SEQUENCE_MAX = 2**63 - 1
OFFSET_MAX = 2**63
Headers = tuple[tuple[str, bytes], ...]
_TOLD = re.compile(r"[a-z]+@\d{1,19}")
OFFSET_UNKNOWN = -1  # of a position: what proved it has expired there
OFFSET_EARLIEST = 0  # not 1: a source that shows a sequence 0 breaks its own rule, and asking from 0 makes that visible


def offset_of(text: object) -> int | None:
    """The offset that this text is, in plain decimal; None when it is not one from 0 to 2^63."""
    if not isinstance(text, str) or not (text.isdecimal() and text.isascii() and len(text) <= 19):
        return None
    offset = int(text)
    return offset if offset <= OFFSET_MAX else None


def log_of(source: str) -> str:
    """The source id that a position names, also where it was written during an interlude (`SOURCE#KIND@OFFSET`)."""
    log, hash_, told = source.rpartition("#")
    return log if hash_ and _TOLD.fullmatch(told) else source


class Entry(msgspec.Struct, frozen=True, gc=False):
    """One oplog record as received. `object` and `events` are the bytes of the page, untouched."""

    sequence: int
    id: str  # the sequence in plain decimal; of a snapshot's entry its place
    operation: str
    object: msgspec.Raw
    object_type: str
    object_id: str
    updated_at: str | None  # as received when it is a string; nothing says that it is a time
    events: msgspec.Raw | msgspec.UnsetType
    app_id: msgspec.Raw | msgspec.UnsetType  # the vendor's client types it, its pages do not: kept, never read
    unknown: dict[str, msgspec.Raw] | None  # fields the vendor may add; None nearly always
    raw: msgspec.Raw | None  # the whole entry, when a pipeline asked for it (format `raw`)
    place: str | None = None  # as `Event.place`


@dataclass(frozen=True, slots=True)
class Malformed:
    """An entry that has a sequence but cannot become an event. It is dead-lettered or stops the pipeline."""

    sequence: int
    raw: bytes
    reason: str
    number: str | None = None  # as `Event.number`, where that is not `sequence`
    place: str | None = None  # as `Event.place`


@dataclass(frozen=True, slots=True)
class Page:
    """One answer of the source, checked: strictly ascending, nothing below `from_offset`.

    `next_offset` is where to ask next; it lies beyond the last entry, or beyond `from_offset` on an empty page with
    more to come. `more` is False only when the source said so, or when it showed an empty page.
    """

    from_offset: int
    next_offset: int
    entries: Sequence[Entry]
    malformed: Sequence[Malformed]  # ascending, and never a sequence that `entries` holds
    more: bool
    datamodel_hash: str | None
    bytes_received: int
    dropped: int = 0  # entries below `from_offset`, which the source should not have sent
    reordered: bool = False  # the source's order was not ascending
    held_back: bool = False  # younger entries follow that `settle` keeps for later


class Event(msgspec.Struct, frozen=True, gc=False):
    """What a sink publishes. The payload is encoded once, before the sink, and sinks send it untouched."""

    sequence: int
    id: str  # the sequence in plain decimal: same entry, same id, after any restart. See also `place`
    key: bytes  # what orders and partitions
    type: str  # "oplog.user.update"
    time: str | None  # RFC 3339, when the entry has one
    payload: bytes
    constant_headers: Headers  # content-type, Oplog-Source: one object for a whole pipeline, or for a type in a page
    object_type: str  # for destination templates
    operation: str
    own_headers: Headers = ()  # CloudEvents' attributes that are this event's alone, in `mode: binary`
    tombstone: bool = False  # behind it goes its key once more, without a value
    # Of an event that stands where its sequence does not tell (an interlude, docs/adr/0014): `<sequence>-<n>`, behind
    # that sequence. `sequence` then counts for itself, and `id` is the place, or the entry's own sequence as ever.
    place: str | None = None

    @property
    def headers(self) -> Headers:
        """What goes with the payload where a destination has headers, named and encoded as it wants them
        (`SinkTraits.binary`). Made anew at each look: half of all sinks never look, and these tuples cost as much as
        the event itself."""
        return (*self.constant_headers, ("Oplog-Sequence", self.number), *self.own_headers)

    @property
    def number(self) -> bytes:
        """The sequence as it is shown: in plain decimal also where the id is a place."""
        return self.id.encode() if self.place is None else self.id.partition("-")[0].encode()


@dataclass(frozen=True, slots=True)
class Batch:
    """Events for one atomic write. `events` is never empty and ascends.

    `from_offset` is the position that the sink must have for the write to be right; `next_offset` is the position that
    it has afterwards (beyond the last event, since filtered entries may follow).
    """

    events: Sequence[Event]
    from_offset: int
    next_offset: int
    prepared: object = None  # what the sink's own `prepare` returned for exactly these events; None: nothing
    save: Callable[[int], Awaitable[None]] | None = None  # for a sink without a position: keeps how far it got

    def before(self, index: int) -> Batch | None:
        """The part before event `index`, for a sink that must deliver it before it raises `Rejected`; None if empty."""
        if index == 0:
            return None
        return Batch(self.events[:index], self.from_offset, self.events[index].sequence)


@dataclass(frozen=True, slots=True)
class Position:
    """The offset that a destination itself proves, and for whom it keeps it.

    `proof` is the sink's own business: text that is compared for equality where the offset alone does not tell an
    expired tail from a lost one (the last stream sequence on JetStream). `source` and `destination` are what the
    record at the destination names; they differ from the configuration's when somebody else's record was found.
    Where the record has expired the offset is `OFFSET_UNKNOWN`, and only a mark with the same proof tells more.
    """

    offset: int
    source: str
    destination: str
    proof: str = ""

    @property
    def is_known(self) -> bool:
        return self.offset != OFFSET_UNKNOWN
