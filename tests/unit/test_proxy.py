"""The fault proxy against a server that answers every line with the same line in capitals."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable
from pathlib import Path
from typing import TypeVar

import pytest

from certificates import self_signed
from oplogbridge.testing.proxy import FaultProxy

Result = TypeVar("Result")


async def soon(what: Awaitable[Result]) -> Result:
    async with asyncio.timeout(10):
        return await what


class CapitalsServer:
    """Keeps the lines it was given, and tells when there are so many."""

    def __init__(self) -> None:
        self.lines: list[bytes] = []
        self.changed = asyncio.Condition()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while line := await reader.readline():
                async with self.changed:
                    self.lines.append(line)
                    self.changed.notify_all()
                writer.write(line.upper())
                await writer.drain()
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()

    async def has(self, count: int) -> None:
        async with self.changed:
            await self.changed.wait_for(lambda: len(self.lines) >= count)


@pytest.fixture
async def capitals() -> AsyncIterator[CapitalsServer]:
    server = CapitalsServer()
    async with await asyncio.start_server(server.serve, "127.0.0.1", 0) as listener:
        server.port = listener.sockets[0].getsockname()[1]
        yield server


@pytest.fixture
async def proxy(capitals: CapitalsServer) -> AsyncIterator[FaultProxy]:
    async with FaultProxy("127.0.0.1", capitals.port) as proxy:
        yield proxy


class Client:
    def __init__(self, proxy: FaultProxy, tls: ssl.SSLContext | None = None) -> None:
        self.proxy, self.tls = proxy, tls

    async def __aenter__(self) -> Client:
        self.reader, self.writer = await soon(asyncio.open_connection("127.0.0.1", self.proxy.port, ssl=self.tls))
        return self

    async def __aexit__(self, *_: object) -> None:
        self.writer.close()
        with contextlib.suppress(OSError):
            await self.writer.wait_closed()

    async def ask(self, line: bytes) -> bytes:
        self.writer.write(line)
        return await soon(self.reader.readline())


async def test_everything_passes_and_is_counted(proxy: FaultProxy) -> None:
    async with Client(proxy) as one, Client(proxy) as other:
        assert await one.ask(b"one\n") == b"ONE\n"
        assert await other.ask(b"other\n") == b"OTHER\n"
        await soon(proxy.connected(2))
        await soon(proxy.passed("downstream", 10))
        assert (proxy.connections, proxy.open_connections) == (2, 2)
        assert proxy.bytes_passed == {"upstream": 10, "downstream": 10}
    await soon(proxy.disconnected())


async def test_more_than_the_buffers_hold_arrives_whole(proxy: FaultProxy) -> None:
    async with Client(proxy) as client:
        lines = [b"%060d\n" % number for number in range(50_000)]

        async def send() -> None:
            client.writer.writelines(lines)
            await client.writer.drain()

        sending = asyncio.create_task(send())
        assert [await soon(client.reader.readline()) for _ in lines] == lines
        await sending


async def test_a_half_closed_connection_still_brings_the_replies(proxy: FaultProxy) -> None:
    async with Client(proxy) as client:
        client.writer.write(b"last\n")
        client.writer.write_eof()
        assert await soon(client.reader.read()) == b"LAST\n"


async def test_a_cut_resets_every_connection_and_welcomes_new_ones(proxy: FaultProxy) -> None:
    async with Client(proxy) as one, Client(proxy) as other:
        await soon(proxy.connected(2))
        proxy.cut()
        for client in (one, other):
            with pytest.raises(ConnectionResetError):
                await soon(client.reader.read())
    await soon(proxy.disconnected())
    async with Client(proxy) as client:
        assert await client.ask(b"again\n") == b"AGAIN\n"


async def test_a_refusing_proxy_has_a_closed_port_and_keeps_it(proxy: FaultProxy) -> None:
    async with Client(proxy) as client:
        assert await client.ask(b"before\n") == b"BEFORE\n"
        proxy.refuse()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", proxy.port)
        with pytest.raises(OSError, match="in use"), socket.socket() as thief:
            thief.bind(("127.0.0.1", proxy.port))
        assert await client.ask(b"still there\n") == b"STILL THERE\n"
    proxy.heal()
    async with Client(proxy) as client:
        assert await client.ask(b"after\n") == b"AFTER\n"


async def test_a_stall_holds_the_replies_back_until_it_heals(proxy: FaultProxy, capitals: CapitalsServer) -> None:
    async with Client(proxy) as client:
        proxy.stall("downstream")
        client.writer.write(b"hello\n")
        await soon(capitals.has(1))
        assert proxy.bytes_passed["downstream"] == 0
        reply = asyncio.create_task(client.reader.readline())
        proxy.heal()
        assert await soon(reply) == b"HELLO\n"


async def test_a_stall_both_ways_accepts_and_lets_nothing_through(proxy: FaultProxy, capitals: CapitalsServer) -> None:
    proxy.stall()
    async with Client(proxy) as client:
        client.writer.write(b"hello\n")
        await soon(proxy.connected(1))
        assert capitals.lines == []
        proxy.cut()
        with pytest.raises(ConnectionResetError):
            await soon(client.reader.read())
        await soon(proxy.disconnected())
    assert capitals.lines == []


async def test_slow_takes_its_time_and_healing_ends_it(proxy: FaultProxy) -> None:
    loop = asyncio.get_running_loop()
    async with Client(proxy) as client:
        proxy.slow(1000, "downstream")
        begin = loop.time()
        assert await client.ask(b"x" * 199 + b"\n") == b"X" * 199 + b"\n"
        assert loop.time() - begin > 0.1
        proxy.slow(0.001)
        client.writer.write(b"hello\n")  # would take 100 minutes
        await soon(proxy.passed("upstream", 201))
        proxy.heal()
        assert await soon(client.reader.readline()) == b"HELLO\n"


@pytest.mark.parametrize("count_bytes", [0, 1, 5, 8])
async def test_a_cut_downstream_comes_after_exactly_so_many_bytes(proxy: FaultProxy, count_bytes: int) -> None:
    async with Client(proxy) as client:
        happened = proxy.cut_after("downstream", count_bytes)
        # Reading from the start: a stream that was reset forgets what it had not handed out.
        reply = asyncio.create_task(bytes_before_reset(client.reader))
        client.writer.write(b"a reply\n")
        await soon(happened.wait())
        assert await soon(reply) == b"A REPLY\n"[:count_bytes]
    async with Client(proxy) as client:
        assert await client.ask(b"only once\n") == b"ONLY ONCE\n"


async def test_a_cut_upstream_lets_the_server_see_exactly_so_much(proxy: FaultProxy, capitals: CapitalsServer) -> None:
    async with Client(proxy) as client:
        assert await client.ask(b"one\n") == b"ONE\n"
        happened = proxy.cut_after("upstream", 6)
        client.writer.write(b"two\nthree\n")
        await soon(happened.wait())
        await soon(capitals.has(2))
    assert capitals.lines[:2] == [b"one\n", b"two\n"]
    assert proxy.bytes_passed["upstream"] == 10


async def test_a_request_is_carried_out_though_its_reply_is_lost(proxy: FaultProxy, capitals: CapitalsServer) -> None:
    async with Client(proxy) as client:
        dropped = proxy.reset_before_reply(lambda request: b"commit" in request)
        assert await client.ask(b"begin\n") == b"BEGIN\n"
        client.writer.write(b"commit\n")
        with pytest.raises(ConnectionResetError):
            await soon(client.reader.readline())
        assert dropped.is_set()
    assert capitals.lines == [b"begin\n", b"commit\n"]
    assert proxy.bytes_passed["downstream"] == len(b"BEGIN\n")
    await soon(proxy.disconnected())
    async with Client(proxy) as client:
        assert await client.ask(b"commit\n") == b"COMMIT\n"


async def test_a_client_is_reset_where_the_server_is_not_there() -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        async with FaultProxy("127.0.0.1", nobody.getsockname()[1]) as proxy, Client(proxy) as client:
            with contextlib.suppress(ConnectionResetError):
                assert await soon(client.reader.read()) == b""
            assert proxy.connections == 0


async def test_leaving_ends_what_is_stalled_and_closes_everything(capitals: CapitalsServer) -> None:
    async with FaultProxy("127.0.0.1", capitals.port) as proxy:
        client = await Client(proxy).__aenter__()
        await soon(proxy.connected(1))
        proxy.stall()
        client.writer.write(b"held\n")
    with pytest.raises(ConnectionResetError):
        await soon(client.reader.read())
    await client.__aexit__()
    assert proxy.open_connections == 0


async def test_tls_ends_at_the_proxy(capitals: CapitalsServer, tmp_path: Path) -> None:
    certificate = self_signed(tmp_path)
    server_side = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server_side.load_cert_chain(certificate)
    client_side = ssl.create_default_context(cafile=certificate)
    async with FaultProxy("127.0.0.1", capitals.port, tls=server_side) as proxy:
        async with Client(proxy, client_side) as client:
            assert await client.ask(b"secret\n") == b"SECRET\n"
        await soon(proxy.disconnected())
        with pytest.raises(ssl.SSLCertVerificationError):
            await Client(proxy, ssl.create_default_context()).__aenter__()
    assert capitals.lines == [b"secret\n"]


async def bytes_before_reset(reader: asyncio.StreamReader) -> bytes:
    got = b""
    with contextlib.suppress(ConnectionResetError):
        while part := await reader.read(1):
            got += part
    return got
