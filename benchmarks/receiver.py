"""A webhook receiver that costs next to nothing, so that what is measured is the sender: `python receiver.py FILE`.

A bare protocol of asyncio: it takes every POST, writes the body as a line of FILE, answers 204, and prints its port.
"""

from __future__ import annotations

import asyncio
import os
import sys

ANSWER = b"HTTP/1.1 204 No Content\r\n\r\n"
HEAD_END, LENGTH = b"\r\n\r\n", b"content-length:"


class Receiver(asyncio.Protocol):
    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        received = self._received + data if self._received else data
        while (end := received.find(HEAD_END)) >= 0:
            head = received[:end].lower()
            at = head.index(LENGTH) + len(LENGTH)
            begin = end + len(HEAD_END)
            length = int(head[at:].partition(b"\r\n")[0])
            if len(received) < begin + length:
                break
            os.write(self._descriptor, received[begin : begin + length] + b"\n")
            self._transport.write(ANSWER)
            received = received[begin + length :]
        self._received = received


async def main(path: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o640)
    server = await asyncio.get_running_loop().create_server(lambda: Receiver(descriptor), "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


asyncio.run(main(sys.argv[1]))
