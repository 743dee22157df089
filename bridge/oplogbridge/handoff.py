"""What a pipeline's reading half hands to its writing half: parts of pages, bounded, merged when the sink is slow."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace

from oplogbridge.codec.encode import Codec
from oplogbridge.sink import SinkTraits
from oplogbridge.values import Event, Malformed, Page

PAGES_MAX = 4  # in one write; measured on Kafka: 8 and more pages a transaction gain nothing, 4 gain 40 % over 1
AHEAD_PAGES_MAX = 6  # that are prepared or wait: a write and half of the next. 8 cost 4 MiB and gain nothing
BYTES_MAX = 8 * 2**20  # of payload that waits; as much again is prepared, and in flight. A larger page passes alone


@dataclass(frozen=True, slots=True)
class Part:
    """Events up to `next_offset`, encoded; `malformed` is the entry that comes right after them and is no event."""

    events: Sequence[Event]
    next_offset: int
    payload_bytes: int
    entries: int
    malformed: Malformed | None = None
    caught_up: bool = False  # the source said that nothing follows
    held_back: bool = False  # what follows is younger than `settle`: waiting for it is progress


def parts_of(page: Page, codec: Codec, traits: SinkTraits) -> list[Part]:
    """A page as parts: nearly always one. It is cut where a malformed entry stands and where the sink's bounds are."""
    events = codec.events(page)
    size = sum([len(event.payload) for event in events])
    if not page.malformed and len(events) <= traits.events_max and size <= traits.bytes_max:
        return [Part(events, page.next_offset, size, len(page.entries), None, not page.more, page.held_back)]
    filtered = len(page.entries) - len(events)
    parts: list[Part] = []
    for malformed in page.malformed:
        before = [event for event in events if event.sequence < malformed.sequence]
        events = events[len(before) :]
        parts += _cut(before, malformed.sequence, traits, malformed=codec.malformed(malformed))
    last = _cut(events, page.next_offset, traits)
    last[-1] = replace(last[-1], entries=last[-1].entries + filtered, caught_up=not page.more, held_back=page.held_back)
    return parts + last


def _cut(
    events: Sequence[Event], next_offset: int, traits: SinkTraits, *, malformed: Malformed | None = None
) -> list[Part]:
    """Within the bounds of one write; a single larger event stands alone. Never empty: the offset moves anyway."""
    parts: list[Part] = []
    first = size = 0
    for index, event in enumerate(events):
        more = len(event.payload)
        if index > first and (index - first == traits.events_max or size + more > traits.bytes_max):
            parts.append(Part(events[first:index], events[index - 1].sequence + 1, size, index - first))
            first, size = index, 0
        size += more
    parts.append(Part(events[first:], next_offset, size, len(events) - first, malformed))
    return parts


class Handoff:
    """One putter, one taker. Nothing flows back but the pressure of being full."""

    def __init__(self, traits: SinkTraits) -> None:
        self._traits = traits
        self._parts: deque[Part] = deque()
        self._bytes = self._events = 0
        self._changed = asyncio.Event()
        self._error: Exception | None = None
        self._patient = False  # a write is in flight
        self._blocked = False  # the putter has a part that does not fit
        self._taken = 0  # parts that were taken and are being prepared
        self.closed = False
        self.entries_waiting = 0

    async def put(self, part: Part) -> None:
        """Hand a part over; waits while the taker is behind by so many parts or bytes."""
        while self._parts and self._is_full(part.payload_bytes):
            self._blocked = True
            self._changed.set()  # for the taker: more will not come
            self._changed.clear()
            await self._changed.wait()
        self._blocked = False
        self._parts.append(part)
        self._bytes += part.payload_bytes
        self._events += len(part.events)
        self.entries_waiting += part.entries
        self._changed.set()

    def write_begins(self) -> None:
        """What was taken is in flight now. Until it has ended the taker waits for as much as one write can take, since
        what it takes would only wait."""
        self._patient, self._taken, self._blocked = True, 0, False
        self._changed.set()

    def write_ended(self) -> None:
        self._patient = False
        self._changed.set()

    async def take(self) -> Part | None:
        """All that waits, as one part within the sink's bounds; None once closed.

        What was put before `fail` is taken first; then its error is raised.
        """
        while not self.closed and (not self._parts or (self._patient and not self._is_enough())):
            if self._error is not None and not self._parts:
                raise self._error
            self._changed.clear()
            await self._changed.wait()
        if self.closed:
            return None
        taken = [self._pop()]
        count, size = len(taken[0].events), taken[0].payload_bytes
        while self._parts and taken[-1].malformed is None:
            count += len(self._parts[0].events)
            size += self._parts[0].payload_bytes
            if count > self._traits.events_max or size > self._traits.bytes_max:
                break
            taken.append(self._pop())
        self._taken, self._blocked = len(taken), False
        self._changed.set()
        return taken[0] if len(taken) == 1 else _merged(taken)

    def _is_full(self, more_bytes: int) -> bool:
        waiting = len(self._parts)
        return waiting >= PAGES_MAX or waiting + self._taken >= AHEAD_PAGES_MAX or self._bytes + more_bytes > BYTES_MAX

    def _is_enough(self) -> bool:
        """Nothing that may still be put would travel in the same write, or nothing more will be put."""
        return (
            len(self._parts) >= PAGES_MAX
            or self._events >= self._traits.events_max
            or self._bytes >= min(BYTES_MAX, self._traits.bytes_max)
            or self._blocked
            or self._error is not None
        )

    def fail(self, error: Exception) -> None:
        """Nothing more will be put, because of `error`."""
        self._error = error
        self._changed.set()

    def close(self) -> None:
        """The taker is to end, even if parts wait: they are read again from the position."""
        self.closed = True
        self._changed.set()

    def _pop(self) -> Part:
        part = self._parts.popleft()
        self._bytes -= part.payload_bytes
        self._events -= len(part.events)
        self.entries_waiting -= part.entries
        return part


def _merged(parts: list[Part]) -> Part:
    last = parts[-1]
    return Part(
        [event for part in parts for event in part.events],
        last.next_offset,
        sum(part.payload_bytes for part in parts),
        sum(part.entries for part in parts),
        last.malformed,
        last.caught_up,
        last.held_back,
    )
