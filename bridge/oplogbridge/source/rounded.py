"""Finds out that a source's sequences went through a float, which hides entries between those that it can hold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal

from oplogbridge.errors import Misconfigured
from oplogbridge.values import Entry

# An honest sequence equals its own float once in a thousand: eight in a row is a source that rounds.
ROUNDED_RUN_MAX = 8
_FLOAT_EXACT_MAX = 2**53
_RUNS_MAX = 1024  # honest sources leave one a thousand entries; only the last of them matter


@dataclass(slots=True)
class RoundedRuns:
    """How many consecutive sequences, just below an offset, look as if they had gone through a double. By offset, since
    pipelines read different parts in turns, and a pipeline that stopped at such a run tries its last page again."""

    _runs: dict[int, int] = field(default_factory=dict)

    def refuse(self, entries: Sequence[Entry], from_offset: int) -> None:
        """Raises Misconfigured at the end of a run that no honest source makes."""
        length = self._runs.get(from_offset, 0)
        for entry in entries:
            if not _looks_rounded(entry.sequence):
                length = 0
                continue
            length = max(length + 1, self._runs.get(entry.sequence + 1, 0))
            if length >= ROUNDED_RUN_MAX:
                raise Misconfigured(
                    f"the source's sequences went through a float: {length} in a row up to {entry.sequence} are "
                    "exactly what a double can hold, so entries between them may be hidden; have the source send exact "
                    "numbers, or accept the risk with `rounded_sequences: allow`"
                )
            if len(self._runs) >= _RUNS_MAX:
                self._runs.pop(next(iter(self._runs)))
            self._runs[entry.sequence + 1] = length


def _looks_rounded(sequence: int) -> bool:
    if sequence < _FLOAT_EXACT_MAX:
        return False
    rounded = float(sequence)
    return int(rounded) == sequence or int(Decimal(repr(rounded))) == sequence
