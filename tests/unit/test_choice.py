"""Choosing the offset: each row of the design's table is a test, and what holds whatever was found."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oplogbridge.choice import Choice, GoOn, ResolveStart, Stop, choose_offset
from oplogbridge.state import Mark, Stored
from oplogbridge.values import OFFSET_MAX, Position

SOURCE, DESTINATION = "https://run.example.com/api/v4/1", "topic:oplog.shop"


def position(offset: int, *, proof: str = "", source: str = SOURCE, destination: str = DESTINATION) -> Position:
    return Position(offset, source, destination, proof)


def stored(
    offset: int, mark: int | None, *, proof: str = "", source: str = SOURCE, destination: str = DESTINATION
) -> Stored:
    return Stored(offset, None if mark is None else Mark(mark, proof), source, destination)


def choose(found: Position | None, kept: Stored | None) -> Choice:
    return choose_offset(found, kept, pipeline="orders", source=SOURCE, destination=DESTINATION)


def test_position_and_mark_agree_so_the_stored_offset_counts_since_entries_after_it_were_filtered() -> None:
    assert choose(position(10), stored(25, 10)) == GoOn(25)


def test_no_position_yet_and_stored_without_a_mark_so_the_stored_offset_counts() -> None:
    assert choose(None, stored(25, None)) == GoOn(25)


def test_the_position_is_ahead_of_the_mark_after_a_crash_between_write_and_save_so_it_counts() -> None:
    assert choose(position(30), stored(25, 10)) == GoOn(30)


def test_the_first_position_appeared_after_a_save_without_a_mark_so_it_counts() -> None:
    assert choose(position(30), stored(25, None)) == GoOn(30)


def test_the_position_is_behind_the_mark_so_it_counts_loudly() -> None:
    choice = choose(position(5), stored(25, 10))

    assert isinstance(choice, GoOn)
    assert choice.offset == 5
    assert "lost acknowledged writes: it stands at 5, it had 10" in (choice.warning or "")


def test_the_position_is_gone_though_there_was_one_so_only_a_person_can_know() -> None:
    choice = choose(None, stored(25, 10))

    assert isinstance(choice, Stop)
    assert "it was 10 when offset 25 was saved" in choice.reason
    assert "oplog-bridge offsets set orders" in choice.reason


def test_a_position_and_nothing_stored_so_it_counts() -> None:
    assert choose(position(30), None) == GoOn(30)


def test_nothing_anywhere_so_start_is_resolved() -> None:
    assert choose(None, None) == ResolveStart()


def test_the_same_offset_with_another_proof_is_not_the_mark_so_the_position_counts() -> None:
    assert choose(position(10, proof="8"), stored(25, 10, proof="7")) == GoOn(10)


@pytest.mark.parametrize("beside", [None, stored(25, 10)])
def test_a_position_of_another_source_stops(beside: Stored | None) -> None:
    choice = choose(position(10, source="https://elsewhere"), beside)

    assert isinstance(choice, Stop)
    assert "the destination holds an offset of source 'https://elsewhere'" in choice.reason
    assert "`id: https://elsewhere`" in choice.reason


@pytest.mark.parametrize("beside", [None, position(10)])
def test_a_stored_offset_of_another_source_stops(beside: Position | None) -> None:
    choice = choose(beside, stored(25, 10, source="https://elsewhere"))

    assert isinstance(choice, Stop)
    assert "the state store holds an offset of source" in choice.reason


def test_a_stored_offset_for_another_destination_stops_and_names_both_ways_out() -> None:
    choice = choose(None, stored(25, None, destination="topic:old"))

    assert isinstance(choice, Stop)
    assert "'topic:old'" in choice.reason
    assert "offsets set orders" in choice.reason
    assert "offsets reset orders" in choice.reason


def test_a_position_for_another_destination_stops() -> None:
    assert isinstance(choose(position(10, destination="topic:old"), None), Stop)


offsets = st.integers(0, 60) | st.integers(0, OFFSET_MAX)
positions = st.none() | st.builds(position, offsets, proof=st.sampled_from(["", "7"]))
kepts = st.none() | st.builds(stored, offsets, st.none() | offsets, proof=st.sampled_from(["", "7"]))


@given(positions, kepts)
def test_the_line_goes_on_below_the_position_only_if_that_was_saved_with_it(
    found: Position | None, kept: Stored | None
) -> None:
    choice = choose(found, kept)

    if isinstance(choice, GoOn) and found is not None and choice.offset < found.offset:
        assert kept is not None
        assert kept.mark == Mark(found.offset, found.proof)
        assert choice.offset == kept.offset


@given(positions, kepts)
def test_an_entry_is_skipped_only_on_the_word_of_a_save_that_saw_this_very_position(
    found: Position | None, kept: Stored | None
) -> None:
    choice = choose(found, kept)

    if isinstance(choice, GoOn) and found is not None and choice.offset > found.offset:
        assert kept is not None
        assert kept.mark == Mark(found.offset, found.proof)


@given(positions, kepts)
def test_start_is_resolved_only_when_nothing_is_known_anywhere(found: Position | None, kept: Stored | None) -> None:
    assert isinstance(choose(found, kept), ResolveStart) == (found is None and kept is None)


@given(positions, kepts)
def test_a_warning_is_given_exactly_when_the_destination_went_back(found: Position | None, kept: Stored | None) -> None:
    choice = choose(found, kept)

    went_back = found is not None and kept is not None and kept.mark is not None and found.offset < kept.mark.offset
    assert (isinstance(choice, GoOn) and choice.warning is not None) == went_back


@given(positions, kepts)
def test_choosing_again_after_the_choice_was_saved_chooses_the_same(
    found: Position | None, kept: Stored | None
) -> None:
    choice = choose(found, kept)

    if isinstance(choice, GoOn):
        saved = stored(choice.offset, found.offset if found else None, proof=found.proof if found else "")
        assert choose(found, saved) == GoOn(choice.offset)
