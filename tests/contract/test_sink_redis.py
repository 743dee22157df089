"""The Redis sink keeps the contract. What only Redis does is in tests/integration/test_redis_sink*.py."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Literal

import pytest
from redis.asyncio import Redis

from oplogbridge import Event, SinkContext
from oplogbridge.testing import ReadBack, SinkContract, SinkReaderContract, SinkRig
from oplogbridge.testing.proxy import FaultProxy
from oplogbridge_sinks.redis import RedisSettings, plugin
from services import RedisCluster, RedisServer

PASSWORD = "correct-horse/battery"
EVENT_BYTES_MAX = 20 * 1024 * 1024


class RedisRig(SinkRig):
    plugin = plugin
    rejected_bytes = EVENT_BYTES_MAX + 1
    secrets = (PASSWORD, "correct-horse%2Fbattery")

    def __init__(
        self, server: RedisServer, proxy: FaultProxy, client: Redis, name: str, *, cluster: RedisCluster | None = None
    ) -> None:
        self.server, self.proxy, self.client, self.cluster = server, proxy, client, cluster
        self.stream = f"{name}:shop"
        self.hash = f"{{{self.stream}}}:oplog-bridge"
        scheme = "redis" if cluster is None else "redis+cluster"
        self.settings = RedisSettings.model_validate(
            {
                "url": f"{scheme}://{name}:correct-horse%2Fbattery@127.0.0.1:{proxy.port}/0",
                "stream": f"{name}:{{source}}",
                "event_bytes_max": f"{EVENT_BYTES_MAX}B",
            }
        )

    async def grant(self) -> None:
        """Exactly what `check --connect` tells an operator to grant, and nothing else, for the whole suite."""
        context = SinkContext(owner="bridge.orders", pipeline="orders", source="shop", source_id="any")
        (line,) = plugin.permissions(self.settings, context)
        user = self.settings.url.get_secret_value().split("//")[1].split(":")[0]
        await self.client.execute_command(*line.replace("<user>", user).replace("<password>", PASSWORD).split())

    async def may_read(self) -> None:
        (line,) = self.plugin.reader_permissions(self.settings, SinkContext("any", "orders", "shop", "any"))
        user = self.settings.url.get_secret_value().split("//")[1].split(":")[0]
        await self.client.execute_command(*line.replace("<user>", user).split())

    async def trim(self, kept: int) -> None:
        await self.client.xtrim(self.stream, maxlen=kept, approximate=False)

    async def read_back(self) -> list[ReadBack]:
        entries = await self.client.xrange(self.stream)
        return [ReadBack(e.get(b"event", b""), e.get(b"key"), e.get(b"type", b"").decode(), None) for _, e in entries]

    def expected(self, event: Event) -> ReadBack:
        return ReadBack(event.payload, event.key, event.type, None)

    async def write_foreign(self) -> None:
        await self.client.xadd(self.stream, {"not": "ours"})

    async def lose_writes(self) -> None:
        """Log and position go back together, as a fail-over takes them."""
        *kept, (lost, _) = await self.client.xrange(self.stream)
        await self.client.delete(self.stream)
        for entry, fields in kept:
            await self.client.xadd(self.stream, fields, id=entry)
        rolled_back = {"offset": lost.split(b"-")[0], f"top:{self.stream}": kept[-1][0]}
        await self.client.hset(self.hash, mapping=rolled_back)

    async def restart(self) -> None:
        await asyncio.to_thread(self.server.kill)
        await asyncio.to_thread(self.server.restart)
        if self.cluster is not None:
            await asyncio.to_thread(self.cluster.until_whole)
        await self.grant()  # it lived in memory

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


class TestRedisSink(SinkContract):
    @pytest.fixture
    async def rig(
        self,
        request: pytest.FixtureRequest,
        redis_server: RedisServer,
        own_redis: Callable[..., RedisServer],
        unique: str,
    ) -> AsyncIterator[RedisRig]:
        killed = "killed" in request.node.name
        server = own_redis(config={"appendfsync": "always"}) if killed else redis_server
        async with Redis(port=server.port) as client, FaultProxy("127.0.0.1", server.port) as proxy:
            rig = RedisRig(server, proxy, client, unique)
            await rig.grant()
            yield rig


class TestRedisSinkInACluster(SinkContract):
    """The named node is the one of our slot, so that nothing leads past the proxy."""

    @pytest.fixture
    async def rig(
        self,
        request: pytest.FixtureRequest,
        redis_cluster: RedisCluster,
        own_redis_cluster: Callable[..., RedisCluster],
        unique: str,
    ) -> AsyncIterator[RedisRig]:
        killed = "killed" in request.node.name
        cluster = own_redis_cluster(config={"appendfsync": "always"}) if killed else redis_cluster
        server = cluster.owner(f"{unique}:shop")
        async with Redis(port=server.port) as client, FaultProxy("127.0.0.1", server.port) as proxy:
            rig = RedisRig(server, proxy, client, unique, cluster=cluster)
            await rig.grant()
            yield rig


class TestRedisReader(SinkReaderContract):
    rig = TestRedisSink.rig


class TestRedisReaderInACluster(SinkReaderContract):
    rig = TestRedisSinkInACluster.rig
