"""Every format is what it was, byte for byte. `make golden` writes the files anew (tests/golden_files.py)."""

from __future__ import annotations

import pytest

from golden_files import FOLDER, files

MADE = files()


@pytest.mark.parametrize("name", MADE)
def test_a_format_is_what_its_file_says(name: str) -> None:
    assert MADE[name] == (FOLDER / name).read_bytes(), f"{name} has changed; if that is meant: make golden"


def test_every_file_is_made_by_somebody() -> None:
    assert {path.name for path in FOLDER.iterdir()} - {"page-v4.json", "page-v1.json"} == set(MADE)
