"""Whose page is polled next."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from oplogbridge.source.turns import Turns


def test_the_only_one_has_every_turn() -> None:
    turns = Turns()

    assert [turns.next([7]) for _ in range(3)] == [7, 7, 7]


def test_every_second_turn_goes_to_the_live_end_the_others_go_round() -> None:
    turns = Turns()
    wanted = [1, 2, 9, 3]
    taken = []
    for _ in range(8):
        offset = turns.next(wanted)
        taken.append(offset)
        wanted.remove(offset)
        wanted.append(offset)  # it asks again, behind the others

    assert taken == [9, 1, 9, 2, 9, 3, 9, 1]


@given(st.lists(st.sets(st.integers(-1, 50), min_size=1, max_size=6), min_size=1, max_size=60))
def test_the_live_end_is_never_more_than_two_turns_away(rounds: list[set[int]]) -> None:
    turns = Turns()
    live_had = [turns.next(sorted(wanted)) == max(wanted) for wanted in rounds]

    assert all(one or other for one, other in itertools.pairwise(live_had))


@given(st.integers(2, 6), st.integers(0, 5))
def test_nobody_waits_for_ever(count: int, who: int) -> None:
    turns, wanted = Turns(), list(range(count))
    taken = []
    for _ in range(2 * count + 1):
        offset = turns.next(wanted)
        taken.append(offset)
        wanted.remove(offset)
        wanted.append(offset)

    assert who % count in taken
