"""Webhooks, NATS-style: each event, or several, in one POST; the answer acknowledges. At least once, in order.

    2xx                     ack
    202, Oplog-Ack: +WPI    still working on it: sent again after `ack_wait`, which is no failed delivery
    429, 503                nak with delay: sent again after Retry-After
    410                     the receiver is gone for good: the pipeline stops
    other 4xx               term: rejected (`on_rejected`)
    all else                nak: sent again after `backoff`; no answer within `ack_wait`, and a lost one, likewise

Nothing is proved at the destination, so a crash repeats what was acknowledged since the last saved offset. A copy has
the `webhook-id` of the first, and a receiver that keeps the ids it has seen drops it. At most `REQUESTS_MAX` requests
are made between two saves, and nothing waits in here: a write that must wait ends, and tells how far it got.
"""

from __future__ import annotations

import asyncio
import io
import time
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple
from urllib.parse import quote

import aiohttp

from oplogbridge.errors import BridgeError, Misconfigured, Rejected, Unavailable
from oplogbridge.sink import Refused, SinkContext, SinkPlugin, SinkTraits
from oplogbridge.templates import Template, token
from oplogbridge.values import Batch, Event, Position
from oplogbridge_sinks.webhook.addresses import CheckedResolver, ForbiddenAddress, check_address
from oplogbridge_sinks.webhook.settings import WebhookSettings
from oplogbridge_sinks.webhook.signature import signatures

REQUESTS_MAX = 10  # between two saves: what a crash can repeat
BYTES_MAX = 16 * 1024 * 1024
CHUNKED_BYTES_MIN = 1 << 20
ANSWER_BYTES_MAX = 300  # of a refusal, shown as its reason
CLOUDEVENTS, CLOUDEVENTS_BATCH = b"application/cloudevents+json", "application/cloudevents-batch+json"
RETRY_LATER = frozenset({429, 503})
GONE = 410


class Attempts(NamedTuple):  # to deliver the event with this sequence
    sequence: int
    times: int


# How often the event at the front was sent, by owner. Outlives the sink: every nak closes and opens it again. One entry
# a pipeline; a new process counts from 1.
_attempts: dict[str, Attempts] = {}


class BatchRefused(Exception):
    """One of several events will never be taken, and the answer does not tell which."""


class WebhookSink:
    def __init__(
        self,
        settings: WebhookSettings,
        context: SinkContext,
        *,
        unix_seconds: Callable[[], float] = time.time,
    ) -> None:
        self._settings = settings
        self._context = context
        self._unix_seconds = unix_seconds
        self._keys = settings.keys
        self._subject = Template("{source}.{type}.{operation}", constants={"source": context.source}, escape=token)
        self._id_prefix = quote(context.source, safe="")
        self._session: aiohttp.ClientSession | None = None
        self._acknowledged_offset: int | None = None  # in this write

    @property
    def destination(self) -> str:
        return f"webhook:{self._settings.url.partition('?')[0]}"  # a query may hold a secret

    async def open(self) -> Position | None:
        """Nothing is sent before there is an event."""
        await self.close()
        settings = self._settings
        guarded = not settings.allow_private_addresses
        if guarded and settings.host_is_address:
            try:
                check_address(settings.host)
            except ForbiddenAddress as error:
                raise _translate(error, self.destination) from error
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=1, resolver=CheckedResolver() if guarded else None),
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
        self._acknowledged_offset = None
        try:
            for part in self._parts(batch.events):
                await self._deliver(session, part)
        except Unavailable as error:
            error.acknowledged_offset = self._acknowledged_offset
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

    async def _deliver(self, session: aiohttp.ClientSession, events: Sequence[Event]) -> None:
        """One request and what its answer asks for. A batch that is refused is sent event by event, to find which."""
        try:
            await self._post(session, events)
        except BatchRefused:
            for event in events:
                await self._post(session, [event])

    async def _post(self, session: aiohttp.ClientSession, events: Sequence[Event]) -> None:
        settings = self._settings
        before = _attempts.get(self._context.owner)
        count = 1 + (before.times if before is not None and before.sequence == events[0].sequence else 0)
        _attempts[self._context.owner] = Attempts(events[0].sequence, count)
        body, headers = self._request(events, count)
        try:
            # aiohttp sends large bytes in one piece, and warns of it; a file it sends in chunks.
            data = body if len(body) < CHUNKED_BYTES_MIN else io.BytesIO(body)
            async with session.post(settings.url, data=data, headers=headers, allow_redirects=False) as response:
                status = response.status
                working = status == 202 and response.headers.get("Oplog-Ack", "").strip() == "+WPI"
                if 200 <= status < 300 and not working:
                    _attempts.pop(self._context.owner, None)
                    self._acknowledged_offset = events[-1].sequence + 1
                    return
                said = (await response.content.read(ANSWER_BYTES_MAX)).decode(errors="replace")
                retry_after = response.headers.get("Retry-After")
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            self._give_up_after(events, count, "no answer")
            raise _translate(error, self.destination, self._delay_seconds(count)) from error
        what = f"{self.destination}: HTTP {status}" + (f" ({' '.join(said.split())[:80]})" if said.strip() else "")
        if working:
            _attempts[self._context.owner] = Attempts(events[0].sequence, count - 1)
            raise Unavailable(
                f"{what}: still working; asked again in {settings.ack_wait:g}s", retry_after_seconds=settings.ack_wait
            )
        if status == GONE:
            raise Misconfigured(f"{what}: the receiver is gone for good; give another `url`, or remove the pipeline")
        if 400 <= status < 500 and status not in RETRY_LATER:
            _attempts.pop(self._context.owner, None)
            if len(events) > 1:
                raise BatchRefused
            raise Rejected(
                events[0], f"the receiver answered HTTP {status}: {' '.join(said.split())[:ANSWER_BYTES_MAX]}"
            )
        self._give_up_after(events, count, f"HTTP {status}")
        asked = float(retry_after) if retry_after is not None and retry_after.strip().isdecimal() else None
        raise Unavailable(f"{what}: it will be sent again", retry_after_seconds=asked or self._delay_seconds(count))

    def _give_up_after(self, events: Sequence[Event], count: int, last: str) -> None:
        """Raises Rejected once an event was sent as often as `max_deliver` allows. Of a batch that is the first: the
        others are sent without it."""
        if self._settings.max_deliver is not None and count >= self._settings.max_deliver:
            _attempts.pop(self._context.owner, None)
            raise Rejected(events[0], f"it was sent {count} times, as `max_deliver` says; the last answer: {last}")

    def _delay_seconds(self, count: int) -> float | None:
        backoff = self._settings.backoff
        return None if backoff is None else backoff[min(count, len(backoff)) - 1]

    def _request(self, events: Sequence[Event], count: int) -> tuple[bytes, dict[str, str]]:
        first, last, timestamp = events[0], events[-1], int(self._unix_seconds())
        headers = {name: value.get_secret_value() for name, value in self._settings.headers.items()}
        headers |= {name: value.decode() for name, value in last.headers}
        if self._settings.batch_max == 1:
            body, webhook_id = first.payload, f"{self._id_prefix}-{first.id}"
            headers["Nats-Subject"] = self._subject.destination(first.object_type, first.operation)
            headers["Oplog-Key"] = quote(first.key, safe="/!#$&'()*+,:;=?@[]~")
        else:
            body = b"[" + b",".join([event.payload for event in events]) + b"]"
            webhook_id = f"{self._id_prefix}-{first.id}-{last.id}"
            if dict(last.headers).get("content-type") == CLOUDEVENTS:
                headers["content-type"] = CLOUDEVENTS_BATCH
        headers |= {"Nats-Msg-Id": webhook_id, "Nats-Num-Delivered": str(count), "webhook-id": webhook_id}
        headers["webhook-timestamp"] = str(timestamp)
        if self._keys:
            headers["webhook-signature"] = signatures(self._keys, webhook_id, timestamp, body)
        return body, headers

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            raise Unavailable(f"{self.destination}: it is not open; open it first")
        return self._session


def _translate(error: Exception, destination: str, delay_seconds: float | None = None) -> BridgeError:
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ForbiddenAddress):
            return Misconfigured(
                f"{destination}: {cause}; events leave for public addresses only, unless the sink says "
                "`allow_private_addresses: true`"
            )
        cause = cause.__cause__ or cause.__context__
    detail = "no answer in time" if isinstance(error, asyncio.TimeoutError) else str(error) or type(error).__name__
    return Unavailable(f"{destination}: {detail}; it will be sent again", retry_after_seconds=delay_seconds)


def _traits(settings: WebhookSettings) -> SinkTraits:
    events_max = REQUESTS_MAX * settings.batch_max
    return SinkTraits(
        "at_least_once",
        False,
        False,
        events_max=events_max,
        bytes_max=BYTES_MAX,
        binary="ce-"
        if settings.batch_max == 1
        else Refused("a request with several events (batch_max above 1) has headers for one alone"),
    )


plugin = SinkPlugin(
    kind="webhook",
    summary="HTTP POST in order, acknowledged by the answer, at least once",
    settings=WebhookSettings,
    traits=_traits,
    build=WebhookSink,
    permissions=lambda settings, _context: [f"POST to {settings.url.partition('?')[0]}"],
)
