"""From parameters to a page's bytes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from oplogbridge.emulator.faults import FaultQueue
from oplogbridge.emulator.log import MemoryLog
from oplogbridge.emulator.misread import read_wrongly
from oplogbridge.emulator.page import BadParameter, PreparedPages, Query, parse_query, read_answer, render
from oplogbridge.emulator.switches import Switches
from oplogbridge.values import OFFSET_MAX

DEFAULTS = Switches()


@pytest.fixture
def log() -> Iterator[MemoryLog]:
    log = MemoryLog()
    log.append([10, 20, 30, 40, 50], [b'"operation":"update","object":{"n":%d}}' % n for n in range(1, 6)])
    yield log
    log.close()


def page(log: MemoryLog, switches: Switches = DEFAULTS, **parameters: str) -> dict[str, Any]:
    query = parse_query(parameters, switches)
    decoded: dict[str, Any] = msgspec.json.decode(render(read_answer(log, query, switches), query, switches, "hash"))
    return decoded


def bent(log: MemoryLog, faults: FaultQueue, last: Query | None = None, **parameters: str) -> dict[str, Any]:
    query = parse_query(parameters, DEFAULTS)
    answer, query, switches = read_wrongly(log, query, DEFAULTS, faults.all("page"), last)
    decoded: dict[str, Any] = msgspec.json.decode(render(answer, query, switches, "hash"))
    return decoded


def shown(page: dict[str, Any]) -> list[int]:
    return [int(entry.get("sequence_id", entry.get("sequence"))) for entry in page["entries"]]


def test_without_parameters_the_first_400_entries_are_asked_for() -> None:
    assert parse_query({}, DEFAULTS) == Query(0, OFFSET_MAX, 400, tail=False, sequence_ids=False)


def test_an_empty_value_counts_as_absent() -> None:
    absent = parse_query({}, DEFAULTS)

    assert parse_query({"start": "", "end": "", "limit": "", "tail": "", "sequence_ids": ""}, DEFAULTS) == absent


@pytest.mark.parametrize(
    ("parameters", "complaint"),
    [
        ({"start": "-1"}, "'start'"),
        ({"start": "1e3"}, "'start'"),
        ({"start": "1.0"}, "'start'"),
        ({"start": "٣"}, "'start'"),
        ({"start": str(2**63 + 1)}, "'start'"),
        ({"start": "9" * 5000}, "'start'"),
        ({"end": "x"}, "'end'"),
        ({"start": "9", "end": "8"}, "greater than"),
        ({"limit": "0"}, "'limit'"),
        ({"limit": "-5"}, "'limit'"),
        ({"tail": "yes"}, "'tail'"),
        ({"sequence_ids": "1"}, "'sequence_ids'"),
    ],
)
def test_a_wrong_parameter_is_named(parameters: dict[str, str], complaint: str) -> None:
    with pytest.raises(BadParameter, match=complaint):
        parse_query(parameters, DEFAULTS)


def test_the_offset_after_the_greatest_sequence_can_be_asked_for(log: MemoryLog) -> None:
    assert page(log, start=str(2**63))["entries"] == []


def test_a_limit_above_the_maximum_is_clamped_or_refused() -> None:
    assert parse_query({"limit": "5000"}, DEFAULTS).limit == 1000

    with pytest.raises(BadParameter, match="'limit' must not be greater than 1000"):
        parse_query({"limit": "1001"}, Switches(limit_above_max="reject"))


def test_the_documented_mode_shows_numbers_and_no_cursor(log: MemoryLog) -> None:
    assert page(log, start="20", end="40") == {
        "entries": [
            {"sequence": 20, "operation": "update", "object": {"n": 2}},
            {"sequence": 30, "operation": "update", "object": {"n": 3}},
        ],
        "datamodel_hash": "hash",
    }


def test_with_sequence_ids_the_page_shows_text_and_a_cursor(log: MemoryLog) -> None:
    assert page(log, start="11", limit="1", sequence_ids="true") == {
        "entries": [{"sequence_id": "20", "operation": "update", "object": {"n": 2}}],
        "datamodel_hash": "hash",
        "has_more": True,
        "next_request_start": "21",
    }


def test_the_last_page_says_that_nothing_follows_even_when_it_is_full(log: MemoryLog) -> None:
    last = page(log, start="40", limit="2", sequence_ids="true")

    assert (last["has_more"], last["next_request_start"]) == (False, "51")


def test_an_empty_page_goes_on_where_it_was_asked(log: MemoryLog) -> None:
    empty = page(log, start="51", sequence_ids="true")

    assert empty == {"entries": [], "datamodel_hash": "hash", "has_more": False, "next_request_start": "51"}
    without = page(log, Switches(next_start_on_empty="absent"), start="51", sequence_ids="true")
    assert "next_request_start" not in without


def test_the_number_may_stand_beside_the_text(log: MemoryLog) -> None:
    (entry,) = page(log, Switches(sequence_beside_id=True), limit="1", sequence_ids="true")["entries"]

    assert (entry["sequence_id"], entry["sequence"]) == ("10", 10)


def test_the_tail_is_ascending_or_descending(log: MemoryLog) -> None:
    assert shown(page(log, tail="true", limit="2")) == [40, 50]
    assert shown(page(log, Switches(tail_order="descending"), tail="true", limit="2")) == [50, 40]
    assert page(log, tail="true", limit="2", sequence_ids="true")["has_more"] is False


def test_the_tail_has_its_own_default_length(log: MemoryLog) -> None:
    assert shown(page(log, Switches(tail_default=3), tail="true")) == [30, 40, 50]


def test_numbers_can_be_rounded_as_a_double_rounds_them() -> None:
    log = MemoryLog()
    log.append([1423124117 << 32 | 1], [b'"operation":"update"}'])

    assert page(log, Switches(sequence_numbers="rounded"))["entries"][0]["sequence"] == 6112271540663878000
    assert page(log)["entries"][0]["sequence"] == 1423124117 << 32 | 1


def test_a_literal_stands_in_the_page_as_it_was_given(log: MemoryLog) -> None:
    log.append([35], [b'{"sequence":"broken"}'])

    entries = page(log, start="30", end="41", sequence_ids="true")["entries"]
    assert entries[1] == {"sequence": "broken"}


def test_a_short_page_says_that_more_follows(log: MemoryLog) -> None:
    faults = FaultQueue()
    faults.add("short_page", entries=2)

    assert bent(log, faults, sequence_ids="true") == page(log, limit="2", sequence_ids="true")


def test_an_empty_short_page_names_where_the_next_entry_is(log: MemoryLog) -> None:
    faults = FaultQueue()
    faults.add("short_page", entries=0)

    empty = bent(log, faults, start="11", sequence_ids="true")
    assert (empty["entries"], empty["has_more"], empty["next_request_start"]) == ([], True, "20")


def test_a_late_commit_is_hidden_while_higher_entries_are_seen(log: MemoryLog) -> None:
    faults = FaultQueue()
    faults.add("late_commit", count=2)

    assert shown(bent(log, faults)) == [10, 20, 30, 50]
    assert shown(bent(log, faults, start="31")) == [50]
    assert shown(bent(log, faults, start="31")) == [40, 50]


def test_a_hidden_entry_does_not_make_the_page_short(log: MemoryLog) -> None:
    faults = FaultQueue()
    faults.add("late_commit", sequence="20")

    assert shown(bent(log, faults, limit="3")) == [10, 30, 40]


def test_an_entry_can_be_there_twice(log: MemoryLog) -> None:
    faults = FaultQueue()
    faults.add("duplicate_entry")

    assert shown(bent(log, faults)) == [10, 20, 30, 30, 40, 50]


def test_two_different_entries_can_have_one_sequence(log: MemoryLog) -> None:
    faults = FaultQueue()
    faults.add("conflict")

    entries = bent(log, faults)["entries"]
    assert [entries[2]["sequence"], entries[3]["sequence"]] == [30, 30]
    assert entries[2] != entries[3]


def test_the_order_can_be_wrong(log: MemoryLog) -> None:
    faults = FaultQueue()
    faults.add("out_of_order")

    assert shown(bent(log, faults)) == [50, 20, 30, 40, 10]


def test_the_page_before_can_come_again(log: MemoryLog) -> None:
    faults = FaultQueue()
    faults.add("duplicate_page")
    last = parse_query({"limit": "2"}, DEFAULTS)

    assert shown(bent(log, faults, last, start="21")) == [10, 20]


def test_retention_and_rewind_take_entries_for_good(log: MemoryLog) -> None:
    faults = FaultQueue()
    faults.add("retention_cut", sequence=20)
    faults.add("rewind", entries=1)

    assert shown(bent(log, faults)) == [20, 30, 40]
    assert shown(page(log)) == [20, 30, 40]


def test_the_maximum_of_limit_can_be_lowered(log: MemoryLog) -> None:
    faults = FaultQueue()
    faults.add("limit_max", limit=3, count=2)

    with pytest.raises(BadParameter, match="'limit' must not be greater than 3"):
        bent(log, faults, limit="4")
    assert shown(bent(log, faults, limit="3")) == [10, 20, 30]


def test_sequence_ids_can_be_ignored(log: MemoryLog) -> None:
    faults = FaultQueue()
    faults.add("sequence_ids_ignored")

    assert bent(log, faults, sequence_ids="true") == page(log)


def test_prepared_pages_are_dropped_when_what_they_depend_on_changes() -> None:
    pages = PreparedPages()
    assert pages.get("a", valid_for=1) is None
    pages.keep("a", b"page")

    assert pages.get("a", valid_for=1) == b"page"
    assert pages.get("a", valid_for=2) is None
    assert pages.get("a", valid_for=1) is None


def test_prepared_pages_stay_within_their_bytes_and_keep_what_was_used_last() -> None:
    pages = PreparedPages(bytes_max=10)
    pages.get("", valid_for=1)
    pages.keep("a", b"12345")
    pages.keep("b", b"12345")
    pages.get("a", valid_for=1)

    pages.keep("c", b"12345")

    assert [key for key in "abc" if pages.get(key, valid_for=1) is not None] == ["a", "c"]
