"""The pages of an interlude that tells single entries of the log: those that were committed late, and dead letters that
are redriven. They are read from the source again, by their sequences."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import msgspec
import structlog

from oplogbridge.clock import Clock
from oplogbridge.source.asking import Patience
from oplogbridge.source.reader import Client, Reader, T
from oplogbridge.values import Entry, Malformed, Page
from oplogbridge.wishes import Interlude

_log = structlog.get_logger()


class ToldPages:
    """As `source.start.Pages`. Offsets count from the interlude's, one an entry. An entry keeps its id, which is its
    sequence; one that the source does not show any more, or that is malformed, is passed over, which the log says.

    With `as_letters` they are handed on as what no destination takes, so that they become dead letters.
    """

    def __init__(self, reader: Reader, wanted: Interlude, *, clock: Clock, jitter: Callable[[], float]) -> None:
        self._reader = reader
        self._wanted = wanted
        self._sequences = [int(text) for text in wanted.sequences]  # ascending
        self._patience = Patience(reader, f"the {wanted.kind} of {wanted.pipeline}", clock=clock, jitter=jitter)

    async def page(self, offset: int) -> Page:
        wanted, done = self._wanted, offset - self._wanted.at_offset
        rest = self._sequences[done:]
        if not rest:
            return Page(offset, offset, (), (), False, None, bytes_received=0)
        page = await self._patience.ask(lambda client: client.poll(rest[0]))
        there = {entry.sequence: entry for entry in page.entries}
        entries: list[Entry] = []
        letters: list[Malformed] = []
        count = 0
        for count, sequence in enumerate(rest):
            if sequence >= page.next_offset and count:
                break
            found = there.get(sequence)
            if found is None:
                _log.warning("an entry is not told", pipeline=wanted.pipeline, sequence=sequence, kind=wanted.kind)
                continue
            place = f"{wanted.at_offset - 1}-{wanted.first_place + done + count}"
            if wanted.as_letters:
                reason = "it was committed late, behind higher sequences"
                letters.append(Malformed(offset + count, bytes(found.object), reason, str(sequence), place))
                continue
            entries.append(msgspec.structs.replace(found, sequence=offset + count, place=place))
        else:
            count += 1
        return Page(offset, offset + count, entries, letters, True, page.datamodel_hash, page.bytes_received)

    async def tail(self) -> Page:
        return await self._reader.tail()

    async def ask(self, question: Callable[[Client], Awaitable[T]]) -> T:
        return await self._reader.ask(question)
