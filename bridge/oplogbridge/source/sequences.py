"""What counts as a sequence, in text or as a number: one, or those of a page at once. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from oplogbridge.values import SEQUENCE_MAX


def sequence_of(value: object) -> int | None:
    """The sequence as an exact int, or None when it is not one in 0 < n < 2^63 in plain decimal."""
    if type(value) is str:
        if not (value.isdecimal() and value.isascii() and len(value) <= 19) or value[0] == "0":
            return None
        number = int(value)
    elif type(value) is int:
        number = value
    else:
        return None
    return number if 0 < number <= SEQUENCE_MAX else None


def sequences_of(ids: Sequence[object]) -> list[int] | None:
    """All of them at once when each is the text of a sequence, as `sequence_of` has it, in a third of its time."""
    try:
        sequences = list(map(int, ids))  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return None
    if list(map(str, sequences)) != ids or (sequences and not 0 < min(sequences) <= max(sequences) <= SEQUENCE_MAX):
        return None  # also numbers, " 7", "+7", "07", "1_0" and digits of other scripts, all of which int takes
    return sequences
