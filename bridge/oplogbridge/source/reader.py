"""One reader per source: it owns the pace, takes turns, shares pages and retries. Everybody else only asks for a page.

It runs as one task while this process holds the source's lease, and polls only when somebody waits for a page: the
pressure of a full hand-off is what keeps it still.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NamedTuple, Protocol, TypeVar

import structlog

from oplogbridge.backoff import Backoff
from oplogbridge.clock import Clock
from oplogbridge.errors import Fenced, Misconfigured, Unavailable
from oplogbridge.lease import Lease
from oplogbridge.source.answers import Answer
from oplogbridge.source.cache import PageCache
from oplogbridge.source.late import Recent
from oplogbridge.source.settle import Settling
from oplogbridge.source.turns import Turns
from oplogbridge.status import SourceStatus
from oplogbridge.values import Page

TAIL = -1  # stands among the offsets wanted for "the newest entries"

_log = structlog.get_logger()
T = TypeVar("T")


class Client(Protocol):
    """What each method does stands at `source.client.OplogClient`."""

    async def poll(self, offset: int) -> Page: ...

    async def poll_tail(self) -> Page: ...

    async def ask(
        self, path: str, parameters: Mapping[str, str] | None = None, *, body: object = None, etag: str | None = None
    ) -> Answer: ...


class ClosableClient(Client, Protocol):
    async def close(self) -> None: ...


class _Beside(NamedTuple):
    """A question that waits for its turn."""

    question: Callable[[Client], Awaitable[Any]]
    answer: asyncio.Future[Any]


class Reader:
    """Answers `page(offset)` from one source, one poll at a time, never two within `poll_interval_seconds`.

    The interval runs from the end of one poll to the start of the next, so that the *arrivals* at the source are that
    far apart whatever the network does to the requests.
    """

    def __init__(
        self,
        client: Client,
        *,
        poll_interval_seconds: float,
        settle_seconds: float = 0.0,
        lease: Lease,
        clock: Clock,
        jitter: Callable[[], float],
        status: SourceStatus,
    ) -> None:
        self._client = client
        self._interval_seconds = poll_interval_seconds
        self._settling = Settling(settle_seconds)
        self._lease = lease
        self._clock = clock
        self._status = status
        self._cache = PageCache()
        self.recent = Recent()
        self._turns = Turns()
        self._wanted: dict[int, list[asyncio.Future[Page]]] = {}
        self._beside: deque[_Beside] = deque()
        self._asked = asyncio.Event()
        self.datamodel_changed = asyncio.Event()  # for whoever reads it again, and clears this
        self._ended = False
        self._backoff = Backoff(first_seconds=0.5, max_seconds=30.0, jitter=jitter)
        # A new holder waits a whole interval: its predecessor may have polled just now.
        self._not_before = clock.monotonic() + poll_interval_seconds

    async def page(self, offset: int) -> Page:
        """The page that begins at `offset`, from the cache or by a poll. Waits out every fault that may pass.

        Raises:
            Misconfigured: The source refuses in a way that only a person can mend.
            Fenced: Nobody reads here any more: the lease is lost, or the bridge ends.
        """
        found = self._cache.find(offset, self._clock.monotonic())
        return found if found is not None else await self._ask(offset)

    def share_pages(self, shared: bool) -> None:
        """Whether pages are kept for others. Those that nobody else will ask for are 15 MiB for nothing."""
        if shared != self._cache.keeps:
            self._cache = PageCache() if shared else PageCache(pages_max=0)

    def forget_pages(self) -> None:
        """What is asked for now is shown by the source as it is now."""
        self.share_pages(not self._cache.keeps)
        self.share_pages(not self._cache.keeps)

    @property
    def error(self) -> str | None:
        """Why the source does not answer now."""
        return self._status.error

    async def tail(self) -> Page:
        """The newest entries of the log, ascending."""
        return await self._ask(TAIL)

    async def ask(self, question: Callable[[Client], Awaitable[T]]) -> T:
        """Anything else of the source's API, one request of the client, in a turn of its own: within the same pace, and
        behind the pages, which leave it one turn in five.

        Raises:
            Unavailable: At once, other than `page`: the pace is kept, but whether to ask again is the asker's business.
            Misconfigured, Fenced: As `page`.
        """
        if self._ended:
            raise self._nobody_reads()
        beside = _Beside(question, asyncio.get_running_loop().create_future())
        self._beside.append(beside)
        self._asked.set()
        try:
            answer: T = await beside.answer
            return answer
        finally:
            if not beside.answer.done() or beside.answer.cancelled():
                with contextlib.suppress(ValueError):  # it is being answered just now
                    self._beside.remove(beside)

    async def run(self) -> None:
        """Poll for whoever waits, until cancelled. Raises Fenced when the lease is lost."""
        try:
            while True:
                while not self._wanted and not self._beside:
                    self._asked.clear()
                    await self._asked.wait()
                await self._clock.sleep(max(0.0, self._not_before - self._clock.monotonic()))
                # Whoever asked may have gone meanwhile.
                if self._beside and (not self._wanted or self._turns.leaves_one()):
                    self._lease.check()  # before it is taken off the list: then nobody would answer it
                    await self._answer_beside(self._beside.popleft())
                elif self._wanted:
                    await self._poll(self._turns.next(self._wanted))
        finally:
            self._ended = True
            for offset in list(self._wanted):  # a `tail` from the admin page would wait for ever
                self._answer(offset, self._nobody_reads())
            for beside in self._beside:
                if not beside.answer.done():
                    beside.answer.set_exception(self._nobody_reads())

    async def _answer_beside(self, beside: _Beside) -> None:
        self._turns.beside_took_one()
        wait_seconds = 0.0
        answer: Any = None
        trouble: Exception | None = self._nobody_reads()  # when this is cancelled meanwhile
        try:
            answer = await beside.question(self._client)
            trouble = None
        except Fenced as error:  # the client checked the lease once more, between connecting and sending
            trouble = error
            raise
        except Unavailable as error:
            trouble, wait_seconds = error, error.retry_after_seconds or 0.0
        except Misconfigured as error:
            trouble = error
        except Exception as error:
            _log.exception("unexpected error", source=self._status.name)
            trouble = Misconfigured(f"unexpected {type(error).__name__}: {error}; please report it")
        finally:
            self._not_before = self._clock.monotonic() + max(self._interval_seconds, wait_seconds)
            if beside.answer.done():
                pass  # whoever asked has gone
            elif trouble is not None:
                beside.answer.set_exception(trouble)
            else:
                beside.answer.set_result(answer)

    async def _poll(self, offset: int) -> None:
        self._lease.check()
        started_at, unix_asked = self._clock.monotonic(), self._clock.unix()
        wait_seconds = 0.0
        try:
            page = await (self._client.poll_tail() if offset == TAIL else self._client.poll(offset))
        except Unavailable as error:
            wait_seconds = self._backoff.next_seconds(error.retry_after_seconds)
            if self._status.failed(str(error)):
                _log.warning("source unavailable", source=self._status.name, error=str(error), retry_in=wait_seconds)
        except Fenced:
            raise  # the client checked the lease once more, between connecting and sending
        except Misconfigured as error:
            self._status.failed(str(error))
            self._answer(offset, error)
        except Exception as error:
            # A defect of ours stops whoever wants this page and not the other pipelines of the source.
            _log.exception("unexpected error", source=self._status.name, offset=offset)
            text = f"unexpected {type(error).__name__} at offset {offset}: {error}; please report it"
            self._status.failed(text)
            self._answer(offset, Misconfigured(text))
        else:
            now = self._clock.monotonic()
            self._backoff.reset()
            changes = self._status.datamodel_changes
            if self._status.polled(page, now - started_at, now):
                _log.info("source answers again", source=self._status.name)
            if self._status.datamodel_changes > changes:
                # Nothing here depends on it; whoever reads the events may (docs/source.md).
                _log.warning("data model changed", source=self._status.name, datamodel_hash=page.datamodel_hash)
                self.datamodel_changed.set()
            if offset != TAIL:
                page = self._settling.hold_back(page, asked_at=started_at, came_at=now, unix_asked=unix_asked)
                self.recent.note(page, now)
            self._answer(offset, page)
            if offset != TAIL:
                self._cache.add(page, now)
                for other in [wanted for wanted in self._wanted if page.from_offset < wanted < page.next_offset]:
                    shared = self._cache.find(other, now)
                    if shared is not None:
                        self._answer(other, shared)
        finally:
            self._not_before = self._clock.monotonic() + max(self._interval_seconds, wait_seconds)

    def _nobody_reads(self) -> Fenced:
        return Fenced(f"source {self._status.name} is not read by this process any more: ask whoever holds its lease")

    def _answer(self, offset: int, answer: Page | Misconfigured | Fenced) -> None:
        for waiting in self._wanted.pop(offset, ()):
            if waiting.done():
                continue
            if isinstance(answer, Page):
                waiting.set_result(answer)
            else:
                # Each waiter gets an exception of its own: one shared instance would collect all their tracebacks.
                waiting.set_exception(type(answer)(str(answer)))

    async def _ask(self, offset: int) -> Page:
        if self._ended:
            raise self._nobody_reads()
        waiting: asyncio.Future[Page] = asyncio.get_running_loop().create_future()
        self._wanted.setdefault(offset, []).append(waiting)
        self._asked.set()
        try:
            return await waiting
        finally:
            if waiting.done() and not waiting.cancelled():
                waiting.exception()  # seen, also when we are cancelled in the moment in which it came
            else:
                others = self._wanted.get(offset, [])
                if waiting in others:
                    others.remove(waiting)
                if not others:
                    self._wanted.pop(offset, None)
