"""What the reading half hands to the writing half: parts within the sink's bounds, in order, under pressure."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oplogbridge.codec.encode import Codec
from oplogbridge.codec.subjects import Filter
from oplogbridge.errors import Misconfigured
from oplogbridge.handoff import AHEAD_PAGES_MAX, BYTES_MAX, PAGES_MAX, Handoff, Part, parts_of
from oplogbridge.sink import SinkTraits
from oplogbridge.source.decode import PageDecoder
from oplogbridge.testing import make_event
from pages import entry, page


def traits(*, events_max: int = 1000, bytes_max: int = 2**30) -> SinkTraits:
    return SinkTraits("exactly_once", True, True, events_max, bytes_max)


def part(*sequences: int, payload_bytes: int = 10, **changes: object) -> Part:
    events = [make_event(sequence) for sequence in sequences]
    return Part(events, sequences[-1] + 1, payload_bytes, len(events), **changes)  # type: ignore[arg-type]


def sequences(one: Part | None) -> list[int]:
    assert one is not None
    return [event.sequence for event in one.events]


async def is_stuck(task: asyncio.Task[object]) -> bool:
    for _ in range(5):
        await asyncio.sleep(0)
    return not task.done()


# Parts of a page ---------------------------------------------------------------------------------------------------


def parts(body: bytes, *, types: frozenset[str] = frozenset(), bounds: SinkTraits | None = None) -> list[Part]:
    codec = Codec(source="shop", format="raw", filter=Filter("shop", types=types))
    return parts_of(PageDecoder(keep_raw=True).decode(body, 0), codec, bounds or traits())


def test_a_page_is_nearly_always_one_part() -> None:
    (one,) = parts(page(entry("1"), entry("5"), has_more=False))

    assert (sequences(one), one.next_offset, one.entries, one.caught_up) == ([1, 5], 6, 2, True)


def test_a_page_of_filtered_entries_is_a_part_that_moves_the_offset() -> None:
    (one,) = parts(page(entry("1"), entry("5"), has_more=True), types=frozenset({"order"}))

    assert (sequences(one), one.next_offset, one.entries, one.caught_up) == ([], 6, 2, False)


def test_a_malformed_entry_ends_a_part_and_only_the_last_part_is_caught_up() -> None:
    bad = entry("5", object_=b"{}")

    found = parts(page(entry("1"), bad, entry("9"), has_more=False))

    assert [(sequences(one), one.next_offset, one.malformed is None, one.caught_up) for one in found] == [
        ([1], 5, False, False),
        ([9], 10, True, True),
    ]


@pytest.mark.parametrize("where", [0, 1, 2])
def test_a_malformed_entry_may_stand_first_in_the_middle_or_last(where: int) -> None:
    shown = [entry(str(sequence), object_=b"{}" if index == where else b'{"id":"1","type":"a"}')
             for index, sequence in enumerate((3, 5, 7))]  # fmt: skip

    found = parts(page(*shown, has_more=False))

    assert [one.malformed.sequence for one in found if one.malformed] == [(3, 5, 7)[where]]
    assert [event.sequence for one in found for event in one.events] == [
        s for i, s in enumerate((3, 5, 7)) if i != where
    ]
    assert found[-1].next_offset == 8


@given(
    st.lists(st.tuples(st.integers(0, 300), st.sampled_from(["sound", "other", "malformed"])), max_size=30),
    st.integers(1, 7),
    st.integers(1, 600),
    st.booleans(),
)
def test_parts_hold_every_event_in_order_within_the_sinks_bounds(
    made: list[tuple[int, str]], events_max: int, bytes_max: int, more: bool
) -> None:
    shown = []
    for index, (size, kind) in enumerate(made):
        object_ = b'{"id":"1","type":"%b","x":"%b"}' % (b"b" if kind == "other" else b"a", b"x" * size)
        shown.append(entry(str(10 * index + 1), object_=b"{}" if kind == "malformed" else object_))
    bounds = traits(events_max=events_max, bytes_max=bytes_max)

    found = parts(page(*shown, has_more=more), types=frozenset({"a"}), bounds=bounds)

    kinds = {10 * index + 1: kind for index, (_, kind) in enumerate(made)}
    assert [event.sequence for one in found for event in one.events] == [s for s, k in kinds.items() if k == "sound"]
    assert [one.malformed.sequence for one in found if one.malformed] == [
        s for s, k in kinds.items() if k == "malformed"
    ]
    assert sum(one.entries for one in found) == sum(kind != "malformed" for kind in kinds.values())
    assert found[-1].next_offset == (max(kinds) + 1 if kinds else 0)
    offset = 0
    for one in found:
        assert one.payload_bytes == sum(len(event.payload) for event in one.events)
        assert len(one.events) <= events_max
        assert one.payload_bytes <= bytes_max or len(one.events) == 1
        assert all(offset <= sequence < one.next_offset for sequence in sequences(one))
        assert one.next_offset >= offset
        offset = one.next_offset
    assert [one.caught_up for one in found] == [False] * (len(found) - 1) + [not more]


# The hand-off ------------------------------------------------------------------------------------------------------


async def test_what_waits_is_taken_as_one_part() -> None:
    handoff = Handoff(traits())
    await handoff.put(part(1, 2))
    await handoff.put(part(3, caught_up=True))

    taken = await handoff.take()

    assert taken is not None
    assert (sequences(taken), taken.next_offset, taken.payload_bytes, taken.entries, taken.caught_up) == (
        [1, 2, 3],
        4,
        20,
        3,
        True,
    )
    assert handoff.entries_waiting == 0


async def test_no_more_is_merged_than_one_write_takes() -> None:
    for bounds in (traits(events_max=3), traits(bytes_max=25)):
        handoff = Handoff(bounds)
        for sequence in (1, 3, 5):
            await handoff.put(part(sequence, sequence + 1))

        taken = [sequences(await handoff.take()) for _ in range(2)]

        assert taken[0] == ([1, 2] if bounds.events_max == 3 else [1, 2, 3, 4])


async def test_nothing_is_merged_behind_a_malformed_entry() -> None:
    handoff = Handoff(traits())
    (bad, _) = parts(page(entry("1"), entry("2", object_=b"{}"), has_more=False))
    await handoff.put(part(0))
    await handoff.put(bad)
    await handoff.put(part(3))

    first, second = await handoff.take(), await handoff.take()

    assert first is not None
    assert first.malformed is bad.malformed
    assert (sequences(first), sequences(second)) == ([0, 1], [3])


async def test_the_putter_waits_when_so_many_parts_wait() -> None:
    handoff = Handoff(traits(events_max=1))
    for sequence in range(PAGES_MAX):
        await handoff.put(part(sequence))
    putting = asyncio.create_task(handoff.put(part(99)))

    assert await is_stuck(putting)
    await handoff.take()
    await putting
    assert handoff.entries_waiting == PAGES_MAX


async def test_the_putter_waits_when_so_many_parts_are_ahead_of_the_write_in_flight() -> None:
    handoff = Handoff(traits())
    for sequence in range(PAGES_MAX):
        await handoff.put(part(sequence))
    await handoff.take()  # being prepared
    for sequence in range(PAGES_MAX, AHEAD_PAGES_MAX):
        await handoff.put(part(sequence))
    putting = asyncio.create_task(handoff.put(part(99)))

    assert await is_stuck(putting)
    handoff.write_begins()
    await putting


async def test_while_a_write_is_in_flight_a_putter_whose_part_does_not_fit_ends_the_wait() -> None:
    """Pages of 2 to 8 MiB: both waited for the write to end, so nothing was ever prepared ahead."""
    handoff = Handoff(traits())
    handoff.write_begins()
    taking = asyncio.create_task(handoff.take())
    await handoff.put(part(1, payload_bytes=BYTES_MAX // 2 + 1))
    assert await is_stuck(taking)

    putting = asyncio.create_task(handoff.put(part(2, payload_bytes=BYTES_MAX // 2 + 1)))

    assert sequences(await taking) == [1]
    await putting


@pytest.mark.parametrize("enough", ["pages", "events", "bytes", "error", "write ended"])
async def test_while_a_write_is_in_flight_the_taker_waits_for_all_that_the_next_one_can_take(enough: str) -> None:
    bounds = traits(events_max=PAGES_MAX - 1) if enough == "events" else traits()
    handoff = Handoff(bounds)
    handoff.write_begins()
    taking = asyncio.create_task(handoff.take())
    await handoff.put(part(1))
    await handoff.put(part(2))
    assert await is_stuck(taking)

    if enough == "write ended":
        handoff.write_ended()
    elif enough == "error":
        handoff.fail(Misconfigured("no more"))
    else:
        await handoff.put(part(3, payload_bytes=BYTES_MAX - 20 if enough == "bytes" else 10))
        if enough == "pages":
            assert await is_stuck(taking)
            await handoff.put(part(4))

    wanted = {"pages": [1, 2, 3, 4], "events": [1, 2, 3], "bytes": [1, 2, 3]}.get(enough, [1, 2])
    assert sequences(await taking) == wanted


async def test_the_putter_waits_when_so_many_bytes_wait_but_one_large_part_passes_alone() -> None:
    handoff = Handoff(traits())
    await handoff.put(part(1, payload_bytes=BYTES_MAX + 1))
    putting = asyncio.create_task(handoff.put(part(2)))

    assert await is_stuck(putting)
    assert sequences(await handoff.take()) == [1]
    await putting
    assert sequences(await handoff.take()) == [2]


async def test_the_taker_waits_until_something_is_put() -> None:
    handoff = Handoff(traits())
    taking = asyncio.create_task(handoff.take())

    assert await is_stuck(taking)
    await handoff.put(part(1))
    assert sequences(await taking) == [1]


async def test_an_error_is_raised_when_what_was_put_before_it_is_taken() -> None:
    handoff = Handoff(traits())
    await handoff.put(part(1))
    handoff.fail(Misconfigured("no"))

    assert sequences(await handoff.take()) == [1]
    with pytest.raises(Misconfigured):
        await handoff.take()


async def test_an_error_wakes_a_waiting_taker() -> None:
    handoff = Handoff(traits())
    taking = asyncio.create_task(handoff.take())
    assert await is_stuck(taking)
    handoff.fail(Misconfigured("no"))

    with pytest.raises(Misconfigured):
        await taking


async def test_close_ends_the_taker_at_once_even_if_parts_wait() -> None:
    handoff = Handoff(traits())
    taking = asyncio.create_task(handoff.take())
    assert await is_stuck(taking)
    handoff.close()
    assert await taking is None

    handoff = Handoff(traits())
    await handoff.put(part(1))
    handoff.close()
    assert await handoff.take() is None


@given(st.lists(st.integers(1, 5), max_size=20), st.integers(1, 8))
def test_everything_put_is_taken_once_and_in_order(sizes: list[int], events_max: int) -> None:
    async def both() -> tuple[list[int], list[int]]:
        handoff = Handoff(traits(events_max=events_max))
        given_ones: list[int] = []

        async def put_all() -> None:
            for size in sizes:
                chosen = list(range(len(given_ones), len(given_ones) + size))
                given_ones.extend(chosen)
                await handoff.put(part(*chosen))
            handoff.fail(Misconfigured("the end"))

        putting = asyncio.create_task(put_all())
        taken: list[int] = []
        while len(taken) < sum(sizes):
            one = await handoff.take()
            assert one is not None
            assert len(one.events) <= max(events_max, 5)
            taken += sequences(one)
        with pytest.raises(Misconfigured):
            await handoff.take()
        await putting
        return given_ones, taken

    given_ones, taken = asyncio.run(both())
    assert taken == given_ones
