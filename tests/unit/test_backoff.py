"""How long to wait before the next try."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oplogbridge.backoff import RETRY_AFTER_SECONDS_MAX, Backoff, retry_after_seconds

NOW_UNIX_SECONDS = datetime(2026, 11, 22, 10, 0, 0, tzinfo=UTC).timestamp()


def test_it_doubles_to_its_maximum() -> None:
    backoff = Backoff(0.5, 30.0, lambda: 1.0)

    assert [backoff.next_seconds() for _ in range(9)] == [0.5, 1, 2, 4, 8, 16, 30, 30, 30]


def test_half_of_it_is_jitter() -> None:
    assert Backoff(8.0, 30.0, lambda: 0.0).next_seconds() == 4.0
    assert Backoff(8.0, 30.0, lambda: 0.5).next_seconds() == 6.0


def test_reset_begins_anew() -> None:
    backoff = Backoff(0.5, 30.0, lambda: 1.0)
    waits = [backoff.next_seconds() for _ in range(4)]
    backoff.reset()

    assert backoff.next_seconds() == waits[0]


def test_never_less_than_what_the_other_side_asked_for_and_never_parked_for_a_day() -> None:
    backoff = Backoff(0.5, 30.0, lambda: 1.0)

    assert backoff.next_seconds(17.0) == 17.0
    assert backoff.next_seconds(86_400.0) == RETRY_AFTER_SECONDS_MAX
    assert backoff.next_seconds(0.0) == 2.0


def test_a_schedule_of_somebody_else_is_kept_exactly() -> None:
    backoff = Backoff(0.5, 30.0, lambda: 1.0, attempts=9)

    assert backoff.next_seconds(1.0, exactly=True) == 1.0
    assert backoff.next_seconds(86_400.0, exactly=True) == RETRY_AFTER_SECONDS_MAX


@given(st.integers(0, 5000), st.floats(0, 1), st.one_of(st.none(), st.floats(0, 1e300)))
def test_it_is_always_a_time_within_bounds(attempts: int, jitter: float, asked: float | None) -> None:
    backoff = Backoff(0.2, 30.0, lambda: jitter, attempts)

    assert 0.1 <= backoff.next_seconds(asked) <= RETRY_AFTER_SECONDS_MAX


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, None),
        ("", None),
        ("5", 5.0),
        (" 5 ", 5.0),
        ("-5", None),
        ("1.5", None),
        ("inf", None),
        ("9" * 400, RETRY_AFTER_SECONDS_MAX),
        ("\u0665", None),  # a digit, but not one of HTTP's
        ("Sun, 22 Nov 2026 10:00:30 GMT", 30.0),
        ("Sun, 22 Nov 2026 09:00:00 GMT", 0.0),
        ("Mon, 23 Nov 2026 10:00:00 GMT", RETRY_AFTER_SECONDS_MAX),
        ("Sunday, 22-Nov-26 10:00:30 GMT", 30.0),
        ("Sun Nov 22 10:00:30 2026", 30.0),  # asctime, the third form that HTTP knows
        ("Sun, 22 Nov 99999 10:00:30 GMT", None),
        ("Sun, 99 Nov 2026 10:00:30 GMT", None),
        ("Sun, 22 Nov 2026 10:00:30 +9999999999", None),
    ],
)
def test_retry_after_is_seconds_or_a_date_or_nothing(header: str | None, seconds: float | None) -> None:
    assert retry_after_seconds(header, now_unix_seconds=NOW_UNIX_SECONDS) == seconds


@given(st.text())
def test_no_retry_after_raises_or_parks_a_pipeline(header: str) -> None:
    seconds = retry_after_seconds(header, now_unix_seconds=NOW_UNIX_SECONDS)

    assert seconds is None or 0.0 <= seconds <= RETRY_AFTER_SECONDS_MAX
