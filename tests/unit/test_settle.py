"""Entries that are too young wait, for sources that commit lower sequences late."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oplogbridge.source.decode import PageDecoder
from oplogbridge.source.settle import settled
from oplogbridge.source.start import unix_seconds
from oplogbridge.values import Page
from pages import entry, page

NOON = 1_423_124_117.0  # 2015-02-05T08:15:17Z


def stamped(*stamps: object, malformed: tuple[int, ...] = ()) -> Page:
    shown = []
    for index, stamp in enumerate(stamps):
        sequence = 10 * (index + 1)
        text = f'"{stamp}"'.encode() if isinstance(stamp, str) else b"12"
        object_ = b'{"id":"7","type":"user","updated_at":' + text + b"}"
        shown.append(entry(str(sequence), object_=b"{}" if sequence in malformed else object_))
    return PageDecoder().decode(page(*shown, has_more=False), 0)


def test_without_a_delay_the_page_stays_as_it_is() -> None:
    given_page = stamped("2015-02-05T08:15:17Z")

    assert settled(given_page, settle_seconds=0.0, unix_now=NOON) is given_page


def test_a_page_of_settled_entries_stays_as_it_is() -> None:
    given_page = stamped("2015-02-05T08:15:10Z", "2015-02-05T08:15:12Z")

    assert settled(given_page, settle_seconds=5.0, unix_now=NOON) is given_page


def test_the_page_is_cut_at_the_first_entry_that_is_too_young() -> None:
    given_page = stamped("2015-02-05T08:15:10Z", "2015-02-05T08:15:16Z", "2015-02-05T08:15:10Z")

    cut = settled(given_page, settle_seconds=5.0, unix_now=NOON)

    assert [one.sequence for one in cut.entries] == [10]
    # not 20: a lower sequence that is committed late may still come between
    assert (cut.next_offset, cut.more) == (11, True)


def test_a_page_of_young_entries_is_asked_for_again_from_the_same_offset() -> None:
    cut = settled(stamped("2015-02-05T08:15:16Z"), settle_seconds=5.0, unix_now=NOON)

    assert (cut.entries, cut.next_offset, cut.more) == ([], 0, True)


def test_a_malformed_entry_before_the_cut_stays_and_one_behind_it_waits() -> None:
    given_page = stamped("x", "2015-02-05T08:15:16Z", "x", malformed=(10, 30))

    cut = settled(given_page, settle_seconds=5.0, unix_now=NOON)

    assert ([one.sequence for one in cut.malformed], cut.next_offset) == ([10], 11)


@pytest.mark.parametrize("stamp", ["yesterday", "", 12, "2015-02-30T00:00:00Z"])
def test_an_entry_without_a_readable_time_counts_as_old(stamp: object) -> None:
    given_page = stamped(stamp)

    assert settled(given_page, settle_seconds=5.0, unix_now=NOON) is given_page


@pytest.mark.parametrize(
    "text", ["2015-02-05T08:15:17Z", "2015-02-05T10:15:17+02:00", "2015-02-05T08:15:17", "20150205T081517Z"]
)
def test_times_are_read_in_the_forms_of_iso_8601_and_without_a_zone_as_utc(text: str) -> None:
    assert unix_seconds(text) == NOON


@given(st.one_of(st.text(max_size=40), st.datetimes().map(lambda when: when.isoformat()), st.none()))
def test_no_text_is_too_strange(text: str | None) -> None:
    assert isinstance(unix_seconds(text), float | None)


@pytest.mark.parametrize("text", ["0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59", "0001-01-01T00:00:00"])
def test_the_ends_of_the_calendar_are_no_error(text: str) -> None:
    assert isinstance(unix_seconds(text), float)
