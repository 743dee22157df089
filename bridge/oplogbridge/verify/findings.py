"""What a comparison found: counted all of it, listed the first of each kind. Pure."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Literal

import msgspec

Kind = Literal["missing", "extra", "duplicate", "reordered", "altered", "re-rendered"]
DIFFERENCES: tuple[Kind, ...] = ("missing", "extra", "duplicate", "reordered", "altered")
LISTED_MAX = 10_000  # of each kind, about 3 MB


class Finding(msgspec.Struct, frozen=True):
    sequence: str | None
    id: str | None
    key: str | None
    lane: str | None
    at: str | None  # where in the lane
    detail: str = ""

    def __str__(self) -> str:
        told = [self.id or "no id", *(text for text in (self.key, self.lane, self.at, self.detail) if text)]
        return "  ".join(told)


@dataclass(slots=True)
class Findings:
    compared: int = 0  # events that the source makes in the range
    matched: int = 0
    # No differences, and worth saying:
    trimmed: int = 0  # the destination's retention has taken them
    thinned: int = 0  # its compaction or the like may have
    dead_lettered: int = 0
    beside: int = 0  # snapshots and the like, which have a place of their own beside the log
    late: int = 0  # committed late at the source, and delivered behind what had gone before
    replayed: int = 0  # delivered once more on purpose, and marked as such
    older: int = 0  # than the first entry that the source still shows
    malformed: int = 0  # entries that can be no event
    # Beyond some bound, kinds cannot be told apart any more; that there are differences can.
    coarse: bool = False
    counts: Counter[str] = field(default_factory=Counter)
    listed: dict[str, list[Finding]] = field(default_factory=dict)

    @property
    def differ(self) -> bool:
        return any(self.counts[kind] for kind in DIFFERENCES)

    def add(self, kind: Kind, finding: Finding) -> None:
        self.counts[kind] += 1
        listed = self.listed.setdefault(kind, [])
        if len(listed) < LISTED_MAX:
            listed.append(finding)

    def apart(self) -> dict[str, int]:
        """What makes no difference."""
        return {name.replace("_", "-"): getattr(self, name) for name in _APART}

    def view(self) -> dict[str, Any]:
        """As JSON."""
        kinds: tuple[Kind, ...] = (*DIFFERENCES, "re-rendered")
        return {
            "same": not self.differ,
            "compared": self.compared,
            "matched": self.matched,
            **{
                kind: {"count": self.counts[kind], "listed": msgspec.to_builtins(self.listed.get(kind, []))}
                for kind in kinds
            },
            **self.apart(),
            "coarse": self.coarse,
        }


_APART = ("trimmed", "thinned", "dead_lettered", "beside", "late", "replayed", "older", "malformed")  # names of fields
