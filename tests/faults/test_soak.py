"""`make soak` in short: one bridge lives through faults, and nothing of them is left behind."""

from __future__ import annotations

import pytest

import rig
from chaos import soak
from needed import needed

ENTRIES = 400_000
GROWTH_MIB_MAX = 40.0  # before the collector was called where lines break, it was 10 for each lost lease


@pytest.mark.parametrize("kind", ["file", "redis"])
def test_what_faults_leave_behind_is_nothing(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(soak, "QUIET_SECONDS", (0.5, 1.5))
    monkeypatch.setattr(soak, "CALM_ENTRIES", 100_000)
    seed = rig.seeded("faults").randrange(2**31)

    with needed():
        result = soak.soak(kind, ENTRIES, seed)

    print(result.row())
    assert result.holds, result.row()
    assert result.faults > 0
    assert result.calm is not None
    assert result.samples[-1].mib < result.calm.mib + GROWTH_MIB_MAX
