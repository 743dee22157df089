"""How long a pipeline waits before it tries again: what is progress, and what is none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from oplogbridge.errors import Unavailable
from oplogbridge.sink import SinkTraits
from oplogbridge.testing.memory import plugin as memory_plugin
from oplogbridge.values import Batch, Event
from world import PipelineChoice, World


async def test_answers_that_move_nothing_do_not_reset_the_backoff() -> None:
    async with World() as world:
        world.source.append(3)
        one = world.start()
        await world.until(lambda: len(world.sequences) == 3)
        world.source.append(1)
        world.source.answers.extend([world.source.page(0)] * 1000)  # stale, "has_more"
        one.gate.fail("sink.position", times=10**6)  # at each heartbeat, which stale answers lead to
        await world.run(600)

        status, opened = one.pipeline(), one.gate.calls.count("sink.open")
        await world.run(600)

        assert (status.offset, status.caught_up) == (4, False)
        assert status.error is not None
        assert one.gate.calls.count("sink.open") - opened < 600 / 20  # ten seconds to a heartbeat, and a long back-off


class TakesOneAtATime:
    """Takes one event of each batch, and asks for time before the next."""

    destination = "one at a time"

    def __init__(self, taken: list[int]) -> None:
        self._taken = taken

    async def open(self) -> None: ...

    async def prepare(self, events: Sequence[Event]) -> None: ...

    async def write(self, batch: Batch) -> None:
        self._taken.append(batch.events[0].sequence)
        assert batch.save is not None
        await batch.save(batch.events[0].sequence + 1)
        raise Unavailable("still working", retry_after_seconds=0.1)

    async def move(self, offset: int) -> None: ...

    async def position(self) -> None: ...

    async def close(self) -> None: ...


async def test_a_receiver_that_takes_a_part_each_time_is_not_waited_for_longer_and_longer() -> None:
    """Each event answered with "busy for a moment": the thirtieth came half a minute later than it was asked for."""
    taken: list[int] = []
    plugin = replace(
        memory_plugin,
        traits=lambda _: SinkTraits("at_least_once", False, False, events_max=10, bytes_max=1 << 20),
        build=lambda _settings, _context: TakesOneAtATime(taken),
    )
    async with World(PipelineChoice(plugin=plugin)) as world:
        world.source.append(20)
        world.start()

        began = world.clock.monotonic()
        await world.until(lambda: len(taken) == 20)

        assert taken == list(world.source.sequences)
        assert world.clock.monotonic() - began < 30
