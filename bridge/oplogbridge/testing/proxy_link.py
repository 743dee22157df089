"""One client's connection through the fault proxy: two sockets, how they are reset, and what awaits them."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import struct
from collections.abc import Callable
from dataclasses import dataclass, field

CHUNK_BYTES_MAX = 64 * 1024
# Closing a socket with this on sends RST and drops what was not sent yet.
_LINGER_NOT_AT_ALL = struct.pack("ii", 1, 0)

_Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@dataclass
class Cut:
    left_bytes: int
    happened: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass
class ReplyToDrop:
    request: Callable[[bytes], bool]
    dropped: asyncio.Event = field(default_factory=asyncio.Event)


class Link:
    """One client's connection and ours to the server."""

    def __init__(self) -> None:
        self._writers: list[asyncio.StreamWriter] = []  # to the client, to the server
        self.was_reset = False
        self.reply_to_drop: ReplyToDrop | None = None

    async def adopt(self, accepted: socket.socket, tls: ssl.SSLContext | None) -> _Streams:
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(limit=CHUNK_BYTES_MAX)
        protocol = asyncio.StreamReaderProtocol(reader)
        transport, _ = await loop.connect_accepted_socket(lambda: protocol, accepted, ssl=tls)
        return reader, self._keep(asyncio.StreamWriter(transport, protocol, reader, loop))

    async def reach(self, host: str, port: int) -> _Streams:
        reader, writer = await asyncio.open_connection(host, port, limit=CHUNK_BYTES_MAX)
        return reader, self._keep(writer)

    def _keep(self, writer: asyncio.StreamWriter) -> asyncio.StreamWriter:
        writer.transport.set_write_buffer_limits(high=0)  # drain() returns when the kernel has it all
        self._writers.append(writer)
        return writer

    def expect(self, reply: ReplyToDrop | None) -> None:
        if reply is not None:
            self.reply_to_drop = reply

    async def drop_reply(self, from_server: asyncio.StreamReader) -> None:
        assert self.reply_to_drop is not None
        _reset(self._writers[0])
        self.reply_to_drop.dropped.set()
        while await from_server.read(CHUNK_BYTES_MAX):  # until the server has seen the end of the requests
            pass

    def reset(self) -> None:
        self.was_reset = True
        for writer in self._writers:
            _reset(writer)

    async def close(self) -> None:
        for writer in self._writers:
            writer.transport.abort()  # what was to be sent is with the kernel already
            with contextlib.suppress(OSError):
                await writer.wait_closed()


def _reset(writer: asyncio.StreamWriter) -> None:
    connection: socket.socket = writer.get_extra_info("socket")
    with contextlib.suppress(OSError):  # it was closed a moment ago
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NOT_AT_ALL)
    writer.transport.abort()


def bound_socket(port: int) -> socket.socket:
    bound = socket.socket()
    bound.setblocking(False)
    for option in (socket.SO_REUSEADDR, socket.SO_REUSEPORT):  # the reservation and the listener share the port
        bound.setsockopt(socket.SOL_SOCKET, option, 1)
    bound.bind(("127.0.0.1", port))
    return bound
