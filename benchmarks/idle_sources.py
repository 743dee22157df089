"""Sources that have nothing new, as cheap as Python can be: they must not be what a measurement waits for.

`python benchmarks/idle_sources.py` prints its address and answers every request with an empty page until its stdin is
closed. `GET /count` answers how many polls it has seen, and the shortest time between two polls of one deployment.
"""

from __future__ import annotations

import asyncio
import sys
from time import monotonic

import orjson

_PAGE = b'{"entries":[],"has_more":false}'
_EMPTY = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (len(_PAGE), _PAGE)


class _Polls:
    def __init__(self) -> None:
        self.count = 0
        self.last: dict[bytes, float] = {}  # deployment to when it was polled
        self.shortest_seconds = float("inf")

    def note(self, deployment: bytes) -> None:
        self.count += 1
        now = monotonic()
        before = self.last.get(deployment)
        self.last[deployment] = now
        if before is not None and now - before < self.shortest_seconds:
            self.shortest_seconds = now - before

    def told(self) -> bytes:
        shortest = None if self.shortest_seconds == float("inf") else self.shortest_seconds
        body = orjson.dumps({"polls": self.count, "deployments": len(self.last), "shortest_seconds": shortest})
        self.count, self.shortest_seconds = 0, float("inf")
        return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%b" % (len(body), body)


class _Connection(asyncio.Protocol):
    def __init__(self, polls: _Polls) -> None:
        self._polls = polls
        self._received = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        assert self._transport is not None
        self._received += data
        while (end := self._received.find(b"\r\n\r\n")) >= 0:
            path = self._received[: self._received.index(b"\r\n")].split(b" ")[1]
            self._received = self._received[end + 4 :]
            if path == b"/count":
                self._transport.write(self._polls.told())
                self._transport.close()
            else:
                self._polls.note(path.partition(b"/oplog.json")[0])
                self._transport.write(_EMPTY)


async def _serve() -> None:
    polls = _Polls()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: _Connection(polls), "127.0.0.1", 0, backlog=1024)
    host, port = server.sockets[0].getsockname()
    print(f"http://{host}:{port}", flush=True)
    await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(_serve())
