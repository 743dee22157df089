"""How long to wait before the next try."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from oplogbridge.backoff import RETRY_AFTER_SECONDS_MAX, Backoff


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


@given(st.integers(0, 5000), st.floats(0, 1), st.one_of(st.none(), st.floats(0, 1e300)))
def test_it_is_always_a_time_within_bounds(attempts: int, jitter: float, asked: float | None) -> None:
    backoff = Backoff(0.2, 30.0, lambda: jitter, attempts)

    assert 0.1 <= backoff.next_seconds(asked) <= RETRY_AFTER_SECONDS_MAX
