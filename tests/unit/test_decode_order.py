"""A page is checked strictly ascending; what lies below the offset is dropped; two of one sequence are looked at."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oplogbridge.errors import Misconfigured
from oplogbridge.source.decode import PageDecoder
from oplogbridge.values import Page
from pages import entry, page, strings


def decoded(*entries: bytes, offset: int = 0, keep_raw: bool = False) -> Page:
    return PageDecoder(keep_raw=keep_raw).decode(page(*entries, has_more=False), offset)


def test_entries_below_the_offset_are_dropped_and_counted() -> None:
    found = decoded(entry("3"), entry("4"), entry("5"), offset=5)

    assert [one.sequence for one in found.entries] == [5]
    assert (found.dropped, found.reordered, found.next_offset) == (2, False, 6)


def test_malformed_entries_below_the_offset_are_dropped_and_counted_too() -> None:
    found = decoded(entry("3", object_=b"{}"), entry("5"), offset=5)

    assert (found.malformed, found.dropped) == ([], 1)


def test_a_page_out_of_order_is_sorted_and_said_to_be() -> None:
    found = decoded(entry("9"), entry("5"), entry("7"))

    assert [one.sequence for one in found.entries] == [5, 7, 9]
    assert (found.reordered, found.next_offset) == (True, 10)


def test_a_descending_tail_is_sorted() -> None:
    found = PageDecoder().decode(strings(9, 8, 7), 0)

    assert ([one.sequence for one in found.entries], found.next_offset) == ([7, 8, 9], 10)


@pytest.mark.parametrize("keep_raw", [False, True])
def test_exact_copies_are_dropped(keep_raw: bool) -> None:
    found = decoded(entry("5"), entry("5"), entry("7"), entry("5"), keep_raw=keep_raw)

    assert [one.sequence for one in found.entries] == [5, 7]


def test_exact_copies_of_a_malformed_entry_are_dropped() -> None:
    found = decoded(entry("5", object_=b"{}"), entry("7"), entry("5", object_=b"{}"))

    assert [one.sequence for one in found.malformed] == [5]


@pytest.mark.parametrize(
    "other",
    [
        entry("5", operation="delete"),
        entry("5", object_=b'{"id":"8","type":"user"}'),
        entry("5", app_id="533b"),
        entry("5", conflict=True),
        entry("5").replace(b"[]", b"[1]"),
        entry("5", object_=b"{}"),
    ],
)
def test_two_different_entries_with_one_sequence_stop_the_pipeline(other: bytes) -> None:
    with pytest.raises(Misconfigured, match="two different entries with sequence 5"):
        decoded(entry("4"), entry("5"), other)


def test_two_different_malformed_entries_with_one_sequence_stop_the_pipeline() -> None:
    with pytest.raises(Misconfigured, match="two different entries with sequence 5"):
        decoded(entry("5", object_=b"{}"), entry("5", object_=b"[]"))


@given(st.lists(st.integers(1, 40), max_size=25), st.integers(0, 45), st.sets(st.integers(1, 40), max_size=5))
def test_whatever_the_order_the_page_ascends_from_its_offset(
    sequences: list[int], offset: int, malformed: set[int]
) -> None:
    shown = [entry(str(one), **({"object_": b"{}"} if one in malformed else {})) for one in sequences]

    found = decoded(*shown, offset=offset)

    wanted = sorted({one for one in sequences if one >= offset})
    assert [one.sequence for one in found.entries] == [one for one in wanted if one not in malformed]
    assert [one.sequence for one in found.malformed] == [one for one in wanted if one in malformed]
    assert found.next_offset == (wanted[-1] + 1 if wanted else offset)
