"""Entries in ascending order, each once. Pure."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from itertools import islice

from oplogbridge.errors import Misconfigured
from oplogbridge.values import Entry, Malformed


def ascending(entries: list[Entry]) -> tuple[list[Entry], bool]:
    """Entries in strictly ascending order without exact copies, and whether the source's order was another.

    Raises:
        Misconfigured: Two different entries have one sequence.
    """
    sequences = [entry.sequence for entry in entries]
    if all(map(operator.lt, sequences, islice(sequences, 1, None))):
        return entries, False
    kept: list[Entry] = []
    for entry in sorted(entries, key=lambda e: e.sequence):
        if kept and kept[-1].sequence == entry.sequence:
            if not _same(kept[-1], entry):
                raise _two_with_one_sequence(entry.sequence)
            continue
        kept.append(entry)
    return kept, True


def malformed_ascending(entries: Sequence[Entry], malformed: Sequence[Malformed]) -> list[Malformed]:
    """Those that are malformed likewise; none may have the sequence of a sound entry."""
    sound = {entry.sequence for entry in entries}
    kept: dict[int, Malformed] = {}
    for one in sorted(malformed, key=lambda m: m.sequence):
        if one.sequence in sound or kept.get(one.sequence, one) != one:
            raise _two_with_one_sequence(one.sequence)
        kept[one.sequence] = one
    return list(kept.values())


def _same(one: Entry, other: Entry) -> bool:
    return _compared(one) == _compared(other)


def _compared(entry: Entry) -> list[object]:
    """All of an entry but its own bytes, where a space may differ; `Raw` compares by its bytes."""
    return [getattr(entry, name) for name in Entry.__struct_fields__ if name != "raw"]


def _two_with_one_sequence(sequence: int) -> Misconfigured:
    return Misconfigured(
        f"the source sent two different entries with sequence {sequence}: nobody but the vendor can say which is "
        "right; ask for the log to be mended"
    )
