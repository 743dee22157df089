"""One connection to Redis, on redis-py's transport: a request, its answer, a deadline; after any doubt it is gone.

redis-py does the connecting (TCP, TLS, AUTH, SELECT) and the reading. Requests are packed here, an event at a time:
redis-py's encoder costs more than all the rest, hiredis's twice as much as this. Nothing is ever repeated.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from importlib.util import find_spec
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlsplit

from redis.asyncio.connection import Connection, parse_url
from redis.exceptions import NoScriptError, ResponseError

from oplogbridge.values import Event
from oplogbridge_sinks.redis.scripts import Script

Argument = bytes | str | int


class Packed(NamedTuple):
    """Arguments in RESP already, and how many they are."""

    text: bytes
    arguments: int


EVENT_ARGUMENTS = 4  # of a packed event: sequence, key, type, payload

URL_OPTIONS = frozenset({"ssl_ca_certs", "ssl_certfile", "ssl_keyfile"})  # paths; verification cannot be switched off

# CLIENT SETINFO would be one more right to grant. redis-py 7.2 renamed the way to leave it out.
_NAMELESS: Mapping[str, Any] = (
    {"driver_info": None} if find_spec("redis.driver_info") else {"lib_name": None, "lib_version": None}
)


def parse(url: str) -> Mapping[str, Any]:
    """What redis-py makes of a URL, or ValueError without the URL in it."""
    parts = urlsplit(url)
    if parts.scheme not in ("redis", "rediss"):
        raise ValueError("must begin with redis:// or rediss://")
    if not parts.hostname:
        raise ValueError("must name a host")
    unknown = sorted(parse_qs(parts.query).keys() - URL_OPTIONS)
    if unknown:
        raise ValueError(f"unknown option {unknown[0]}: allowed are {', '.join(sorted(URL_OPTIONS))}")
    database = parts.path.strip("/")
    if database and not database.isdecimal():
        raise ValueError("must end in the number of a database, such as /0")
    arguments = dict(parse_url(url))
    if parts.scheme == "rediss":
        arguments |= {"ssl_cert_reqs": "required", "ssl_check_hostname": True}
    return arguments


class Wire:
    def __init__(self, arguments: Mapping[str, Any], deadline_seconds: float) -> None:
        rest = dict(arguments)
        kind = rest.pop("connection_class", Connection)
        self._connection: Connection = kind(
            **rest,
            socket_timeout=None,
            socket_connect_timeout=deadline_seconds,
            protocol=2,  # no HELLO
            **_NAMELESS,
        )
        self._deadline_seconds = deadline_seconds
        self._usable = False

    async def connect(self) -> None:
        async with self._whole():
            await self._connection.connect()  # type: ignore[no-untyped-call]

    async def ask(self, *requests: bytes) -> list[Any]:
        """Send packed requests at once; the answers, in order. An error that is an answer is returned, not raised."""
        if not self._usable:
            raise ConnectionError("the connection is closed")  # else redis-py would open another one, unasked
        async with self._whole():
            await self._connection.send_packed_command(requests, check_health=False)
            return [await self._answer() for _ in requests]

    async def run(
        self,
        script: Script,
        keys: Sequence[str],
        arguments: Sequence[Argument],
        packed: Sequence[Packed] = (),
        more: Sequence[Argument] = (),
    ) -> list[Any]:
        """Run a script with `arguments` and then those of `packed`, and the request `more` behind it; the answers."""
        tail = (len(keys), *keys, *arguments)
        behind = [pack(more)] if more else []
        answers = await self.ask(pack(("EVALSHA", script.sha, *tail), *packed), *behind)
        if isinstance(answers[0], NoScriptError):  # a new server, or SCRIPT FLUSH: it did nothing, and EVAL teaches it
            answers = await self.ask(pack(("EVAL", script.text, *tail), *packed), *behind)
        return answers

    async def _answer(self) -> Any:
        try:
            return await self._connection.read_response(disconnect_on_error=False)
        except ResponseError as error:
            return error

    @contextlib.asynccontextmanager
    async def _whole(self) -> AsyncIterator[None]:
        """Between request and answer nobody may leave: who is cancelled or late there takes the connection along, or
        the late answer would be read as the answer to the next request."""
        self._usable = False
        try:
            async with asyncio.timeout(self._deadline_seconds):
                yield
        except BaseException:
            await self.close()
            raise
        self._usable = True

    async def close(self) -> None:
        writer = getattr(self._connection, "_writer", None)
        if writer is not None and not self._usable:
            # A polite close first sends what is buffered, and keeps the socket until a silent peer takes it.
            writer.transport.abort()
        self._usable = False
        with contextlib.suppress(Exception):
            await self._connection.disconnect(nowait=True)


def pack(request: Sequence[Argument], *packed: Packed) -> bytes:
    """RESP of a request, whose last arguments may be packed already."""
    parts = [b"*%d\r\n" % (len(request) + sum([one.arguments for one in packed]))]
    for argument in request:
        text = argument if isinstance(argument, bytes) else str(argument).encode()
        parts.append(b"$%d\r\n%b\r\n" % (len(text), text))
    return b"".join([*parts, *[one.text for one in packed]])


def pack_event(event: Event) -> bytes:
    """Its four arguments, in one go: half of all that a batch costs us is here."""
    sequence, key, kind, payload = b"%d" % event.sequence, event.key, event.type.encode(), event.payload
    return b"$%d\r\n%b\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n" % (
        len(sequence),
        sequence,
        len(key),
        key,
        len(kind),
        kind,
        len(payload),
        payload,
    )
