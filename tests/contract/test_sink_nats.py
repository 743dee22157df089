"""The NATS sink keeps the contract. What only NATS does is in tests/integration/test_nats_sink*.py."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Literal

import pytest

from nats_reader import OURS, read_stream, stream_client
from oplogbridge import Event, SinkContext
from oplogbridge.testing import ReadBack, SinkContract, SinkReaderContract, SinkRig
from oplogbridge.testing.proxy import FaultProxy
from oplogbridge_sinks.nats import NatsSettings, plugin
from services import NatsServer

PASSWORD = "correct-horse/battery"
PAYLOAD_BYTES_MAX = 8 * 1024 * 1024


class NatsRig(SinkRig):
    plugin = plugin
    rejected_bytes = PAYLOAD_BYTES_MAX - 100  # what the headers need is missing
    secrets = (PASSWORD, "correct-horse%2Fbattery")
    opening = "expects"
    keeps_bare_offset = False  # a message is an event: what `offsets set` skips lives in the state store

    def __init__(self, server: NatsServer, proxy: FaultProxy, name: str) -> None:
        self.server, self.proxy = server, proxy
        self.stream = name
        self.settings = settings_of(name, proxy.port)

    async def read_back(self) -> list[ReadBack]:
        return [
            ReadBack(one.data, one.key, None, tuple((name, value) for name, value in one.headers if name not in OURS))
            for one in await read_stream(self.server.url_for("reader", "reads"), self.stream)
        ]

    def expected(self, event: Event) -> ReadBack:
        return ReadBack(event.payload, event.key, None, event.headers)

    async def write_foreign(self) -> None:
        async with stream_client(self.server.url_for("reader", "reads")) as jetstream:
            if self.stream not in [info.config.name for info in await jetstream.streams_info()]:
                await jetstream.add_stream(name=self.stream, subjects=[f"{self.stream}.*.*.*"], allow_atomic=True)
            await jetstream.publish(f"{self.stream}.shop.not.ours", b"not ours")

    async def lose_writes(self) -> None:
        """The stream as a backup has it, without the last write."""
        kept = await read_stream(self.server.url_for("reader", "reads"), self.stream)
        async with stream_client(self.server.url_for("reader", "reads")) as jetstream:
            config = (await jetstream.stream_info(self.stream)).config
            await jetstream.delete_stream(self.stream)
            await jetstream.add_stream(config)
            for one in kept[:-1]:
                await jetstream.publish(one.subject, one.data, headers={name: v.decode() for name, v in one.headers})

    async def trim(self, kept: int) -> None:
        async with stream_client(self.server.url_for("reader", "reads")) as jetstream:
            await jetstream.purge_stream(self.stream, keep=kept)

    async def restart(self) -> None:
        await asyncio.to_thread(self.server.kill)
        await asyncio.to_thread(self.server.restart)

    @asynccontextmanager
    async def down(self) -> AsyncIterator[None]:
        self.proxy.refuse()
        self.proxy.cut()
        yield
        self.proxy.heal()

    @asynccontextmanager
    async def cut(self, where: Literal["request", "reply"]) -> AsyncIterator[None]:
        cut = self.proxy.cut_after("upstream", 300) if where == "request" else self.proxy.reset_before_reply()
        yield
        assert cut.is_set()
        self.proxy.heal()

    async def connections(self) -> int:
        return self.proxy.open_connections


def settings_of(name: str, port: int) -> NatsSettings:
    return NatsSettings.model_validate(
        {
            "url": f"nats://bridge:correct-horse%2Fbattery@127.0.0.1:{port}",
            "stream": name,
            "subject": f"{name}.{{source}}.{{type}}.{{operation}}",
            "create": True,
            "timeout": "5s",
        }
    )


def least_rights(name: str, *, reads: bool = False) -> dict[str, Any]:
    """A server with a user who has exactly what `check --connect` tells an operator to grant, for the whole suite."""
    context = SinkContext(owner="bridge.orders", pipeline="orders", source="shop", source_id="any")
    told = plugin.permissions(settings_of(name, 4222), context)
    told += plugin.reader_permissions(settings_of(name, 4222), context) if reads else []
    permissions: dict[str, list[str]] = {}
    for right, subjects in (line.split(": ") for line in told):
        permissions.setdefault(right, []).extend(subjects.split(", "))
    bridge = {"user": "bridge", "password": PASSWORD, "permissions": permissions}
    return {"authorization": {"users": [bridge, {"user": "reader", "password": "reads"}]}}


LACKS = frozenset({"lock", "fencing", "bare offset"})


class TestNatsSink(SinkContract):
    lacks = LACKS

    @pytest.fixture
    async def rig(self, own_nats: Callable[..., NatsServer], unique: str) -> AsyncIterator[NatsRig]:
        server = own_nats(config=least_rights(unique))
        async with FaultProxy("127.0.0.1", server.port) as proxy:
            yield NatsRig(server, proxy, unique)


class TestNatsSinkOnAnOldServer(SinkContract):
    """One message after the other."""

    lacks = LACKS

    @pytest.fixture
    async def rig(self, own_nats: Callable[..., NatsServer], unique: str) -> AsyncIterator[NatsRig]:
        server = own_nats(config=least_rights(unique), old=True)
        async with FaultProxy("127.0.0.1", server.port) as proxy:
            yield NatsRig(server, proxy, unique)


class TestNatsReader(SinkReaderContract):
    @pytest.fixture
    async def rig(self, own_nats: Callable[..., NatsServer], unique: str) -> AsyncIterator[NatsRig]:
        server = own_nats(config=least_rights(unique, reads=True))
        async with FaultProxy("127.0.0.1", server.port) as proxy:
            yield NatsRig(server, proxy, unique)


class TestNatsReaderOnAnOldServer(SinkReaderContract):
    """One message after the other."""

    rig = TestNatsSinkOnAnOldServer.rig
