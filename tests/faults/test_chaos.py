"""`make chaos` in short: its faults, a few strikes each; 0 lost, 0 twice, 0 out of order, no early poll."""

from __future__ import annotations

import pytest

import rig
from chaos.catalogue import FAULTS, Fault
from chaos.cells import run
from needed import needed

CELLS = [
    pytest.param(fault, kind, id=f"{fault.name}-{kind}")
    for fault in FAULTS
    if fault.quick_times
    for kind in fault.sinks
]


@pytest.mark.parametrize(("fault", "kind"), CELLS)
def test_nothing_is_lost_doubled_or_reordered(fault: Fault, kind: str) -> None:
    seed = rig.seeded("moments").randrange(2**31)

    with needed():
        result = run(fault, kind, fault.quick_times, seed)

    print(result)
    assert result.holds, str(result)
