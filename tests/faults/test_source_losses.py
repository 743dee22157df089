"""What a source does to its own log: commits late, loses its front, is put back. The bridge itself, at the emulator."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import rig
from auditor import EXACT, audit, read_file

ENTRIES = 60


def run_once(source: rig.EmulatorProcess, folder: Path, **source_options: Any) -> Path:
    """`run --until-caught-up` into a file, which is returned."""
    events = folder / "events.jsonl"
    config = rig.write_config(
        folder / "bridge.yaml",
        source,
        {"copy": {"kind": "file", "path": str(events)}},
        state=f"sqlite:///{folder / 'state.db'}",
        source_options={"id": "shop", **source_options},
    )
    done = rig.run_command("run", "-c", str(config), "--until-caught-up", "--admin", "off", cwd=folder)
    assert done.returncode == 0, done.stderr
    return events


@pytest.mark.parametrize(("settle", "lost"), [("3s", 0), ("0s", 1)])
def test_an_entry_that_is_committed_late_is_lost_without_settle_and_not_with_it(
    tmp_path: Path, settle: str, lost: int
) -> None:
    with rig.emulator() as source:
        source.written(ENTRIES)
        source.fault("late_commit", count=10)  # for ten polls, a fifth of a second, the last but one is not there
        events = run_once(source, tmp_path, settle=settle)
        source.clear_faults()

        found = audit(source.entries(), read_file(events))

    assert (found.lost, found.duplicated, found.reordered) == (lost, 0, 0)


def test_a_log_that_lost_its_front_is_carried_from_its_oldest_entry(tmp_path: Path) -> None:
    with rig.emulator("--entries", str(ENTRIES)) as source:
        source.fault("retention_cut", entries=20)
        events = run_once(source, tmp_path)
        left = source.entries()

    assert len(left) == ENTRIES - 20
    assert audit(left, read_file(events)) == EXACT


def test_after_a_log_was_put_back_what_is_new_arrives_once_and_what_came_stays(tmp_path: Path) -> None:
    with rig.emulator("--entries", str(ENTRIES)) as source:
        before = source.entries()
        run_once(source, tmp_path)
        source.fault("rewind", entries=20)
        run_once(source, tmp_path)  # meets it
        assert len(source.entries()) == ENTRIES - 20
        source.written(10)  # by the clock: above all that was
        events = run_once(source, tmp_path)
        new = source.entries()[-10:]

    assert audit([*before, *new], read_file(events)) == EXACT


def test_numbers_that_went_through_a_double_stop_the_line_before_anything_is_wrong(tmp_path: Path) -> None:
    with rig.emulator() as source:
        source.written(ENTRIES)
        source.fault("sequence_ids_ignored", count=None)
        source.fault("rounded_numbers", count=None)
        config = rig.write_config(
            tmp_path / "bridge.yaml",
            source,
            {"copy": {"kind": "file", "path": str(tmp_path / "events.jsonl")}},
            state=f"sqlite:///{tmp_path / 'state.db'}",
        )
        done = rig.run_command("run", "-c", str(config), "--until-caught-up", "--admin", "off", cwd=tmp_path)

    assert done.returncode == 3, done.stderr
    assert "nobody but the vendor can say which is right" in done.stderr  # one second's entries have one number now
    assert read_file(tmp_path / "events.jsonl") == []
