"""Lanes: of each key one at a time and in order, a bounded window, and an offset that passes nothing undelivered."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oplogbridge.errors import Misconfigured, Rejected, Unavailable
from oplogbridge.lanes import Lanes
from oplogbridge.testing import make_event
from oplogbridge.testing.clock import ManualClock
from oplogbridge.values import Event


@dataclass
class Script:
    """What one event meets: so many turns of the loop under way, so many refusals for now, and the end."""

    key: int
    turns: int = 0
    naks: int = 0
    rejected: bool = False


@dataclass
class Destination:
    scripts: list[Script]
    done: list[int] = field(default_factory=list)
    begun: list[int] = field(default_factory=list)
    saved: int = 0
    under_way: set[bytes] = field(default_factory=set)

    def event(self, sequence: int) -> Event:
        return make_event(sequence, key=b"%d" % self.scripts[sequence].key, payload=b"x" * 10)

    async def write(self, event: Event) -> None:
        script = self.scripts[event.sequence]
        assert event.key not in self.under_way, "two of one key at once"
        before = [n for n in range(event.sequence) if self.scripts[n].key == script.key]
        assert set(before) <= set(self.done), "one of a key overtook another"
        self.under_way.add(event.key)
        self.begun.append(event.sequence)
        for _ in range(script.turns):
            await asyncio.sleep(0)
        self.under_way.discard(event.key)
        if script.naks:
            script.naks -= 1
            raise Unavailable("later: it will be sent again", retry_after_seconds=1.0)
        if script.rejected:
            raise Rejected(event, "never")
        self.done.append(event.sequence)


async def keep(lanes: Lanes, destination: Destination, aside: list[int]) -> None:
    """What the pipeline does beside."""
    while await lanes.moved():
        offset, events = lanes.acknowledged()
        if offset is not None and offset != lanes.saved_offset:
            assert set(range(offset)) <= {*destination.done, *aside}, "the offset passed what is not delivered"
            assert offset >= destination.saved
            destination.saved = offset
            lanes.release(len(events), offset)
        if (rejected := lanes.rejected()) is not None:
            sequence = rejected.event.sequence
            assert set(range(sequence)) <= {*destination.done, *aside}
            aside.append(sequence)
            destination.done.append(sequence)  # its key goes on
            lanes.release_rejected()
            destination.saved = sequence + 1


def lanes_over(destination: Destination, clock: ManualClock, **changes: object) -> Lanes:
    options: dict[str, object] = {"pending_max": 5, "bytes_max": 10_000, "delivered": frozenset()}
    return Lanes(
        destination.write,
        clock=clock,
        jitter=lambda: 0.5,
        on_waiting=lambda *_: None,
        **options | changes,  # type: ignore[arg-type]
    )


scripts = st.builds(Script, st.integers(0, 3), st.integers(0, 4), st.integers(0, 2), st.booleans())


@given(st.lists(scripts, max_size=30), st.integers(2, 8), st.integers(10, 60))
def test_whatever_is_refused_for_now_or_for_good_all_arrive_in_order_of_their_key(
    found: list[Script], pending_max: int, bytes_max: int
) -> None:
    async def case() -> None:
        clock, destination, aside = ManualClock(), Destination(found), list[int]()
        lanes = lanes_over(destination, clock, pending_max=pending_max, bytes_max=bytes_max)
        keeping = asyncio.create_task(keep(lanes, destination, aside))

        async def take() -> None:
            for begin in range(0, len(found), 7):
                events = [destination.event(n) for n in range(begin, min(begin + 7, len(found)))]
                await lanes.take(events, begin + len(events))
            await lanes.empty()

        taking = asyncio.create_task(take())
        while not taking.done() and not keeping.done():
            await clock.run(1.0)
            far = max(destination.begun, default=0) - destination.saved
            assert far < pending_max, "more is under way than the window holds"
            assert far < max(1, bytes_max // 10)
        lanes.stop()
        await keeping
        await taking

        assert sorted(destination.done) == list(range(len(found)))
        assert aside == [n for n, script in enumerate(found) if script.rejected]
        assert destination.saved == len(found)

    asyncio.run(case())


async def test_trouble_that_only_a_person_can_mend_ends_the_taking_and_what_is_under_way_is_kept() -> None:
    clock, destination, aside = ManualClock(), Destination([Script(0, turns=9), Script(1), Script(2)]), list[int]()
    write = destination.write

    async def gone(event: Event) -> None:
        if event.sequence == 1:
            raise Misconfigured("gone for good: give another")
        await write(event)

    lanes = Lanes(gone, pending_max=5, bytes_max=100, clock=clock, jitter=lambda: 0.5, on_waiting=lambda *_: None)
    keeping = asyncio.create_task(keep(lanes, destination, aside))
    await lanes.take([destination.event(n) for n in range(3)], 3)
    await keeping

    with pytest.raises(Misconfigured):
        await lanes.empty()
    assert (destination.saved, lanes.delivered) == (1, frozenset({2}))  # beyond what can be saved


async def test_what_an_earlier_delivery_brought_there_is_not_sent_again() -> None:
    clock, destination, aside = ManualClock(), Destination([Script(0), Script(1), Script(0)]), list[int]()
    destination.done = [1]
    lanes = lanes_over(destination, clock, delivered=frozenset({1}))
    keeping = asyncio.create_task(keep(lanes, destination, aside))

    await lanes.take([destination.event(n) for n in range(3)], 3)
    await lanes.empty()
    lanes.stop()
    await keeping

    assert (destination.begun, destination.saved) == ([0, 2], 3)
