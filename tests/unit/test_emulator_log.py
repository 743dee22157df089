"""The emulator's log: one contract, two implementations."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from oplogbridge.emulator.log import Log, MemoryLog, Stamped
from oplogbridge.emulator.sequences import float_rounded, next_sequence
from oplogbridge.emulator.sqlite_log import SqliteLog
from oplogbridge.values import OFFSET_MAX, SEQUENCE_MAX


@pytest.fixture(params=["memory", "sqlite"])
def log(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Log]:
    make: dict[str, Callable[[], Log]] = {"memory": MemoryLog, "sqlite": lambda: SqliteLog(tmp_path / "log.db")}
    made = make[request.param]()
    yield made
    made.close()


def sequences_of(log: Log) -> list[int]:
    return [sequence for sequence, _ in log.read(0, OFFSET_MAX, 1_000_000)]


def test_an_empty_log_shows_nothing(log: Log) -> None:
    assert (len(log), log.oldest, log.newest) == (0, 0, 0)
    assert log.read(0, OFFSET_MAX, 10) == []
    assert log.tail(0, OFFSET_MAX, 10) == []


def test_rows_are_read_from_start_up_to_but_not_including_end(log: Log) -> None:
    log.append([2, 4, 6, 8], [b"b", b"d", b"f", b"h"])

    assert log.read(4, 8, 10) == [(4, b"d"), (6, b"f")]
    assert log.read(3, OFFSET_MAX, 2) == [(4, b"d"), (6, b"f")]
    assert log.read(9, OFFSET_MAX, 2) == []


def test_the_tail_is_the_last_rows_in_ascending_order(log: Log) -> None:
    log.append([2, 4, 6, 8], [b"b", b"d", b"f", b"h"])

    assert log.tail(0, OFFSET_MAX, 2) == [(6, b"f"), (8, b"h")]
    assert log.tail(0, 8, 2) == [(4, b"d"), (6, b"f")]
    assert len(log.tail(0, OFFSET_MAX, 100)) == 4


def test_the_greatest_sequence_is_kept_exactly(log: Log) -> None:
    log.append([1, SEQUENCE_MAX - 1, SEQUENCE_MAX], [b"a", b"y", b"z"])

    assert log.read(SEQUENCE_MAX, OFFSET_MAX, 10) == [(SEQUENCE_MAX, b"z")]
    assert log.read(OFFSET_MAX, OFFSET_MAX, 10) == []
    assert log.newest == SEQUENCE_MAX


@pytest.mark.parametrize("sequence", [0, -1, SEQUENCE_MAX + 1])
def test_a_sequence_outside_the_vendors_range_is_refused(log: Log, sequence: int) -> None:
    with pytest.raises(ValueError, match="outside"):
        log.append([sequence], [b"x"])

    assert len(log) == 0


def test_a_sequence_that_is_there_is_refused_and_nothing_of_the_append_stays(log: Log) -> None:
    log.append([5], [b"e"])

    with pytest.raises(ValueError, match="already holds"):
        log.append([4, 5], [b"d", b"again"])

    assert log.read(0, OFFSET_MAX, 10) == [(5, b"e")]
    assert len(log) == 1


def test_a_sequence_given_twice_in_one_append_is_refused(log: Log) -> None:
    with pytest.raises(ValueError, match="already holds"):
        log.append([7, 7], [b"one", b"two"])

    assert len(log) == 0


def test_a_late_commit_takes_its_place_and_changes_the_version(log: Log) -> None:
    log.append([2, 6], [b"b", b"f"])
    before = log.version

    log.append([4], [b"d"])

    assert sequences_of(log) == [2, 4, 6]
    assert log.version > before


def test_an_append_at_the_end_leaves_the_version(log: Log) -> None:
    log.append([2], [b"b"])
    before = log.version

    log.append([4, 6], [b"d", b"f"])

    assert log.version == before
    assert log.newest == 6


def test_retention_takes_what_is_below(log: Log) -> None:
    log.append([2, 4, 6], [b"b", b"d", b"f"])
    before = log.version

    log.cut_before(4)

    assert sequences_of(log) == [4, 6]
    assert (log.oldest, log.newest, len(log)) == (4, 6, 2)
    assert log.version > before


def test_a_rewind_takes_what_is_at_and_above(log: Log) -> None:
    log.append([2, 4, 6], [b"b", b"d", b"f"])
    before = log.version

    log.cut_from(4)

    assert sequences_of(log) == [2]
    assert (log.oldest, log.newest, len(log)) == (2, 2, 1)
    assert log.version > before


def test_a_cut_that_takes_nothing_changes_nothing(log: Log) -> None:
    log.append([2], [b"b"])
    before = log.version

    log.cut_before(1)
    log.cut_from(OFFSET_MAX)

    assert (len(log), log.version) == (1, before)


def test_everything_can_be_cut_and_the_log_used_again(log: Log) -> None:
    log.append([2, SEQUENCE_MAX], [b"b", b"z"])

    log.cut_before(OFFSET_MAX)
    log.append([1], [b"a"])

    assert sequences_of(log) == [1]


def test_a_stamped_body_shows_the_second_of_its_sequence(log: Log) -> None:
    log.append([1423124117 << 32 | 9], [Stamped(b"<", b">")])

    assert log.read(0, OFFSET_MAX, 1) == [(1423124117 << 32 | 9, b"<2015-02-05T08:15:17Z>")]


def test_a_sqlite_log_outlives_its_process(tmp_path: Path) -> None:
    first = SqliteLog(tmp_path / "log.db")
    first.append([2, 4], [b"b", b"d"])
    first.close()

    second = SqliteLog(tmp_path / "log.db")

    assert second.read(0, OFFSET_MAX, 10) == [(2, b"b"), (4, b"d")]
    assert (second.newest, len(second)) == (4, 2)
    second.close()


def test_sequences_count_from_one_in_every_second() -> None:
    first = next_sequence(0, 100)
    second = next_sequence(first, 100)

    assert (first, second) == (100 << 32 | 1, 100 << 32 | 2)
    assert next_sequence(second, 101) == 101 << 32 | 1


def test_a_clock_that_was_set_back_goes_on_in_the_old_second() -> None:
    assert next_sequence(100 << 32 | 7, 90) == 100 << 32 | 8


def test_there_is_no_sequence_after_the_greatest() -> None:
    with pytest.raises(ValueError, match="no sequence is left"):
        next_sequence(SEQUENCE_MAX, 100)


@pytest.mark.parametrize(
    ("second", "printed"),
    [(1399108008, 6009123137931706000), (1423124117, 6112271540663878000), (1423124203, 6112271910031065000)],
)
def test_rounded_numbers_are_those_that_the_vendors_documentation_prints(second: int, printed: int) -> None:
    assert float_rounded(second << 32 | 1) == printed
