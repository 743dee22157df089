"""A TCP server that counts requests and answers what a test says, byte for byte. No HTTP library stands between."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Self

Answer = Callable[["Peer"], Awaitable[None]]


class Peer:
    """One connection's end. `reset` sends RST, `close` FIN."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.request = b""

    async def send(self, *pieces: bytes) -> None:
        for piece in pieces:
            self.writer.write(piece)
            await self.writer.drain()

    def reset(self) -> None:
        connection: socket.socket = self.writer.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    def close(self) -> None:
        self.writer.close()


class RawServer:
    """`async with RawServer(answer, answer2) as server`: request n gets answer n, the last answer every later one."""

    def __init__(self, *answers: Answer) -> None:
        self._answers = answers
        self.requests: list[bytes] = []
        self.connections = 0
        self.arrived_at: list[float] = []
        self._peers: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}/api/v4/shop"

    @property
    def open_connections(self) -> int:
        return len(self._peers)

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self._port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._server.close()
        for task in self._peers:
            task.cancel()
        await asyncio.gather(*self._peers, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._peers.add(task)
        self.connections += 1
        peer = Peer(reader, writer)
        try:
            while True:
                peer.request = await reader.readuntil(b"\r\n\r\n")
                self.arrived_at.append(asyncio.get_running_loop().time())
                self.requests.append(peer.request)
                await self._answers[min(len(self.requests), len(self._answers)) - 1](peer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        except asyncio.CancelledError:
            pass  # the test is over
        finally:
            self._peers.discard(task)
            writer.transport.abort()


def response(body: bytes, *, status: str = "200 OK", headers: bytes = b"") -> bytes:
    return b"HTTP/1.1 %b\r\nContent-Length: %d\r\n%b\r\n%b" % (status.encode(), len(body), headers, body)


def answers(body: bytes, *, status: str = "200 OK", headers: bytes = b"") -> Answer:
    async def answer(peer: Peer) -> None:
        await peer.send(response(body, status=status, headers=headers))

    return answer
