"""Between the source and the codec: what a page refers to is fetched, and what does not come in time is waited for.

A page is never held back longer than `timeout_seconds`, and not at all while the media host is failing: what is not in
the store by then goes out as `pending`, under the URL that it will have, and onto the list (`waiting.py`), which is
durable before the page goes on.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import replace

import structlog

from oplogbridge.attachments.media import MediaClient, MediaTrouble, TooLarge
from oplogbridge.attachments.references import (
    PENDING,
    Reference,
    Told,
    references_of,
    with_attachments,
)
from oplogbridge.attachments.spec import AttachmentsSpec
from oplogbridge.attachments.store import AttachmentStore
from oplogbridge.attachments.waiting import Waiting
from oplogbridge.backoff import Backoff
from oplogbridge.clock import Clock
from oplogbridge.closing import given_up
from oplogbridge.errors import Misconfigured, Unavailable
from oplogbridge.lease import Lease
from oplogbridge.source.answers import Answer
from oplogbridge.source.start import Pages
from oplogbridge.state import StateStore
from oplogbridge.status import PipelineStatus
from oplogbridge.values import Entry, Page

AT_ONCE_MAX = 4  # each holds a connection and a file
KNOWN_MAX = 10_000  # ids whose store need not be asked again
REDIRECTS = frozenset({301, 302, 303, 307, 308})

_log = structlog.get_logger()


class Attachments:
    """Of one delivery. `close` ends it."""

    def __init__(
        self,
        spec: AttachmentsSpec,
        *,
        accepts: Callable[[str, str], bool],
        pages: Pages,
        store: StateStore,
        lease: Lease,
        clock: Clock,
        jitter: Callable[[], float],
        status: PipelineStatus,
    ) -> None:
        """`accepts` is the pipeline's filter, of type and operation."""
        self._spec = spec
        self._accepts = accepts
        self._pages = pages
        self._clock = clock
        self._status = status
        self._store = AttachmentStore(spec.store)
        self._media = MediaClient(
            size_max=spec.size_max, timeout_seconds=spec.timeout_seconds, allow_http=spec.allow_http
        )
        self._at_once = asyncio.Semaphore(AT_ONCE_MAX)
        self._backoff = Backoff(first_seconds=1.0, max_seconds=60.0, jitter=jitter)
        self._media_again_at = 0.0  # while the host fails nobody's page waits for it
        self._known: OrderedDict[str, Told] = OrderedDict()
        self._waiting = Waiting(spec, self._fetched_later, pages=pages, store=store, lease=lease, clock=clock)

    async def attached(self, page: Page) -> Page:
        """The page, with what is known of its attachments in its entries. Raises Unavailable, Misconfigured, Fenced:
        of the stores, never of the media host."""
        found = {at: references for at, entry in enumerate(page.entries) if (references := self._references(entry))}
        if not found:
            return page
        wanted = {one.id: one for references in found.values() for one in references}
        told = await self._told(wanted.values())
        await self._waiting.add([wanted[id_] for id_, known in told.items() if known is PENDING])
        self._count(told.values())
        url_of = {id_: self._store.url_of(id_) for id_ in wanted}
        entries = list(page.entries)
        for at, references in found.items():
            entries[at] = with_attachments(entries[at], references, told, url_of, self._spec.format)
        return replace(page, entries=entries)

    async def keep_trying(self, fail: Callable[[Exception], None]) -> None:
        """Fetch what is on the list, until cancelled, or until `fail` was told why it cannot go on (as `attached`)."""
        try:
            await self._waiting.keep_trying(self._status)
        except Exception as error:
            fail(error)

    async def close(self) -> None:
        await self._media.close()

    def _references(self, entry: Entry) -> list[Reference]:
        type_, spec = entry.object_type, self._spec
        if (spec.types and type_ not in spec.types) or not self._accepts(type_, entry.operation):
            return []
        return references_of(entry, spec.fields, spec.hidden.get(type_, ()))

    async def _told(self, references: Iterable[Reference]) -> dict[str, Told]:
        """Of each by its id, within the page's time."""
        asked = {one.id: asyncio.create_task(self._found_or_fetched(one)) for one in references}
        try:
            await asyncio.wait(asked.values(), timeout=self._spec.timeout_seconds)
            return {id_: task.result() if task.done() else PENDING for id_, task in asked.items()}
        finally:
            late = [task for task in asked.values() if not task.done()]
            if late:
                self._host_failed()
            await given_up(list(asked.values()))

    async def _found_or_fetched(self, one: Reference) -> Told:
        kept = self._known.get(one.id) or await self._store.told(one.id)
        if kept is not None and kept.state in ("uploaded", "too_large"):
            return self._note(one.id, kept)
        if one.state in ("missing", "untrusted"):
            return await self._keep(one.id, Told(one.state))  # type: ignore[arg-type]  # narrowed just now
        if one.state == "pending" or self._clock.monotonic() < self._media_again_at:
            return PENDING
        try:
            return await self._fetched(one)
        except MediaTrouble as error:
            if error.of_host:
                self._host_failed()
            _log.info("attachment not fetched", pipeline=self._spec.pipeline, id=one.id, error=str(error))
        except Unavailable as error:  # the source, asked for a v1 attachment
            _log.info("attachment not found out", pipeline=self._spec.pipeline, id=one.id, error=str(error))
        return PENDING

    async def _fetched_later(self, one: Reference, told: Told | None) -> Told | None:
        """For the list: `told` is how it ends without bytes; else they are fetched. None: not yet.

        Raises Unavailable, Misconfigured of the store.
        """
        if told is not None:
            return await self._keep(one.id, told)
        kept = await self._store.told(one.id)
        if kept is not None and kept.state in ("uploaded", "too_large"):
            return kept  # another pipeline was there before
        try:
            return await self._fetched(one)
        except MediaTrouble as error:
            if error.of_host:
                self._host_failed()
            _log.info("attachment not fetched", pipeline=self._spec.pipeline, id=one.id, error=str(error))
            return None

    async def _fetched(self, one: Reference) -> Told:
        """Into the store. Raises MediaTrouble; Unavailable, Misconfigured of the store, and of the source for v1."""
        url = one.url if self._spec.has_urls else await self._redirect(one.id)
        if url is None:
            return PENDING  # uploaded, says the source, and shows no URL
        directory = await self._store.directory()
        async with self._at_once:
            try:
                fetched = await self._media.fetch(url, directory)
            except TooLarge:
                return await self._keep(one.id, Told("too_large"))
        try:
            told = Told("uploaded", fetched.media_type, fetched.length, fetched.sha256)
            await self._store.keep(one.id, told, fetched.file)
        finally:
            with contextlib.suppress(OSError):
                fetched.file.unlink(missing_ok=True)
        self._backoff.reset()
        self._media_again_at = 0.0
        return self._note(one.id, told)

    async def _redirect(self, id_: str) -> str | None:
        """Where v1 says that the bytes are; None while it has none. Raises as `Pages.ask`."""
        answer: Answer = await self._pages.ask(lambda client: client.ask(f"_attachment/{id_}"))
        if answer.status in REDIRECTS:
            return answer.location
        if answer.status == 404:
            return None
        raise Misconfigured(
            f"source: _attachment/{id_} was answered with HTTP {answer.status} and no redirect: it takes API v1"
        )

    async def _keep(self, id_: str, told: Told) -> Told:
        await self._store.keep(id_, told)
        return self._note(id_, told)

    def _note(self, id_: str, told: Told) -> Told:
        self._known[id_] = told
        if len(self._known) > KNOWN_MAX:
            self._known.popitem(last=False)
        return told

    def _host_failed(self) -> None:
        self._media_again_at = self._clock.monotonic() + self._backoff.next_seconds()

    def _count(self, told: Iterable[Told]) -> None:
        counts = self._status.attachments
        for one in told:
            counts[one.state] = counts.get(one.state, 0) + 1
