"""Real sentinels over a real Redis and its replica, patient by the millisecond instead of by the second."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from services.process import ServerProcess
from services.redis_server import RedisServer, in_step, pong, redis_binary
from services.resp import ask, until

SERVICE = "bridge-data"
_COUNT, _QUORUM = 3, 2
# What `SENTINEL DEBUG` lets a test hurry; the defaults are seconds. Little for what a replica says of itself: one that
# was not heard of within a few periods is not promoted.
_HURRIED_MS = {"info-period": 2000, "ask-period": 100, "publish-period": 100, "election-timeout": 2000}


class _Sentinel(ServerProcess):
    name = "sentinel"
    ready_within_seconds = 15.0

    def start(self, master: RedisServer, *, down_after_ms: int, lines: tuple[str, ...]) -> Self:
        self._binary = redis_binary(with_tls=False)
        self._lines = [
            f"sentinel monitor {SERVICE} 127.0.0.1 {master.port} {_QUORUM}",
            f"sentinel down-after-milliseconds {SERVICE} {down_after_ms}",
            f"sentinel failover-timeout {SERVICE} 3000",
            *lines,
        ]
        self._launch(None)
        ask(self, "SENTINEL", "DEBUG", *(word for pair in _HURRIED_MS.items() for word in pair))
        return self

    def _command(self) -> list[str]:
        config = self.data_dir / "sentinel.conf"  # its own: it writes down there what it learns
        config.write_text("\n".join([f"port {self.port}", "bind 127.0.0.1", f"dir {self.data_dir}", *self._lines, ""]))
        return [self._binary, str(config), "--sentinel"]

    def _answers(self) -> bool:
        return pong(self.port)


class RedisSentinels:
    """A master, its replica, and three sentinels that agree about them."""

    name = "redis"

    def __init__(self) -> None:
        self.servers = [RedisServer(), RedisServer()]
        self.sentinels = [_Sentinel() for _ in range(_COUNT)]

    def start(self, *, down_after_ms: int = 500, acl: tuple[str, ...] = (), sentinel_acl: tuple[str, ...] = ()) -> Self:
        """`acl` and `sentinel_acl` are lines of users beside `default`, who may do all."""
        everybody = ("user default on nopass ~* &* +@all", *acl) if acl else ()
        master, replica = self.servers
        master.start(acl=everybody)
        replica.start(acl=everybody, replica_of=master)
        in_step(replica)
        for sentinel in self.sentinels:
            sentinel.start(master, down_after_ms=down_after_ms, lines=sentinel_acl)
        until(self._agreed, "the sentinels know each other", self.sentinels[0])
        return self

    @property
    def hosts(self) -> str:
        return ",".join(f"127.0.0.1:{sentinel.port}" for sentinel in self.sentinels)

    @property
    def url(self) -> str:
        return f"redis+sentinel://{self.hosts}/{SERVICE}/0"

    @property
    def master(self) -> RedisServer:
        (port,) = self._named()  # or the sentinels do not agree
        return next(server for server in self.servers if server.port == port)

    @property
    def replica(self) -> RedisServer:
        return next(server for server in self.servers if server is not self.master)

    def failed_over(self, *, since: RedisServer) -> RedisServer:
        """Waits until all sentinels name another master than `since`; that one, which takes writes."""

        def other() -> bool:
            named = self._named()
            return len(named) == 1 and since.port not in named and ask(self.master, "ROLE")[0] == "master"

        until(other, "the fail-over", self.sentinels[0])
        return self.master

    def _named(self) -> set[int]:
        running = [sentinel for sentinel in self.sentinels if sentinel.running]
        return {int(ask(sentinel, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", SERVICE)[1]) for sentinel in running}

    def _agreed(self) -> bool:
        masters = [ask(sentinel, "SENTINEL", "MASTER", SERVICE) for sentinel in self.sentinels]
        known = [dict(zip(words[::2], words[1::2], strict=True)) for words in masters]
        return all(one["num-other-sentinels"] == str(_COUNT - 1) and one["num-slaves"] == "1" for one in known)

    def close(self) -> None:
        for server in (*self.sentinels, *self.servers):
            server.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
