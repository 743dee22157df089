"""What the emulated app writes, and the history that is in the log before the first request."""

from __future__ import annotations

from collections import Counter
from typing import Any

import msgspec
import pytest

from oplogbridge.emulator.history import BEGINS_UNIX_SECONDS, write_history
from oplogbridge.emulator.log import MemoryLog, Row
from oplogbridge.emulator.sequences import iso_second, second_of
from oplogbridge.emulator.workload import AppWorkload, DeleteObject, FixedWorkload, Workload
from oplogbridge.values import OFFSET_MAX


def history(entries: int, *, seed: int = 0, workload: Workload | None = None) -> list[Row]:
    log = MemoryLog()
    write_history(log, workload or AppWorkload(seed), entries, seed=seed)
    return log.read(0, OFFSET_MAX, entries + 1)


def decoded(rows: list[Row]) -> list[dict[str, Any]]:
    return [msgspec.json.decode(b"{" + body) for _, body in rows]


def test_the_same_seed_writes_the_same_history() -> None:
    assert history(3_000, seed=7) == history(3_000, seed=7)
    assert history(3_000, seed=7) != history(3_000, seed=8)


def test_exactly_as_many_entries_are_written_as_were_asked_for() -> None:
    assert [len(history(entries)) for entries in (1, 999, 2_345)] == [1, 999, 2_345]


def test_history_begins_in_a_fixed_second_with_the_counter_at_one() -> None:
    sequence, _ = history(1)[0]

    assert sequence == BEGINS_UNIX_SECONDS << 32 | 1


def test_updated_at_is_the_second_of_the_sequence() -> None:
    rows = history(2_000)

    shown = [entry["object"]["updated_at"].encode() for entry in decoded(rows)]
    assert shown == [iso_second(second_of(sequence)) for sequence, _ in rows]


def test_updates_and_deletes_mean_objects_that_exist() -> None:
    live: set[str] = set()
    operations: Counter[str] = Counter()

    for entry in decoded(history(20_000)):
        id_, operation = entry["object"]["id"], entry["operation"]
        assert (id_ in live) == (operation != "create")
        if operation == "delete":
            live.remove(id_)
        else:
            live.add(id_)
        operations[operation] += 1

    assert set(operations) == {"create", "update", "delete"}
    assert min(operations.values()) > 1_000


def test_some_second_holds_more_entries_than_a_page_can() -> None:
    per_second = Counter(second_of(sequence) for sequence, _ in history(10_000))

    assert max(per_second.values()) > 1_000
    assert len(per_second) > 1_000


def test_the_entries_are_of_several_models_nested_large_and_not_ascii() -> None:
    rows = history(5_000)

    assert len({entry["object"]["type"] for entry in decoded(rows)}) == 5
    assert max(len(body) for _, body in rows) > 10_000
    assert any("検査".encode() in body for _, body in rows)
    assert any(b'"levels":[[' in body for _, body in rows)
    assert any(b"9223372036854775807" in body for _, body in rows)


def test_an_object_is_put_back_under_its_old_id_now_and_then() -> None:
    created = Counter(e["object"]["id"] for e in decoded(history(20_000)) if e["operation"] == "create")

    assert max(created.values()) > 1


@pytest.mark.parametrize(
    ("shown", "fields"),
    [("stamp", {"id", "type", "updated_at"}), ("id", {"id", "type"})],
)
def test_what_a_delete_shows_is_a_switch(shown: DeleteObject, fields: set[str]) -> None:
    entries = decoded(history(2_000, workload=AppWorkload(delete_object=shown)))

    assert {frozenset(e["object"]) for e in entries if e["operation"] == "delete"} == {frozenset(fields)}


def test_a_delete_may_show_the_last_state() -> None:
    last: dict[str, dict[str, Any]] = {}
    deletes = 0

    for entry in decoded(history(2_000, workload=AppWorkload(delete_object="last_state"))):
        object_ = entry["object"]
        if entry["operation"] == "delete":
            assert object_ == last[object_["id"]] | {"updated_at": object_["updated_at"]}
            deletes += 1
        last[object_["id"]] = object_

    assert deletes > 50


def test_fixed_entries_all_have_the_length_asked_for() -> None:
    rows = history(2_500, workload=FixedWorkload(500, objects=1_000))

    assert {len(b'{"sequence_id":"%d",%b' % row) for row in rows} == {500}


def test_fixed_entries_create_every_object_once_and_then_update_it() -> None:
    entries = decoded(history(2_500, workload=FixedWorkload(500, objects=1_000)))

    assert [entry["operation"] for entry in entries] == ["create"] * 1_000 + ["update"] * 1_500
    assert len({entry["object"]["id"] for entry in entries}) == 1_000


def test_fixed_entries_that_are_too_short_to_hold_their_fields_are_refused() -> None:
    with pytest.raises(ValueError, match="at least"):
        FixedWorkload(100)
