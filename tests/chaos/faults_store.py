"""What happens to the state store."""

from __future__ import annotations

from chaos.line import Line
from services import RedisServer
from services.redis_server import in_step
from services.resp import ask

HOLD_SECONDS = 4.0


def _store(line: Line) -> RedisServer:
    assert line.store is not None
    return line.store


def replica_of(primary: RedisServer) -> RedisServer:
    """One that had all, and from now on hears no more of it: it can be promoted."""
    replica = RedisServer().start(replica_of=primary)
    in_step(replica)
    ask(replica, "REPLICAOF", "NO", "ONE")
    return replica


def kill(line: Line) -> None:
    """SIGKILL of the Redis that has the state, and a start with the same data."""
    line.start()
    for _ in line.struck():
        _store(line).kill()
        _store(line).restart()
        line.recovered()


def read_only(line: Line) -> None:
    """It becomes a replica of nobody: it answers, and takes no writes."""
    line.start()
    for _ in line.struck():
        ask(_store(line), "REPLICAOF", "127.0.0.1", 1)
        line.works_for(HOLD_SECONDS)
        ask(_store(line), "REPLICAOF", "NO", "ONE")
        line.recovered()


def full(line: Line) -> None:
    """Out of memory: it answers, and takes no writes."""
    line.start()
    for _ in line.struck():
        ask(_store(line), "CONFIG", "SET", "maxmemory", 1)
        line.works_for(HOLD_SECONDS)
        ask(_store(line), "CONFIG", "SET", "maxmemory", 0)
        line.recovered()


def lost(line: Line) -> None:
    """Everything in it is gone, as after a restart without persistence."""
    line.start()
    for _ in line.struck():
        ask(_store(line), "FLUSHALL")
        line.recovered()


def fail_over(line: Line) -> None:
    """A replica that missed acknowledged saves is promoted behind the same address; leases and offsets go back."""
    line.start()
    assert line.store_wire is not None
    for _ in line.struck():
        old = _store(line)
        line.delivered()
        with replica_of(old) as replica:
            line.work()
            line.delivered()  # saved at the old one alone
            line.store_wire.lead_to(replica.port)
            line.recovered()
            line.stop()
            line.store_wire.lead_to(old.port)  # and back, which is one more of the same
            line.bridge.start()
            line.recovered()
