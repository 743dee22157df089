"""What happens to the state store."""

from __future__ import annotations

import resource

from chaos.line import Line
from services import RedisServer
from services.resp import ask, until

HOLD_SECONDS = 4.0


def _store(line: Line) -> RedisServer:
    assert line.store is not None
    return line.store


def kill(line: Line) -> None:
    """SIGKILL of the Redis that has the state, and a start with the same data."""
    line.start()
    for _ in line.struck():
        _store(line).kill()
        _store(line).restart()
        with line.recovery():
            pass


def read_only(line: Line) -> None:
    """It becomes a replica of nobody: it answers, and takes no writes."""
    line.start()
    for _ in line.struck():
        ask(_store(line), "REPLICAOF", "127.0.0.1", 1)
        line.work()
        line.wait(HOLD_SECONDS)
        ask(_store(line), "REPLICAOF", "NO", "ONE")
        with line.recovery():
            pass


def full(line: Line) -> None:
    """Out of memory: it answers, and takes no writes."""
    line.start()
    for _ in line.struck():
        ask(_store(line), "CONFIG", "SET", "maxmemory", 1)
        line.work()
        line.wait(HOLD_SECONDS)
        ask(_store(line), "CONFIG", "SET", "maxmemory", 0)
        with line.recovery():
            pass


def lost(line: Line) -> None:
    """Everything in it is gone, as after a restart without persistence."""
    line.start()
    for _ in line.struck():
        ask(_store(line), "FLUSHALL")
        with line.recovery():
            pass


def fail_over(line: Line) -> None:
    """A replica that missed acknowledged saves is promoted behind the same address; leases and offsets go back."""
    line.start()
    assert line.store_wire is not None
    for _ in line.struck():
        old = _store(line)
        line.delivered()
        with RedisServer().start(replica_of=old) as replica:
            until(lambda: "master_link_status:up" in ask(replica, "INFO", "replication"), "in step", replica)
            ask(replica, "REPLICAOF", "NO", "ONE")
            line.work()
            line.delivered()  # saved at the old one alone
            line.store_wire.lead_to(replica.port)
            with line.recovery():
                pass
            line.stop()
            line.store_wire.lead_to(old.port)  # and back, which is one more of the same
            line.bridge.start()
            with line.recovery():
                pass


def disk_full(line: Line) -> None:
    """SQLite: no file may grow any more. The log is a file, too: what does not fit into it is lost to it alone."""
    line.start()
    assert line.bridge.process is not None
    for _ in line.struck():
        pid = line.bridge.process.pid
        before = resource.prlimit(pid, resource.RLIMIT_FSIZE)
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (1, before[1]))
        line.work()
        line.wait(HOLD_SECONDS)
        resource.prlimit(pid, resource.RLIMIT_FSIZE, before)
        with line.recovery():
            pass
