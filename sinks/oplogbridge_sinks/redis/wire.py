"""One connection to Redis, on redis-py's transport: a request, its answer, a deadline; after any doubt it is gone.

redis-py does the connecting (TCP, TLS, AUTH, SELECT). Requests are packed by hiredis and sent as they are: redis-py's
own encoder costs more than everything else here together. Nothing is ever repeated.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from importlib.util import find_spec
from typing import Any
from urllib.parse import parse_qs, urlsplit

import hiredis
from redis.asyncio.connection import Connection, parse_url
from redis.exceptions import NoScriptError, ResponseError

from oplogbridge_sinks.redis.scripts import Script

Argument = bytes | str | int

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

    async def ask(self, *requests: Sequence[Argument]) -> list[Any]:
        """Send all requests at once; the answers, in order. An error that is an answer is returned, not raised."""
        if not self._usable:
            raise ConnectionError("the connection is closed")  # else redis-py would open another one, unasked
        async with self._whole():
            # The list is one send: joined it would be copied once more, and a large event is large.
            await self._connection.send_packed_command([pack(request) for request in requests], check_health=False)
            return [await self._answer() for _ in requests]

    async def run(
        self, script: Script, keys: Sequence[str], arguments: Sequence[Argument], *more: Sequence[Argument]
    ) -> list[Any]:
        """Run a script, and `more` requests behind it; the answers, in order."""
        tail = (len(keys), *keys, *arguments)
        answers = await self.ask(("EVALSHA", script.sha, *tail), *more)
        if isinstance(answers[0], NoScriptError):  # a new server, or SCRIPT FLUSH: it did nothing, and EVAL teaches it
            answers = await self.ask(("EVAL", script.text, *tail), *more)
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


def pack(request: Sequence[Argument]) -> bytes:
    packed: bytes = hiredis.pack_command(tuple(request))  # type: ignore[arg-type]  # its stub means tuple[..., ...]
    return packed
