"""A TCP proxy that breaks connections on command, for tests of anything that talks to a server.

    async with FaultProxy("127.0.0.1", redis_port) as proxy:
        client = connect("127.0.0.1", proxy.port)
        await proxy.connected(1)
        done = proxy.reset_before_reply()   # the server acts, the client never hears of it
        ...
        await done.wait()
        proxy.heal()

Commands act at once and need no await; what the proxy saw is awaited, so that a test need not sleep. Put a deadline
around the waiting. One direction holds at most about a quarter of a megabyte, then whoever sends is made to wait.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Callable
from types import TracebackType
from typing import Literal, Self

from oplogbridge.testing.proxy_link import CHUNK_BYTES_MAX, Cut, Link, ReplyToDrop, bound_socket

Direction = Literal["upstream", "downstream"]  # from the client to the server, and back

_BOTH: tuple[Direction, Direction] = ("upstream", "downstream")
_SLOW_CHUNKS_PER_SECOND = 20
_BACKLOG = 128


class FaultProxy:
    """Passes everything until told otherwise; `heal()` takes everything back."""

    def __init__(self, target_host: str, target_port: int, *, port: int = 0, tls: ssl.SSLContext | None = None) -> None:
        """Listens on 127.0.0.1, on a free port unless told one. With `tls` clients speak TLS, which ends here."""
        self._target = (target_host, target_port)
        self._tls = tls
        self.port = port
        self.connections = 0  # that reached the server, ever
        self.bytes_passed: dict[Direction, int] = dict.fromkeys(_BOTH, 0)
        self._links: set[Link] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._reservation: socket.socket | None = None
        self._listener: socket.socket | None = None
        self._changed = asyncio.Event()
        self._stalled: set[Direction] = set()
        self._bytes_per_second: dict[Direction, float] = {}
        self._cut_at: dict[Direction, Cut] = {}
        self._reply_to_drop: ReplyToDrop | None = None

    # Commands.

    def heal(self) -> None:
        """Listens again and passes everything; what was held back goes on. Connections that were cut stay cut."""
        self._stalled.clear()
        self._bytes_per_second.clear()
        self._cut_at.clear()
        self._reply_to_drop = None
        self._listen()
        self._tell()

    def cut(self) -> None:
        """Resets every connection there is, on both sides. New ones are welcome."""
        for link in self._links:
            link.reset()
        self._tell()

    def refuse(self) -> None:
        """New connections meet a closed port. The ones there are go on."""
        self._stop_listening()

    def lead_to(self, host: str, port: int) -> None:
        """Resets every connection; new ones reach another server: a fail-over behind one address."""
        self._target = (host, port)
        self.cut()

    def stall(self, *directions: Direction) -> None:
        """Connections open and stay open, and nothing passes: in the directions named, or in both."""
        self._stalled.update(directions or _BOTH)

    def slow(self, bytes_per_second: float, *directions: Direction) -> None:
        """At most so many bytes a second on each connection."""
        for direction in directions or _BOTH:
            self._bytes_per_second[direction] = bytes_per_second

    def cut_after(self, direction: Direction, count_bytes: int) -> asyncio.Event:
        """Passes exactly so many bytes more in this direction, whatever the connection, then resets that connection.

        Once; the event tells that it happened."""
        self._cut_at[direction] = cut = Cut(count_bytes)
        return cut.happened

    def reset_before_reply(self, request: Callable[[bytes], bool] = bool) -> asyncio.Event:
        """The next request (the next bytes upstream for which `request` is true) reaches the server; the client gets
        a reset instead of the reply. The server's side is closed in order, so that it reads all that was sent.

        Once; the event tells that it happened."""
        self._reply_to_drop = reply = ReplyToDrop(request)
        return reply.dropped

    # What was seen.

    @property
    def open_connections(self) -> int:
        return len(self._links)

    async def connected(self, count: int) -> None:
        """Returns when so many connections have reached the server, ever."""
        await self._until(lambda: self.connections >= count)

    async def disconnected(self) -> None:
        """Returns when no connection is open."""
        await self._until(lambda: not self._links)

    async def passed(self, direction: Direction, count_bytes: int) -> None:
        """Returns when so many bytes went in this direction, ever."""
        await self._until(lambda: self.bytes_passed[direction] >= count_bytes)

    async def _until(self, true: Callable[[], bool]) -> None:
        while not true():
            await self._changed.wait()

    def _tell(self) -> None:
        self._changed.set()  # wakes those who wait now; those who come later wait for the next change
        self._changed = asyncio.Event()

    # Life.

    async def __aenter__(self) -> Self:
        # Bound and never listening: while the proxy refuses, nobody else is given its port, nor a client as its own.
        self._reservation = bound_socket(self.port)
        self.port = self._reservation.getsockname()[1]
        self.heal()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop_listening()
        if self._reservation is not None:
            self._reservation.close()
        self.cut()
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _listen(self) -> None:
        if self._listener is None:
            self._listener = bound_socket(self.port)
            self._listener.listen(_BACKLOG)
            asyncio.get_running_loop().add_reader(self._listener, self._accept)

    def _stop_listening(self) -> None:
        if self._listener is not None:
            asyncio.get_running_loop().remove_reader(self._listener)
            self._listener.close()
            self._listener = None

    def _accept(self) -> None:
        assert self._listener is not None
        with contextlib.suppress(BlockingIOError, ConnectionAbortedError):  # it was there a moment ago
            accepted, _ = self._listener.accept()
            accepted.setblocking(False)
            task = asyncio.create_task(self._serve(accepted))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            task.add_done_callback(lambda _: accepted.close())  # for one that was cancelled before it began

    async def _serve(self, accepted: socket.socket) -> None:
        link = Link()
        try:
            from_client, to_client = await link.adopt(accepted, self._tls)
            from_server, to_server = await link.reach(*self._target)
            self._links.add(link)
            self.connections += 1
            self._tell()
            async with asyncio.TaskGroup() as both:
                both.create_task(self._pump(link, "upstream", from_client, to_server))
                both.create_task(self._pump(link, "downstream", from_server, to_client))
        except* OSError:
            pass  # either end went away or was cut: so does the other
        finally:
            await link.close()
            self._links.discard(link)
            self._tell()

    async def _pump(
        self, link: Link, direction: Direction, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        while True:
            chunk = await reader.read(self._chunk_bytes_max(direction))
            await self._until(lambda: direction not in self._stalled or link.was_reset)
            if not chunk:
                break
            if direction == "upstream":
                link.expect(self._take_reply_to_drop(chunk))
            elif link.reply_to_drop is not None:
                await link.drop_reply(reader)
                return
            chunk, cut = self._take_cut(direction, chunk)
            writer.write(chunk)
            await writer.drain()
            self.bytes_passed[direction] += len(chunk)
            self._tell()
            if cut is not None:
                link.reset()
                cut.happened.set()
                return
            await self._keep_pace(link, direction, len(chunk))
        if writer.can_write_eof():
            writer.write_eof()
        else:  # TLS has no half-closed connections
            writer.close()

    def _take_reply_to_drop(self, request: bytes) -> ReplyToDrop | None:
        reply = self._reply_to_drop
        if reply is None or not reply.request(request):
            return None
        self._reply_to_drop = None
        return reply

    def _take_cut(self, direction: Direction, chunk: bytes) -> tuple[bytes, Cut | None]:
        """What of the chunk may pass, and the cut if it comes after that."""
        cut = self._cut_at.get(direction)
        if cut is None:
            return chunk, None
        chunk = chunk[: cut.left_bytes]
        cut.left_bytes -= len(chunk)
        if cut.left_bytes:
            return chunk, None
        return chunk, self._cut_at.pop(direction)

    async def _keep_pace(self, link: Link, direction: Direction, count_bytes: int) -> None:
        if (pace := self._bytes_per_second.get(direction)) is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(count_bytes / pace):
                    await self._until(lambda: self._bytes_per_second.get(direction) != pace or link.was_reset)

    def _chunk_bytes_max(self, direction: Direction) -> int:
        pace = self._bytes_per_second.get(direction, float("inf"))
        return max(1, int(min(CHUNK_BYTES_MAX, pace / _SLOW_CHUNKS_PER_SECOND)))
