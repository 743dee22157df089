"""One connection to NATS, on nats-py: requests with an answer and a deadline; after any doubt it is gone.

nats-py does the connecting, the login, the reading and the pings. Writing is done here: its `publish` waits and lays
out for each message, and its JetStream layer never resolves a publish that the server refuses. Where it may, it
connects again by itself and sends what it had buffered: here it may not.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import Callable
from typing import Any, NamedTuple

import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg

from oplogbridge_sinks.nats.settings import NatsSettings, TlsSettings

_CLOSE_SECONDS_MAX = 1.0
NO_RESPONDERS = "503"


class Answer(NamedTuple):
    status: str | None  # of an answer without a body, such as NO_RESPONDERS
    body: bytes


class Wire:
    """Raises nats-py's errors, OSError and TimeoutError; whoever asks translates them."""

    def __init__(self, settings: NatsSettings, *, client_name: str) -> None:
        self._settings = settings
        self._client_name = client_name
        self._client = Client()
        self._usable = False
        self._inbox = f"{settings.inbox_prefix}.{secrets.token_hex(11)}"
        self._asked = 0
        self._awaited: tuple[str, asyncio.Future[Answer]] | None = None
        self._each: Callable[[Msg], None] | None = None  # takes what comes before an answer that is a status
        self._said: Exception | None = None  # the last error that was no answer

    async def connect(self) -> None:
        settings = self._settings
        login: dict[str, Any] = {}
        if settings.credentials is not None:
            login["user_credentials"] = str(settings.credentials)
        if settings.nkey is not None:
            login["nkeys_seed"] = str(settings.nkey)
        if settings.user is not None:
            login["user"], login["password"] = settings.user
        if settings.token is not None:
            login["token"] = settings.token.get_secret_value()
        if settings.speaks_tls:
            login["tls"] = (settings.tls or TlsSettings()).context()
        for file in (settings.credentials, settings.nkey):
            if file is not None:
                file.open("rb").close()  # its error names the file
        async with asyncio.timeout(settings.timeout):
            try:
                await self._client.connect(
                    settings.addresses,
                    name=self._client_name,
                    allow_reconnect=False,
                    max_reconnect_attempts=1,  # of each server; none would be "for ever"
                    reconnect_time_wait=0,
                    connect_timeout=max(1, int(settings.timeout / len(settings.addresses))),
                    error_cb=self._told,
                    closed_cb=self._closed,
                    **login,
                )
            except TypeError as error:  # from a credentials file that lacks what it should hold
                raise ValueError("it holds no user's JWT and seed") from error
            except nats.errors.NoServersError:
                if self._said is None:
                    raise
                raise self._said from None  # why the last one did not serve
            self._said = None  # what other servers said before this one answered
            await self._client.subscribe(f"{self._inbox}.*", cb=self._answered)
            await self._client.flush()
            if self._said is not None:  # no right to subscribe: nobody waits for an answer yet, so nobody has heard it
                raise self._said
        self._usable = True

    @property
    def version(self) -> tuple[int, int, int]:
        found = self._client.connected_server_version
        return found.major, found.minor, found.patch

    @property
    def message_bytes_max(self) -> int:
        """Of headers and payload together."""
        return self._client.max_payload

    async def ask(self, subject: str, body: bytes = b"") -> Answer:
        return await self.send(b"PUB %b %b %d\r\n%b\r\n" % (subject.encode(), self.next_inbox(), len(body), body))

    async def ask_for_many(self, subject: str, body: bytes, each: Callable[[Msg], None]) -> Answer:
        """As `ask`, where many messages come before the answer, which is a status."""
        self._each = each
        try:
            return await self.ask(subject, body)
        finally:
            self._each = None

    def next_inbox(self) -> bytes:
        """Where the answer to the next `send` is to go."""
        return f"{self._inbox}.{self._asked + 1}".encode()

    async def send(self, commands: bytes) -> Answer:
        """Send commands, of which one asks for an answer to `next_inbox`; that answer."""
        if not self._usable:
            raise nats.errors.ConnectionClosedError
        self._asked += 1
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._awaited = (f"{self._inbox}.{self._asked}", answer)
        self._usable = False  # until the answer is here: a late one must not meet the next request
        try:
            async with asyncio.timeout(self._settings.timeout):
                transport = self._client._transport
                if transport is None or self._client.is_closed:
                    raise nats.errors.ConnectionClosedError
                transport.write(commands)
                await transport.drain()  # type: ignore[no-untyped-call]
                found = await answer
        finally:
            self._awaited = None
            if answer.done() and not answer.cancelled():
                answer.exception()  # seen, also by whoever was cancelled in the moment in which it came
        self._usable = True
        return found

    async def close(self) -> None:
        """Away with it at once: a polite close first sends what is buffered, and waits for a silent peer to take it."""
        self._usable = False
        client = self._client
        writer = getattr(client._transport, "_io_writer", None)
        if writer is not None:
            writer.transport.abort()
        with contextlib.suppress(Exception):
            async with asyncio.timeout(_CLOSE_SECONDS_MAX):
                await client.close()
        self._fail(nats.errors.ConnectionClosedError())

    # What nats-py calls --------------------------------------------------------------------------------------------

    async def _answered(self, message: Msg) -> None:
        awaited = self._awaited
        if awaited is not None and message.subject == awaited[0] and not awaited[1].done():
            status = (message.headers or {}).get("Status")
            if self._each is not None and status is None:
                self._each(message)
                return
            awaited[1].set_result(Answer(status, message.data))

    async def _told(self, error: Exception) -> None:
        """An error that is no answer: a right that is missing, a connection that broke."""
        self._said = error
        self._fail(error)

    async def _closed(self) -> None:
        self._fail(nats.errors.ConnectionClosedError())

    def _fail(self, error: Exception) -> None:
        if self._awaited is not None and not self._awaited[1].done():
            self._awaited[1].set_exception(error)
