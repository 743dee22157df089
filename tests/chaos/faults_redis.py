"""What a Redis can do to the stream that it holds."""

from __future__ import annotations

from chaos.destinations import NAME, RedisDestination
from chaos.faults_store import replica_of
from chaos.line import Line
from services.resp import ask

HOLD_SECONDS = 4.0


def _redis(line: Line) -> RedisDestination:
    assert isinstance(line.destination, RedisDestination)
    return line.destination


def fail_over(line: Line) -> None:
    """A replica that missed acknowledged writes is promoted behind the same address. They are delivered again."""
    line.start()
    redis = _redis(line)
    assert redis.wire is not None
    for _ in line.struck():
        line.delivered()
        replica = redis.also(replica_of(redis.reader))
        line.work()
        line.settled()
        missed = ask(redis.reader, "XLEN", NAME) - ask(replica, "XLEN", NAME)
        assert missed > 0, "it missed nothing"
        mark = line.mark()
        redis.reader = replica
        redis.wire.lead_to(replica.port)
        line.recovered()
        line.said_since(mark, "the destination lost acknowledged writes")
    line.note("said; delivered again")


def full(line: Line) -> None:
    """Out of memory with `noeviction`: it answers, and takes no writes."""
    line.start()
    for _ in line.struck():
        mark = line.mark()
        ask(_redis(line).server, "CONFIG", "SET", "maxmemory", 1)
        line.work()
        line.said_since(mark, "raise `maxmemory`")
        line.wait(HOLD_SECONDS)
        ask(_redis(line).server, "CONFIG", "SET", "maxmemory", 0)
        line.recovered()


def amnesia(line: Line) -> None:
    """A restart without persistence: the stream is gone, and the state store knows that there was one."""
    line.start()
    for _ in line.struck():
        line.settled()
        line.destination.restart()
        mark = line.mark()
        line.work()
        line.decided(mark, "the destination's position is gone", 0)
    line.note("stops and says so; `offsets set` delivers all again")
