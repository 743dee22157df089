"""Webhooks, NATS-style: each event, or several, in one POST; the answer acknowledges. At least once, in order.

    2xx                     ack
    202, Oplog-Ack: +WPI    still working on it: sent again after `ack_wait`, which is no failed delivery
    429, 503                nak with delay: sent again after Retry-After
    410                     the receiver is gone for good: the pipeline stops
    other 4xx               term: rejected (`on_rejected`)
    all else                nak: sent again after `backoff`; no answer within `ack_wait`, and a lost one, likewise

With `ordering: key` that holds for the events of each key, and the pipeline writes different keys at once.

Nothing is proved at the destination, so a crash repeats what was acknowledged since the last saved offset. A copy has
the `webhook-id` of the first, and a receiver that keeps the ids it has seen drops it. At most `REQUESTS_MAX` requests
are made between two saves, and nothing waits in here: a write that must wait saves how far it got, and ends.
"""

from __future__ import annotations

import asyncio
import io
import time
from collections.abc import Callable, Iterator, Sequence

import aiohttp

from oplogbridge.backoff import retry_after_seconds
from oplogbridge.errors import BridgeError, Misconfigured, Rejected, Unavailable
from oplogbridge.sink import Refused, SinkContext, SinkPlugin, SinkTraits
from oplogbridge.values import Batch, Event, Position
from oplogbridge_sinks.webhook.addresses import NOT_PUBLIC, ForbiddenAddress, leads_inside, public_socket
from oplogbridge_sinks.webhook.attempts import attempts_of
from oplogbridge_sinks.webhook.settings import WebhookSettings
from oplogbridge_sinks.webhook.wire import Requests

REQUESTS_MAX = 10  # between two saves: what a crash can repeat
PART_EVENTS_MAX = 1000  # with `ordering: key`: handed to the lanes at once
BYTES_MAX = 16 * 1024 * 1024
CHUNKED_BYTES_MIN = 1 << 20
ANSWER_BYTES_MAX = 300  # of a refusal, shown as its reason
RETRY_LATER = frozenset({429, 503})
GONE = 410


class BatchRefused(Exception):
    """One of several events will never be taken, and the answer does not tell which."""


class Progress:
    """How far one write got."""

    def __init__(self, batch: Batch) -> None:
        self._save = batch.save
        self._offset: int | None = None  # all below it is acknowledged
        self._requests = 0  # since the last save

    async def begin(self) -> None:
        """Before a request."""
        if self._requests >= REQUESTS_MAX:
            await self.save()
        self._requests += 1

    def acknowledged(self, event: Event) -> None:
        self._offset = event.sequence + 1

    async def save(self) -> None:
        self._requests = 0
        if self._offset is not None and self._save is not None:
            await self._save(self._offset)


class WebhookSink:
    def __init__(
        self,
        settings: WebhookSettings,
        context: SinkContext,
        *,
        unix_seconds: Callable[[], float] = time.time,
    ) -> None:
        self._settings = settings
        self._unix_seconds = unix_seconds
        self._attempts = attempts_of(context.owner)
        headers = {name: value.get_secret_value() for name, value in settings.headers.items()}
        self._requests = Requests(context.source, settings.keys, headers, as_array=settings.batch_max > 1)
        self._session: aiohttp.ClientSession | None = None

    @property
    def destination(self) -> str:
        return f"webhook:{self._settings.url.partition('?')[0]}"  # a query may hold a secret

    async def open(self) -> Position | None:
        """Nothing is sent before there is an event. A name is looked up when it is connected to; a number says now
        where it leads."""
        await self.close()
        settings = self._settings
        if not settings.allow_private_addresses and leads_inside(settings.url):
            raise _translate(ForbiddenAddress(NOT_PUBLIC), self.destination)
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=settings.pending_max,
                socket_factory=None if settings.allow_private_addresses else public_socket,
            ),
            timeout=aiohttp.ClientTimeout(total=settings.ack_wait),
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,  # a proxy would look names up by itself
        )
        self._session._retry_connection = False  # else a POST on a reused connection that was reset is sent twice
        return None

    async def prepare(self, events: Sequence[Event]) -> None:
        """Nothing: a request waits for the answer to the one before."""

    async def write(self, batch: Batch) -> Position | None:
        session = self._opened()
        progress = Progress(batch)
        try:
            for part in self._parts(batch.events):
                await self._deliver(session, part, progress)
        except (Unavailable, Misconfigured):
            await progress.save()
            raise
        return None

    async def move(self, offset: int) -> Position | None:
        raise Misconfigured(
            f"{self.destination}: it holds no position, so there is none to move to {offset}; the state store has it"
        )

    async def position(self) -> Position | None:
        self._opened()
        return None

    async def close(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    # Delivering ----------------------------------------------------------------------------------------------------

    def _parts(self, events: Sequence[Event]) -> Iterator[Sequence[Event]]:
        step = self._settings.batch_max
        return (events[begin : begin + step] for begin in range(0, len(events), step))

    async def _deliver(self, session: aiohttp.ClientSession, events: Sequence[Event], progress: Progress) -> None:
        """One request and what its answer asks for. A batch that is refused is sent event by event, to find which."""
        try:
            await progress.begin()
            await self._post(session, events)
            progress.acknowledged(events[-1])
        except BatchRefused:
            for event in events:
                await progress.begin()
                await self._post(session, [event])
                progress.acknowledged(event)

    async def _post(self, session: aiohttp.ClientSession, events: Sequence[Event]) -> None:
        settings, first = self._settings, events[0]
        count = self._attempts.begin(first.sequence, pending_max=settings.pending_max)
        body, headers = self._requests.made(events, timestamp=int(self._unix_seconds()), count=count)
        try:
            # aiohttp sends large bytes in one piece, and warns of it; a file it sends in chunks.
            data = body if len(body) < CHUNKED_BYTES_MIN else io.BytesIO(body)
            async with session.post(settings.url, data=data, headers=headers, allow_redirects=False) as response:
                status = response.status
                working = status == 202 and response.headers.get("Oplog-Ack", "").strip() == "+WPI"
                if 200 <= status < 300 and not working:
                    self._attempts.end(first.sequence)
                    return
                said = " ".join((await response.content.read(ANSWER_BYTES_MAX)).decode(errors="replace").split())
                asked = retry_after_seconds(response.headers.get("Retry-After"), now_unix_seconds=self._unix_seconds())
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise self._nak(events, count, "no answer", _translate(error, self.destination)) from error
        what = f"{self.destination}: HTTP {status}" + (f" ({said[:80]})" if said else "")
        if working:
            self._attempts.forgive(first.sequence)
            raise Unavailable(
                f"{what}: still working; asked again in {settings.ack_wait:g}s",
                retry_after_seconds=settings.ack_wait,
                exactly=True,
            )
        if status == GONE:
            raise Misconfigured(f"{what}: the receiver is gone for good; give another `url`, or remove the pipeline")
        if 400 <= status < 500 and status not in RETRY_LATER:
            self._attempts.end(first.sequence)
            if len(events) > 1:
                raise BatchRefused
            raise Rejected(first, f"the receiver answered HTTP {status}: {said}")
        again = Unavailable(
            f"{what}: it will be sent again", retry_after_seconds=asked if status in RETRY_LATER else None
        )
        raise self._nak(events, count, f"HTTP {status}", again)

    def _nak(self, events: Sequence[Event], count: int, last: str, error: BridgeError) -> BridgeError:
        """What a delivery that failed asks for: to be sent again, after `backoff` unless the receiver named a time, or
        to be rejected once it was sent as often as `max_deliver` allows. Of a batch that is the first event: the
        others are sent without it."""
        settings, first = self._settings, events[0]
        if not isinstance(error, Unavailable):
            return error
        if settings.max_deliver is not None and count >= settings.max_deliver:
            self._attempts.end(first.sequence)
            return Rejected(first, f"it was sent {count} times, as `max_deliver` says; the last answer: {last}")
        if settings.backoff is not None and error.retry_after_seconds is None:
            error.retry_after_seconds, error.exactly = settings.backoff[min(count, len(settings.backoff)) - 1], True
        return error

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            raise Unavailable(f"{self.destination}: it is not open; open it first")
        return self._session


def _translate(error: Exception, destination: str) -> BridgeError:
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ForbiddenAddress):
            return Misconfigured(
                f"{destination}: {cause}; events leave for public addresses only, unless the sink says "
                "`allow_private_addresses: true`"
            )
        cause = cause.__cause__ or cause.__context__
    detail = "no answer in time" if isinstance(error, asyncio.TimeoutError) else str(error) or type(error).__name__
    return Unavailable(f"{destination}: {detail}; it will be sent again")


def _traits(settings: WebhookSettings) -> SinkTraits:
    events_max = PART_EVENTS_MAX if settings.ordering == "key" else REQUESTS_MAX * settings.batch_max
    return SinkTraits(
        "at_least_once",
        False,
        False,
        events_max=events_max,
        bytes_max=BYTES_MAX,
        pending_max=settings.pending_max,
        binary="ce-"
        if settings.batch_max == 1
        else Refused("a request with several events (batch_max above 1) has headers for one alone"),
    )


plugin = SinkPlugin(
    kind="webhook",
    summary="HTTP POST in order, or in order of each key; acknowledged by the answer, at least once",
    settings=WebhookSettings,
    traits=_traits,
    build=WebhookSink,
    permissions=lambda settings, _context: [f"POST to {settings.url.partition('?')[0]}"],
)
