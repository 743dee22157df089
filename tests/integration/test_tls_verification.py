"""Whoever answers over TLS has to prove who it is, to every client that the bridge has, before it is told anything.

The listener speaks no protocol: it counts the bytes that a client sent after the handshake. A good certificate shows
that the count can be more than none.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import aiohttp.connector
import pytest

from certificates import Authority, self_signed
from kafka_world import World
from oplogbridge import BridgeError, SinkContext
from oplogbridge.source.client import OplogClient
from oplogbridge.testing import make_batch
from oplogbridge_sinks.nats import NatsSettings
from oplogbridge_sinks.nats import plugin as nats_plugin
from oplogbridge_sinks.webhook.settings import WebhookSettings
from oplogbridge_sinks.webhook.sink import plugin as webhook_plugin
from planted import PASSWORD
from redis_users import USERS

CONTEXT = SinkContext("bridge.orders", "orders", "shop", "shop-1")
NATS_INFO = (
    b'INFO {"server_id":"x","version":"2.14.0","proto":1,"headers":true,"max_payload":1048576,"tls_required":true}\r\n'
)


@dataclass
class Listener:
    port: int = 0
    heard_bytes: int = 0
    came: int = 0


@asynccontextmanager
async def listener(context: ssl.SSLContext, greeting: bytes) -> AsyncIterator[Listener]:
    """With a greeting TLS begins behind it, as NATS has it."""
    found = Listener()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        found.came += 1
        try:
            writer.write(greeting)
            await writer.start_tls(context)
            found.heard_bytes += len(await reader.read(1))
        except (OSError, ssl.SSLError):
            pass
        finally:
            writer.transport.abort()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    found.port = server.sockets[0].getsockname()[1]
    try:
        yield found
    finally:
        server.close()
        await server.wait_closed()


async def source(port: int, ca: Path) -> None:
    client = OplogClient(
        name="shop",
        url=f"https://127.0.0.1:{port}/api/v4/shop",
        credentials=None,
        page_limit=10,
        page_bytes_max=2**20,
        request_timeout_seconds=5,
        check=lambda: None,
    )
    async with closed_after(client):
        await client.poll(0)


async def webhook(port: int, ca: Path) -> None:
    settings = {"url": f"https://127.0.0.1:{port}/hook", "allow_private_addresses": True, "ack_wait": "5s"}
    sink = webhook_plugin.build(WebhookSettings.model_validate(settings), CONTEXT)
    async with closed_after(sink):
        await sink.open()  # which connects to nobody
        await sink.write(make_batch(1))


async def kafka(port: int, ca: Path) -> None:
    login = {"mechanism": "PLAIN", "username": "bridge", "password": PASSWORD}
    async with World(f"127.0.0.1:{port}", "bridge").opened(timeout="5s", tls={"ca": str(ca)}, sasl=login):
        pass


async def redis_sink(port: int, ca: Path) -> None:
    await opened(USERS["sink"](redis_url(port, ca), "bridge"))


async def redis_store(port: int, ca: Path) -> None:
    await opened(USERS["store"](redis_url(port, ca), "bridge"))


def redis_url(port: int, ca: Path) -> str:
    return f"rediss://bridge:{PASSWORD}@127.0.0.1:{port}/0?ssl_ca_certs={ca}"


async def nats(port: int, ca: Path) -> None:
    url = f"tls://bridge:{PASSWORD}@127.0.0.1:{port}"
    settings = {"url": url, "stream": "S", "subject": "s.{type}", "timeout": "5s", "tls": {"ca": str(ca)}}
    await opened(nats_plugin.build(NatsSettings.model_validate(settings), CONTEXT))


class Closable(Protocol):
    async def close(self) -> None: ...


class Opened(Closable, Protocol):
    async def open(self) -> object: ...


@asynccontextmanager
async def closed_after(one: Closable) -> AsyncIterator[None]:
    try:
        yield
    finally:
        await one.close()


async def opened(one: Opened) -> None:
    async with closed_after(one):
        await one.open()


CLIENTS: dict[str, Callable[[int, Path], Awaitable[None]]] = {
    "source": source,
    "webhook": webhook,
    "kafka": kafka,
    "redis sink": redis_sink,
    "redis state store": redis_store,
    "nats": nats,
}


@pytest.mark.parametrize("who", CLIENTS)
@pytest.mark.parametrize("certificate", ["good", "for another host", "expired", "self-signed", "of a stranger"])
async def test_a_server_that_cannot_prove_who_it_is_is_told_nothing(tmp_path: Path, who: str, certificate: str) -> None:
    authority, stranger = Authority(tmp_path), Authority(tmp_path, "stranger")
    # Source and webhook trust the system's authorities, which are looked up when aiohttp is imported.
    aiohttp.connector._SSL_CONTEXT_VERIFIED.load_verify_locations(authority.file)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    match certificate:
        case "good":
            context.load_cert_chain(*authority.signed("server"))
        case "for another host":
            context.load_cert_chain(*authority.signed("server", address="192.0.2.1"))
        case "expired":
            context.load_cert_chain(*authority.signed("server", expired=True))
        case "self-signed":
            context.load_cert_chain(self_signed(tmp_path))
        case _:
            context.load_cert_chain(*stranger.signed("server"))

    async with listener(context, NATS_INFO if who == "nats" else b"") as server, asyncio.timeout(30):
        with pytest.raises(BridgeError) as refused:
            await CLIENTS[who](server.port, authority.file)

    assert server.came > 0
    assert (server.heard_bytes > 0) == (certificate == "good")
    assert ("certificate" in str(refused.value)) == (certificate != "good"), refused.value
    assert PASSWORD not in str(refused.value)
