"""`datamodel_events`: a data model is told before the first event that is shown by it.

The live pipeline's pages stop before such an entry; an interlude tells the model in a page of its own; they go on.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import msgspec

from oplogbridge.clock import Clock
from oplogbridge.errors import Misconfigured, Unavailable
from oplogbridge.source.asking import Patience
from oplogbridge.source.datamodel import read_model
from oplogbridge.source.reader import Client, Reader, T
from oplogbridge.values import Entry, Page
from oplogbridge.wishes import Interlude

TYPE, OPERATION = "datamodel", "deploy"


class PagesOfToldModels:
    """A reader's pages, as far as their data model was told."""

    def __init__(self, reader: Reader, is_told: Callable[[str], bool], wants: Callable[[str], None]) -> None:
        """`wants` is called with the hash that has to be told first."""
        self._reader = reader
        self._is_told = is_told
        self._wants = wants

    async def page(self, offset: int) -> Page:
        """As `Reader.page`. Raises Unavailable, too, until the model is told."""
        page = await self._reader.page(offset)
        if self._is_new(page):
            self._reader.forget_pages()  # it may have been polled before the model that was told last
            page = await self._reader.page(offset)
            if self._is_new(page):
                assert page.datamodel_hash is not None, "new"
                self._wants(page.datamodel_hash)
                raise Unavailable(f"data model {page.datamodel_hash} is told first: going on behind it")
        return page

    async def tail(self) -> Page:
        return await self._reader.tail()

    async def ask(self, question: Callable[[Client], Awaitable[T]]) -> T:
        return await self._reader.ask(question)

    def _is_new(self, page: Page) -> bool:
        return bool(page.entries) and page.datamodel_hash is not None and not self._is_told(page.datamodel_hash)


class ModelPages:
    """As `source.start.Pages`."""

    def __init__(self, reader: Reader, wanted: Interlude, *, clock: Clock, jitter: Callable[[], float]) -> None:
        self._reader = reader
        self._wanted = wanted
        self.told = wanted.datamodel_hash  # of what is delivered; after a crash that of the page which waited for it
        self._patience = Patience(reader, f"the data model for {wanted.pipeline}", clock=clock, jitter=jitter)

    async def page(self, offset: int) -> Page:
        """Raises Misconfigured where there is no data model."""
        if offset > self._wanted.at_offset:
            return Page(offset, offset, (), (), False, None, bytes_received=0)
        answer = await self._patience.ask(lambda client: client.ask("datamodel.json"))
        if answer.status != 200:
            raise Misconfigured(
                f"datamodel.json was answered with HTTP {answer.status}: set `datamodel_events: false`, or ask the "
                "vendor"
            )
        hash_ = self.told = read_model(answer.body).datamodel_hash
        place = f"{self._wanted.at_offset - 1}-{self._wanted.first_place}"
        entry = Entry(
            sequence=offset,
            id=place,
            operation=OPERATION,
            object=msgspec.Raw(b'{"id":%b,"type":"%b",%b' % (_text(hash_), TYPE.encode(), answer.body.lstrip()[1:])),
            object_type=TYPE,
            object_id=hash_ or "",
            updated_at=None,
            events=msgspec.UNSET,
            app_id=msgspec.UNSET,
            unknown=None,
            raw=msgspec.Raw(answer.body),
            place=place,
        )
        return Page(offset, offset + 1, [entry], (), True, hash_, bytes_received=len(answer.body))

    async def tail(self) -> Page:
        return await self._reader.tail()

    async def ask(self, question: Callable[[Client], Awaitable[T]]) -> T:
        return await self._reader.ask(question)


def _text(value: str | None) -> bytes:
    return msgspec.json.encode(value or "")
