"""The state-store contract over a real Redis: one server, the master that sentinels name, a cluster."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis

from oplogbridge.state import StateStore
from oplogbridge.state.urls import state_store
from oplogbridge.testing.clock import ManualClock
from oplogbridge.testing.state_contract import StateStoreContract
from oplogbridge.testing.state_place import StatePlace
from services import RedisServer


class RedisPlace:
    ttl_seconds = 0.5  # real: Redis's own clock ends a lease

    def __init__(self, url: str, name: str, server: RedisServer) -> None:
        """`server` is the one that has the keys."""
        self.url = url
        self.name = name
        self.raw = Redis.from_url(server.url)
        self.opened: list[StateStore] = []

    async def store(self) -> StateStore:
        store = state_store(self.url, name=self.name, clock=ManualClock())
        await store.open()
        self.opened.append(store)
        return store

    async def let_time_pass(self, seconds: float) -> None:
        """Nothing to do: the suite asks again until the time has passed."""

    async def wipe(self) -> None:
        keys = [key async for key in self.raw.scan_iter(f"{{{self.name}}}:*")]
        await self.raw.delete(*keys)

    async def claim_format(self, version: int) -> None:
        await self.raw.set(f"{{{self.name}}}:format", version)

    async def put_stored(self, pipeline: str, text: str) -> None:
        await self.raw.set(f"{{{self.name}}}:offset:{pipeline}", text)

    async def close(self) -> None:
        for store in self.opened:
            await store.close()
        await self.raw.aclose()


@pytest.fixture(params=["server", "sentinels", "cluster"])
async def redis_place(request: pytest.FixtureRequest, unique: str) -> AsyncIterator[RedisPlace]:
    if request.param == "server":
        server = request.getfixturevalue("redis_server")
        place = RedisPlace(server.url, unique, server)
    elif request.param == "sentinels":
        sentinels = request.getfixturevalue("redis_sentinels")
        place = RedisPlace(sentinels.url, unique, sentinels.master)
    else:
        cluster = request.getfixturevalue("redis_cluster")
        place = RedisPlace(cluster.url, unique, cluster.owner(f"{{{unique}}}:any"))
    yield place
    await place.close()


class TestRedisStateStore(StateStoreContract):
    @pytest.fixture
    def place(self, redis_place: RedisPlace) -> StatePlace:
        return redis_place
