"""Both who talk to Redis, the sink and the state store, behind one face: for what must hold for either."""

from __future__ import annotations

from abc import ABC, abstractmethod

from oplogbridge import SinkContext
from oplogbridge.redis_nodes.address import redis_address
from oplogbridge.state.redis import RedisStateStore, permissions
from oplogbridge.testing import make_batch
from oplogbridge.testing.state_place import ALICE, stored
from oplogbridge_sinks.redis import RedisSettings, plugin

FIRST = (1423124097 << 32) + 1
DEADLINE_SECONDS = 3.0
_CONTEXT = SinkContext(owner="bridge.orders", pipeline="orders", source="shop", source_id="https://example.com/1")


class RedisUser(ABC):
    """`open`, then `use` as often as one likes: each call writes one thing more, `used` in number."""

    key: str  # one of its keys; in a cluster all are in the slot of this one

    def __init__(self, url: str, name: str) -> None:
        self.url, self.name, self.used = url, name, 0

    @abstractmethod
    async def open(self) -> None: ...

    @abstractmethod
    async def use(self) -> None: ...

    @abstractmethod
    async def close(self) -> None: ...

    @abstractmethod
    def rights(self) -> list[str]:
        """What to grant: the rules at the servers with the data, and those at the sentinels."""


class SinkUser(RedisUser):
    def __init__(self, url: str, name: str) -> None:
        super().__init__(url, name)
        self._settings = RedisSettings.model_validate({"url": url, "stream": name, "timeout": f"{DEADLINE_SECONDS}s"})
        self._sink = plugin.build(self._settings, _CONTEXT)
        self.key = name

    async def open(self) -> None:
        await self._sink.open()

    async def use(self) -> None:
        position = await self._sink.position()
        offset = FIRST if position is None else position.offset
        assert offset == FIRST + self.used
        await self._sink.write(make_batch(offset))
        self.used += 1

    async def close(self) -> None:
        await self._sink.close()

    def rights(self) -> list[str]:
        return [line.partition(" resetkeys ")[2] for line in plugin.permissions(self._settings, _CONTEXT)]


class StoreUser(RedisUser):
    def __init__(self, url: str, name: str) -> None:
        super().__init__(url, name)
        self._store = RedisStateStore(redis_address(url), name=name, deadline_seconds=DEADLINE_SECONDS)
        self._token: str | None = None
        self.key = f"{{{name}}}:format"

    async def open(self) -> None:
        await self._store.open()

    async def use(self) -> None:
        self._token = self._token or await self._store.acquire("shop", ALICE, 3600.0)
        assert self._token is not None
        await self._store.renew("shop", self._token, 3600.0)
        before = await self._store.load("shop", self._token, "p")
        assert before == (stored(self.used) if self.used else None)
        await self._store.save("shop", self._token, "p", stored(self.used + 1), replacing=before)
        assert await self._store.peek("p") == stored(self.used + 1)
        self.used += 1

    async def close(self) -> None:
        await self._store.close()

    def rights(self) -> list[str]:
        return permissions(self.name, redis_address(self.url))


USERS = {"sink": SinkUser, "store": StoreUser}
