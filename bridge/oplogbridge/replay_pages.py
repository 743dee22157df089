"""The pages of a replay: a range of the log, narrowed, in turns beside the live pipelines."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace

from oplogbridge.clock import Clock
from oplogbridge.source.asking import Patience
from oplogbridge.source.reader import Client, Reader, T
from oplogbridge.values import Page
from oplogbridge.wishes import Narrowing, Replay


class ReplayPages:
    """As `source.start.Pages`, up to the replay's end, where nothing follows any more."""

    def __init__(self, reader: Reader, wanted: Replay, *, clock: Clock, jitter: Callable[[], float]) -> None:
        self._reader = reader
        self._wanted = wanted
        self._patience = Patience(reader, f"replay {wanted.name}", clock=clock, jitter=jitter)
        self._accepts = accepts(wanted.narrowing)

    async def page(self, offset: int) -> Page:
        """Waits out every fault that may pass; raises as `Reader.page`."""
        if offset >= self._wanted.to_offset:
            return Page(offset, offset, (), (), more=False, datamodel_hash=None, bytes_received=0)
        page = await self._patience.ask(lambda client: client.poll(offset))
        return cut(page, self._wanted.to_offset, self._accepts)

    async def tail(self) -> Page:
        return await self._reader.tail()

    async def ask(self, question: Callable[[Client], Awaitable[T]]) -> T:
        return await self._reader.ask(question)


def cut(page: Page, to_offset: int, accepted: Callable[[str, str, str], bool] | None) -> Page:
    """What of the page lies in the range and is wanted. Pure."""
    entries = [
        one
        for one in page.entries
        if one.sequence < to_offset and (accepted is None or accepted(one.object_type, one.operation, one.object_id))
    ]
    # Nobody knows what a malformed entry is about: it is in unless the range is narrowed.
    malformed = [one for one in page.malformed if one.sequence < to_offset and accepted is None]
    next_offset = min(page.next_offset, to_offset)
    more = page.more and next_offset < to_offset
    return replace(page, entries=entries, malformed=malformed, next_offset=next_offset, more=more)


def accepts(narrowing: Narrowing) -> Callable[[str, str, str], bool] | None:
    """Of type, operation and id; None where all are wanted."""
    types, operations, ids = map(frozenset, (narrowing.types, narrowing.operations, narrowing.ids))
    if not (types or operations or ids):
        return None
    return lambda type_, operation, id_: (
        (not types or type_ in types) and (not operations or operation in operations) and (not ids or id_ in ids)
    )
