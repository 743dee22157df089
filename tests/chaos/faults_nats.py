"""What whoever looks after a JetStream can do to the stream."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from nats.js import JetStreamContext

from chaos.destinations import NAME, NatsDestination
from chaos.line import Line
from nats_reader import stream_client


def _do(line: Line, what: Callable[[JetStreamContext], Awaitable[Any]]) -> Any:
    destination = line.destination
    assert isinstance(destination, NatsDestination)

    async def done() -> Any:
        async with stream_client(destination.server.url) as jetstream:
            return await what(jetstream)

    return destination.background.run(done())


def _settled(line: Line) -> None:
    """Delivered, saved, and then all of it is the destination's to lose."""
    line.delivered()
    line.saved()
    line.destroyed_so_far()


def purged(line: Line) -> None:
    """Nothing is left in it but the number of its last message."""
    line.start()
    for _ in line.struck():
        _settled(line)
        _do(line, lambda jetstream: jetstream.purge_stream(NAME))
        line.bridge.kill()
        with line.recovery():
            line.bridge.start()
    line.note("goes on where it was")


def expired(line: Line) -> None:
    """`max_age` has taken everything, the last message too."""
    line.start()
    for _ in line.struck():
        _settled(line)

        async def age(jetstream: JetStreamContext, seconds: float) -> None:
            config = (await jetstream.stream_info(NAME)).config
            await jetstream.update_stream(config.evolve(max_age=seconds, duplicate_window=seconds))

        _do(line, lambda jetstream: age(jetstream, 1))

        async def left(jetstream: JetStreamContext) -> int:
            return (await jetstream.stream_info(NAME)).state.messages

        line.until(lambda: _do(line, left) == 0, "everything expired")
        _do(line, lambda jetstream: age(jetstream, 0))
        line.bridge.kill()
        with line.recovery():
            line.bridge.start()
    line.note("goes on where it was")


def deleted(line: Line) -> None:
    """The stream is deleted; `create: true` makes a new one, and the state store knows that there was another."""
    line.start()
    for _ in line.struck():
        _settled(line)
        _do(line, lambda jetstream: jetstream.delete_stream(NAME))
        mark = line.mark()
        next_offset = line.newest_written + 1
        line.work()
        line.said_since(mark, "the destination's position is gone")
        line.decide(next_offset)
    line.note("stops and says so; goes on after `offsets set`")
