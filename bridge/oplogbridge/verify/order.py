"""One lane's events as they come, told apart into those that stand in order and those that do not. Pure.

The fewest that can be out of order are counted: of two events that were swapped, the two, and not all between them.
For that a lane is looked at some way ahead (the longest ascending run of what is buffered stands in order, the others
do not), and how far is the bound on memory.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from itertools import pairwise

from oplogbridge.sink import Delivered

AHEAD = 1_000  # events of a lane that must have come behind one before that one counts as in order, or not
_BUFFERED_MAX = 8_000  # where the source has nothing and the lane much


class LaneOrder:
    """`add` what is read while `wants_more`, then `take`; again until `is_past`."""

    def __init__(self, ahead: int = AHEAD) -> None:
        self._ahead = ahead
        self._waiting: list[Delivered] = []  # in the lane's order
        self._sequences: list[int] = []  # of these
        self._passed = -1  # the last that was taken in order
        self._ascends = True
        self._ended = False

    def end(self) -> None:
        """The lane has no more."""
        self._ended = True

    def is_past(self, below: int) -> bool:
        """Whether everything below that sequence that may come in order has been taken."""
        return self._ended or self._count_from(below) > self._ahead

    def wants_more(self, below: int) -> bool:
        return not self.is_past(below) and len(self._sequences) < self._ahead + _BUFFERED_MAX

    def add(self, page: Sequence[Delivered]) -> list[Delivered]:
        """Those of the page that come too late: they are out of order, whatever follows. All have a sequence."""
        late = []
        last = self._sequences[-1] if self._sequences else self._passed
        for one in page:
            sequence = one.sequence
            assert sequence is not None, "what has none stands in no order"
            if sequence <= self._passed:
                late.append(one)
                continue
            if sequence <= last:
                self._ascends = False
            last = sequence
            self._waiting.append(one)
            self._sequences.append(sequence)
        return late

    def take(self, below: int) -> tuple[list[Delivered], list[Delivered]]:
        """What stands in order below that sequence, and what does not stand in order, wherever it belongs. What has too
        little behind it to tell stays."""
        decided = len(self._waiting) if self._ended else max(0, len(self._waiting) - self._ahead)
        if self._ascends:
            count = min(decided, bisect_left(self._sequences, below))
            taken = self._waiting[:count]
            if taken:
                self._passed = self._sequences[count - 1]
                del self._waiting[:count], self._sequences[:count]
            return taken, []
        kept = longest_ascending(self._sequences)
        astray: list[Delivered] = []
        rest: list[Delivered] = []
        taken = []
        for index, one in enumerate(self._waiting[:decided]):
            into = astray if index not in kept else taken if self._sequences[index] < below else rest
            into.append(one)
        if taken:
            self._passed = taken[-1].sequence or 0
        self._waiting = [*rest, *self._waiting[decided:]]
        self._sequences = [one.sequence or 0 for one in self._waiting]
        self._ascends = all(earlier < later for earlier, later in pairwise(self._sequences))
        return taken, astray

    def _count_from(self, below: int) -> int:
        if self._ascends:
            return len(self._sequences) - bisect_left(self._sequences, below)
        return sum([sequence >= below for sequence in self._sequences])


def longest_ascending(sequences: Sequence[int]) -> set[int]:
    """The indexes of a longest strictly ascending subsequence (patience sorting)."""
    ends: list[int] = []  # the smallest last value of a run of each length
    at: list[int] = []  # its index
    before: list[int] = []
    for index, sequence in enumerate(sequences):
        length = bisect_left(ends, sequence)
        before.append(at[length - 1] if length else -1)
        if length == len(ends):
            ends.append(sequence)
            at.append(index)
        else:
            ends[length], at[length] = sequence, index
    kept = set()
    index = at[-1] if at else -1
    while index >= 0:
        kept.add(index)
        index = before[index]
    return kept
