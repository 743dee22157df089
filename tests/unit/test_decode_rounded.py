"""Sequences that went through a float hide entries: eight in a row are no chance, seven may be."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oplogbridge.errors import Misconfigured
from oplogbridge.source.decode import PageDecoder
from pages import entry, numbers, page, strings

SECOND = 1423124117
FIRST = SECOND << 32


def exact(count: int, *, start: int = FIRST) -> list[int]:
    """What a double holds exactly: 1024 apart at this height."""
    return [start + 1024 * n for n in range(count)]


def printed(count: int) -> list[int]:
    """What JavaScript prints for them: the shortest decimal."""
    return [int(Decimal(repr(float(one)))) for one in exact(count)]


@pytest.mark.parametrize("rounded", [exact, printed])
def test_eight_rounded_sequences_in_a_row_stop_the_pipeline(rounded) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(Misconfigured, match="went through a float: 8 in a row"):
        PageDecoder().decode(numbers(*rounded(8)), 0)


@pytest.mark.parametrize("rounded", [exact, printed])
def test_seven_pass_and_an_honest_one_begins_the_count_anew(rounded) -> None:  # type: ignore[no-untyped-def]
    wanted = [*rounded(7), FIRST + 8 * 1024 + 1, *(one + 9 * 1024 for one in exact(7))]

    found = PageDecoder().decode(numbers(*wanted), 0)

    assert [one.sequence for one in found.entries] == wanted


def test_the_run_goes_on_over_the_pages_of_one_reading() -> None:
    decoder = PageDecoder()
    run = exact(9)
    for index in range(0, 6, 3):
        decoder.decode(numbers(*run[index : index + 3]), 0 if index == 0 else run[index - 1] + 1)

    with pytest.raises(Misconfigured, match="in a row"):
        decoder.decode(numbers(*run[6:]), run[5] + 1)


def test_the_run_goes_on_while_another_pipeline_reads_elsewhere() -> None:
    decoder = PageDecoder()
    run = exact(8)
    decoder.decode(numbers(*run[:4]), 0)
    decoder.decode(numbers(5, 6, 7), 5)

    with pytest.raises(Misconfigured, match="in a row"):
        decoder.decode(numbers(*run[4:]), run[3] + 1)


def test_a_pipeline_that_stopped_stops_again_when_it_asks_for_the_page_again() -> None:
    decoder = PageDecoder()
    run = exact(8)
    decoder.decode(numbers(*run[:4]), 0)

    for _ in range(3):
        with pytest.raises(Misconfigured, match="in a row"):
            decoder.decode(numbers(*run[4:]), run[3] + 1)


def test_the_same_page_polled_again_and_again_makes_no_run() -> None:
    decoder = PageDecoder()
    run = exact(4)

    for _ in range(10):
        assert len(decoder.decode(numbers(*run), run[0]).entries) == 4


def test_a_page_of_one_entry_each_is_counted_as_well() -> None:
    decoder = PageDecoder()
    run = exact(8)
    for index in range(7):
        decoder.decode(numbers(run[index]), run[index - 1] + 1 if index else 0)

    with pytest.raises(Misconfigured, match="in a row"):
        decoder.decode(numbers(run[7]), run[6] + 1)


def test_numbers_are_judged_even_when_the_page_says_has_more() -> None:
    body = page(*(entry(one) for one in exact(8)), has_more=False)

    with pytest.raises(Misconfigured, match="in a row"):
        PageDecoder().decode(body, 0)


def test_strings_are_not_judged() -> None:
    assert len(PageDecoder().decode(strings(*exact(20)), 0).entries) == 20


def test_they_pass_when_the_operator_allows_it() -> None:
    assert len(PageDecoder(rounded_allowed=True).decode(numbers(*exact(20)), 0).entries) == 20


def test_small_sequences_are_never_suspected() -> None:
    assert len(PageDecoder().decode(numbers(*range(1, 100)), 0).entries) == 99


@given(st.lists(st.tuples(st.integers(1, 100_000), st.integers(1, 200)), min_size=1, max_size=30))
def test_honest_sequences_are_never_stopped(seconds: list[tuple[int, int]]) -> None:
    wanted, second = [], 1_400_000_000
    for step, count in seconds:  # a second's counter begins at 1
        second += step
        wanted += [(second << 32) + 1 + n for n in range(count)]

    assert len(PageDecoder().decode(numbers(*wanted), 0).entries) == len(wanted)


def test_the_run_lengths_that_are_remembered_are_bounded() -> None:
    decoder = PageDecoder()
    for n in range(5000):
        decoder.decode(numbers(FIRST + n * 2**30), FIRST + n * 2**30)

    assert len(decoder._rounded._runs) <= 1024


def test_the_five_entries_of_the_vendors_documentation_come_out_as_documented() -> None:
    body = (Path(__file__).parent / "vendor_example_page.json").read_bytes()

    found = PageDecoder(rounded_allowed=True).decode(body, 0)

    assert [(one.sequence, one.operation, one.object_type, one.updated_at) for one in found.entries] == [
        (6009123137931706000, "update", "task", "2014-05-03T09:06:48Z"),
        (6112271540663878000, "create", "user", "2015-02-05T08:15:17Z"),
        (6112271738232373000, "update", "user", "2015-02-05T08:16:03Z"),
        (6112271772592112000, "create", "user", "2015-02-05T08:16:11Z"),
        (6112271910031065000, "update", "category", "2015-02-05T08:16:43Z"),
    ]
    assert found.datamodel_hash == "d9cca721a735dac4efe709e0f3518373"
