"""Sequences as the vendor makes them: `unix_seconds << 32 | counter`, the counter starting at 1 in every second."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from functools import lru_cache

from oplogbridge.values import SEQUENCE_MAX

COUNTER_BITS = 32


def next_sequence(newest: int, unix_second: int) -> int:
    """The sequence after `newest` for a write in `unix_second`. A clock that was set back goes on in the old second."""
    sequence = max(newest + 1, unix_second << COUNTER_BITS | 1)
    if sequence > SEQUENCE_MAX:
        raise ValueError(f"no sequence is left after {newest}: sequences end at 2^63 - 1")
    return sequence


def second_of(sequence: int) -> int:
    return sequence >> COUNTER_BITS


@lru_cache(maxsize=4096)  # a page holds few seconds and many entries
def iso_second(unix_second: int) -> bytes:
    """`2015-02-05T08:15:17Z`: the vendor writes whole seconds."""
    return datetime.fromtimestamp(unix_second, UTC).strftime("%Y-%m-%dT%H:%M:%SZ").encode()


def float_rounded(sequence: int) -> int:
    """What JavaScript prints for this number: its double's shortest decimal, as in the vendor's own examples."""
    return int(Decimal(repr(float(sequence))))
