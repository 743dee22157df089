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


async def _age(jetstream: JetStreamContext, seconds_max: float) -> None:
    config = (await jetstream.stream_info(NAME)).config
    await jetstream.update_stream(config.evolve(max_age=seconds_max, duplicate_window=seconds_max))


async def _left(jetstream: JetStreamContext) -> int:
    return (await jetstream.stream_info(NAME)).state.messages


def purged(line: Line) -> None:
    """Nothing is left in it but the number of its last message."""
    line.start()
    for _ in line.struck():
        line.settled()
        line.destroyed_so_far()
        _do(line, lambda jetstream: jetstream.purge_stream(NAME))
        line.restarted()
    line.note("goes on where it was")


def expired(line: Line) -> None:
    """`max_age` has taken everything, the last message too."""
    line.start()
    for _ in line.struck():
        line.settled()
        line.destroyed_so_far()
        _do(line, lambda jetstream: _age(jetstream, 1))
        line.until(lambda: _do(line, _left) == 0, "everything expired")
        _do(line, lambda jetstream: _age(jetstream, 0))
        line.restarted()
    line.note("goes on where it was")


def deleted(line: Line) -> None:
    """The stream is deleted; `create: true` makes a new one, and the state store knows that there was another."""
    line.start()
    for _ in line.struck():
        offset = line.settled()
        line.destroyed_so_far()
        _do(line, lambda jetstream: jetstream.delete_stream(NAME))
        mark = line.mark()
        line.work()
        line.decided(mark, "the destination's position is gone", offset)
    line.note("stops and says so; goes on after `offsets set`")
