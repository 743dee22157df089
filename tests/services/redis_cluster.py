"""A real Redis Cluster of three masters, and slots that are moved between them while somebody writes."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import Self

from services.ports import free_port
from services.redis_server import RedisServer
from services.resp import ask, until

_SLOTS = 16384
_KEYS_MAX = 1000


class RedisCluster:
    name = "redis"

    def __init__(self) -> None:
        self.nodes = [RedisServer() for _ in range(3)]

    def start(self, *, config: Mapping[str, str] | None = None) -> Self:
        """`config` as for RedisServer, of every node."""
        # Not the port + 10000 that is the default for the bus: that may be somebody's.
        buses = [free_port() for _ in self.nodes]
        for node, bus in zip(self.nodes, buses, strict=True):
            ours = {"cluster-enabled": "yes", "cluster-node-timeout": "2000", "cluster-port": str(bus)}
            node.start(config=ours | dict(config or {}))
        share = -(-_SLOTS // len(self.nodes))
        for number, node in enumerate(self.nodes):
            ask(node, "CLUSTER", "ADDSLOTSRANGE", number * share, min((number + 1) * share, _SLOTS) - 1)
            if number:
                ask(node, "CLUSTER", "MEET", "127.0.0.1", self.nodes[0].port, buses[0])
        self.until_whole()
        return self

    def until_whole(self) -> None:
        """Waits until every node says that every slot is served."""
        until(lambda: all(self._is_whole(node) for node in self.nodes), "the cluster is whole", self.nodes[0])

    @property
    def url(self) -> str:
        return f"redis+cluster://{','.join(f'127.0.0.1:{node.port}' for node in self.nodes)}"

    def slot(self, key: str) -> int:
        return int(ask(self.nodes[0], "CLUSTER", "KEYSLOT", key))

    def owner(self, key: str) -> RedisServer:
        """As all of its nodes see it."""
        slot = self.slot(key)
        (port,) = {self._port_of(node, slot) for node in self.nodes}
        return next(node for node in self.nodes if node.port == port)

    def other(self, key: str) -> RedisServer:
        """The next node after the owner."""
        return self.nodes[(self.nodes.index(self.owner(key)) + 1) % len(self.nodes)]

    def begin_move(self, key: str, to: RedisServer) -> None:
        """The slot of `key` is on its way: what its owner does not have, `to` may."""
        slot, owner = self.slot(key), self.owner(key)
        ask(to, "CLUSTER", "SETSLOT", slot, "IMPORTING", ask(owner, "CLUSTER", "MYID"))
        ask(owner, "CLUSTER", "SETSLOT", slot, "MIGRATING", ask(to, "CLUSTER", "MYID"))

    def move_keys(self, key: str, to: RedisServer, *names: str) -> None:
        """These keys, or all of the slot."""
        owner = self.owner(key)
        keys = names or ask(owner, "CLUSTER", "GETKEYSINSLOT", self.slot(key), _KEYS_MAX)
        if keys:
            ask(owner, "MIGRATE", "127.0.0.1", to.port, "", 0, 5000, "KEYS", *keys)

    def end_move(self, key: str, to: RedisServer) -> None:
        slot, owner, to_id = self.slot(key), self.owner(key), ask(to, "CLUSTER", "MYID")
        for node in (to, owner, *(node for node in self.nodes if node not in (to, owner))):
            ask(node, "CLUSTER", "SETSLOT", slot, "NODE", to_id)
        until(lambda: self.owner(key) is to, "all see the new owner", to)

    def move(self, key: str, to: RedisServer) -> None:
        """As `redis-cli --cluster reshard` moves a slot."""
        self.begin_move(key, to)
        self.move_keys(key, to)
        self.end_move(key, to)

    def _port_of(self, node: RedisServer, slot: int) -> int | None:
        for first, last, owner, *_ in ask(node, "CLUSTER", "SLOTS"):
            if first <= slot <= last:
                return int(owner[1])
        return None

    def _is_whole(self, node: RedisServer) -> bool:
        info = ask(node, "CLUSTER", "INFO")
        return "cluster_state:ok" in info and f"cluster_known_nodes:{len(self.nodes)}" in info

    def close(self) -> None:
        for node in self.nodes:
            node.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
