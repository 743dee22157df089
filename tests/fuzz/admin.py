"""Requests to the admin server, as bytes on a socket: never a 500, never a hang, and afterwards it still answers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Any

from admin_world import running

TOKEN = "correct-horse"
ANSWER_SECONDS_MAX = 10.0
UNFINISHED_SECONDS = 0.1  # a request that may have no end is waited for no longer; the next look shows a hang
LOGIN = b"Authorization: Bearer correct-horse\r\nConnection: close\r\n"
SEEDS = (
    b"GET /api/status HTTP/1.1\r\nHost: 127.0.0.1\r\n" + LOGIN + b"\r\n",
    b"GET /api/sources/shop/page?offset=x HTTP/1.1\r\nHost: localhost:1\r\n" + LOGIN + b"\r\n",
    b"GET /api/sources/nobody/start?at=latest HTTP/1.1\r\nHost: [::1]\r\n" + LOGIN + b"\r\n",
    b"PUT /api/pipelines/orders/offset HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    b"Content-Length: 14\r\n" + LOGIN + b'\r\n{"offset":"7"}',
    b"GET /metrics HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer \xff\r\nConnection: close\r\n\r\n",
)
HEALTHY = b"GET /livez HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"


class AdminUnderFire:
    """A bridge over a simulated world with its admin server on a socket, in a loop of its own. `check` blocks."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._stack = AsyncExitStack()
        self._port = 0

    def __enter__(self) -> Callable[[bytes], None]:
        admin = self._loop.run_until_complete(self._stack.enter_async_context(running(token=TOKEN)))
        self._port = int(admin.url.rpartition(":")[2])
        return self.check

    def __exit__(self, *_: Any) -> None:
        self._loop.run_until_complete(self._stack.aclose())
        self._loop.close()

    def check(self, request: bytes) -> None:
        status = self._loop.run_until_complete(self._answered(request, UNFINISHED_SECONDS))
        assert not status.startswith((b"HTTP/1.1 500", b"HTTP/1.0 500")), (status, request)
        assert self._loop.run_until_complete(self._answered(HEALTHY, ANSWER_SECONDS_MAX)).startswith(b"HTTP/1.1 200")

    async def _answered(self, request: bytes, within_seconds: float) -> bytes:
        """The first line of what it says; nothing, when it waits for the request's end or hangs up."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        try:
            writer.write(request)
            async with asyncio.timeout(within_seconds):
                return await reader.readline()
        except (ConnectionResetError, TimeoutError):
            return b""
        finally:
            writer.transport.abort()
