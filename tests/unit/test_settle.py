"""Entries that are too young wait, for sources that commit lower sequences late."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oplogbridge.source.decode import PageDecoder
from oplogbridge.source.settle import MARKS_MAX, Settling
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


def settled(page: Page, *, settle_seconds: float, unix_now: float) -> Page:
    """By a reader that sees its first page."""
    return Settling(settle_seconds).hold_back(page, asked_at=100.0, came_at=100.0, unix_asked=unix_now)


def at(settling: Settling, page: Page, now: float, unix_now: float) -> Page:
    """The page was asked for and came at once."""
    return settling.hold_back(page, asked_at=now, came_at=now, unix_asked=unix_now)


def test_without_a_delay_the_page_stays_as_it_is() -> None:
    given_page = stamped("2015-02-05T08:15:17Z")

    assert settled(given_page, settle_seconds=0.0, unix_now=NOON) is given_page


def test_a_page_of_settled_entries_stays_as_it_is() -> None:
    given_page = stamped("2015-02-05T08:15:10Z", "2015-02-05T08:15:11Z")

    assert settled(given_page, settle_seconds=5.0, unix_now=NOON) is given_page


def test_the_page_is_cut_at_the_first_entry_that_is_too_young() -> None:
    given_page = stamped("2015-02-05T08:15:10Z", "2015-02-05T08:15:16Z", "2015-02-05T08:15:16Z")

    cut = settled(given_page, settle_seconds=5.0, unix_now=NOON)

    assert [one.sequence for one in cut.entries] == [10]
    # not 20: a lower sequence that is committed late may still come between
    assert (cut.next_offset, cut.more) == (11, True)


def test_a_whole_second_may_have_been_its_last_moment() -> None:
    # Written at 08:15:12.9 it says 08:15:12, and at 08:15:17 it is 4.1 seconds old.
    given_page = stamped("2015-02-05T08:15:12Z")

    assert settled(given_page, settle_seconds=5.0, unix_now=NOON).entries == []
    assert settled(given_page, settle_seconds=5.0, unix_now=NOON + 1.0) is given_page


def test_a_moment_is_taken_as_it_stands() -> None:
    given_page = stamped("2015-02-05T08:15:11.999Z")

    assert settled(given_page, settle_seconds=5.0, unix_now=NOON) is given_page


def test_a_page_of_young_entries_is_asked_for_again_from_the_same_offset() -> None:
    cut = settled(stamped("2015-02-05T08:15:16Z"), settle_seconds=5.0, unix_now=NOON)

    assert (cut.entries, cut.next_offset, cut.more) == ([], 0, True)


def kept(page: Page) -> tuple[list[int], list[int]]:
    return [one.sequence for one in page.entries], [one.sequence for one in page.malformed]


@pytest.mark.parametrize("stamp", ["yesterday", "", 12, "2015-02-30T00:00:00Z"])
def test_an_entry_without_a_readable_time_waits_from_when_it_was_first_seen(stamp: object) -> None:
    settling = Settling(5.0)

    assert kept(at(settling, stamped(stamp), 100.0, NOON)) == ([], [])
    assert kept(at(settling, stamped(stamp), 104.9, NOON)) == ([], [])
    assert kept(at(settling, stamped(stamp), 105.0, NOON)) == ([10], [])


def test_so_does_a_malformed_entry_which_shows_no_time() -> None:
    # Found by the simulation: it counted as old, and a lower sequence that came late was passed over.
    settling = Settling(5.0)
    given_page = stamped("2015-02-05T08:15:10Z", "x", "2015-02-05T08:15:16Z", malformed=(20,))

    assert kept(at(settling, given_page, 100.0, NOON)) == ([10], [])
    assert kept(at(settling, given_page, 105.0, NOON)) == ([10, 30], [20])


def test_what_is_lower_than_an_old_entry_is_settled_whatever_it_shows() -> None:
    # Nothing below an old entry can still come: history with deletes that show no time is carried at full speed.
    given_page = stamped("2015-02-05T08:15:16Z", "none", "x", "2015-02-05T08:15:10Z", malformed=(30,))

    assert settled(given_page, settle_seconds=5.0, unix_now=NOON) is given_page


def test_a_clock_that_runs_behind_holds_nothing_back_for_longer() -> None:
    settling = Settling(5.0)
    given_page = stamped("2015-02-05T08:15:10Z")

    assert kept(at(settling, given_page, 100.0, NOON - 3600)) == ([], [])
    assert kept(at(settling, given_page, 105.0, NOON - 3600)) == ([10], [])


def test_what_comes_later_is_counted_from_when_it_came() -> None:
    settling = Settling(5.0)
    at(settling, stamped("x"), 100.0, NOON)
    at(settling, stamped("x", "x"), 103.0, NOON)

    assert kept(at(settling, stamped("x", "x"), 105.0, NOON)) == ([10], [])
    assert kept(at(settling, stamped("x", "x"), 108.0, NOON)) == ([10, 20], [])


def test_time_that_an_answer_was_on_its_way_counts_for_nothing() -> None:
    # Found by the simulation: what comes late in that time is not on the page.
    settling, unstamped = Settling(5.0), stamped("x", malformed=(10,))

    slow = settling.hold_back(stamped("2015-02-05T08:15:10Z"), asked_at=100.0, came_at=110.0, unix_asked=NOON - 2)
    assert kept(slow) == ([], [])
    settling = Settling(5.0)
    assert kept(settling.hold_back(unstamped, asked_at=100.0, came_at=110.0, unix_asked=NOON)) == ([], [])
    assert kept(settling.hold_back(unstamped, asked_at=112.0, came_at=120.0, unix_asked=NOON)) == ([], [])
    assert kept(settling.hold_back(unstamped, asked_at=120.0, came_at=120.0, unix_asked=NOON)) == ([], [10])


def test_a_source_that_would_go_on_beyond_what_it_shows_is_followed_only_after_that_time() -> None:
    # Found in review: an empty page with more to come moved the offset past what could still be committed there.
    settling = Settling(5.0)
    empty = PageDecoder().decode(page(has_more=True, next_request_start="500"), 7)

    held = at(settling, empty, 100.0, NOON)
    assert (held.next_offset, held.more, held.held_back) == (7, True, True)
    assert at(settling, empty, 104.9, NOON).next_offset == 7
    assert at(settling, empty, 105.0, NOON) is empty


def test_what_is_remembered_has_a_bound_and_nothing_waits_much_longer_for_it() -> None:
    settling, settle_seconds, polls = Settling(5.0), 5.0, 20_000

    for poll in range(polls):
        shown = PageDecoder().decode(page(entry(str(poll + 1), object_=b'{"id":"7","type":"user"}'), has_more=False), 0)
        at(settling, shown, 100.0 + poll * 0.001, NOON)

    assert len(settling._seen) <= MARKS_MAX + 1
    last_seen_at, grain_seconds = 100.0 + (polls - 1) * 0.001, settle_seconds / MARKS_MAX
    at(settling, shown, last_seen_at + grain_seconds, NOON)  # the reader goes on asking
    ends_at = last_seen_at + settle_seconds
    assert kept(at(settling, shown, ends_at - 0.01, NOON)) == ([], [])
    assert kept(at(settling, shown, ends_at + 2 * grain_seconds, NOON))[0] == [polls]


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
