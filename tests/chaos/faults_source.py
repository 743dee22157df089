"""What the source does wrong: every kind of fault that the emulator has and that passes by itself."""

from __future__ import annotations

from typing import Any

from chaos.line import Line

PASSING: tuple[dict[str, Any], ...] = (
    {"kind": "slow", "seconds": 0.5},
    {"kind": "slow", "seconds": 4},  # longer than the time-out
    {"kind": "429", "retry_after_seconds": 1},
    {"kind": "429"},
    {"kind": "500", "count": 2},
    {"kind": "502"},
    {"kind": "503"},
    {"kind": "504"},
    {"kind": "html"},
    {"kind": "body", "body": "{"},
    {"kind": "body", "body": '{"entries": 7}'},
    {"kind": "body", "body": "[1, 2]"},
    {"kind": "body", "body": ""},
    {"kind": "reset"},
    {"kind": "duplicate_entry"},
    {"kind": "duplicate_page"},
    {"kind": "out_of_order"},
    {"kind": "short_page"},
    {"kind": "short_page", "entries": 0},
    {"kind": "cut"},
    {"kind": "truncated"},
    {"kind": "stall", "seconds": 4},
)


def every_kind(line: Line) -> None:
    """One after the other, in an order of chance, each while there is work."""
    line.start()
    for _ in line.struck():
        kinds = list(PASSING)
        line.moments.shuffle(kinds)
        for fault in kinds:
            line.source.fault(**fault)
            with line.recovery():
                line.work(200)
                line.until(lambda: line.source.faults_left() == 0, f"{fault} struck")
    line.note(f"{len(PASSING)} kinds")
