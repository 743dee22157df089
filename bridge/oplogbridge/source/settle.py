"""Holding back entries that are too young, for sources that commit lower sequences late."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import replace

from oplogbridge.source.start import unix_seconds
from oplogbridge.values import Entry, Malformed, Page

MARKS_MAX = 1000  # in one `settle`: a moment is remembered to a thousandth of it


class Settling:
    """Cuts a page before its first entry younger than `settle_seconds`; what is cut off is asked for again.

    What the source promises is that a lower sequence comes no later than so long after a higher one was written. An
    entry is old enough by its `updated_at`, or once this reader has known it for so long; and with it is all that is
    lower. The second serves what has no readable time (malformed entries, deletes, a data model with a field of that
    name) and a clock that runs behind; one that runs ahead ends the wait too soon. An age counts up to when the page
    was asked for: what was committed while its answer was on the way is not on it.
    """

    def __init__(self, settle_seconds: float) -> None:
        self._seconds = settle_seconds
        self._seen: list[tuple[int, float]] = []  # up to which sequence, and when on the reader's clock; both ascend

    def hold_back(self, page: Page, *, asked_at: float, came_at: float, unix_asked: float) -> Page:
        """Both moments by the reader's monotonic clock; the first also by its wall clock."""
        if self._seconds <= 0:
            return page
        self._note(page, asked_at, came_at)
        # From the end: history, most of which is old, is settled by its last entry, whatever the others show.
        settled = next((one.sequence for one in reversed(page.entries) if self._is_old(one.updated_at, unix_asked)), -1)
        young = [
            next(
                (one.sequence for one in shown if one.sequence > settled and self._is_new(one.sequence, asked_at)), None
            )
            for shown in (page.entries, page.malformed)
        ]
        cut = min((sequence for sequence in young if sequence is not None), default=None)
        if cut is None:
            last = _highest(page.entries, page.malformed, page.from_offset - 1)
            if page.next_offset <= last + 1 or not self._is_new(page.next_offset - 1, asked_at):
                return page
            # The source would go on beyond what it shows: a lower one that is committed late may still come there.
            return replace(page, next_offset=last + 1, more=True, held_back=True)
        entries = page.entries[: bisect_left(page.entries, cut, key=lambda one: one.sequence)]
        malformed = page.malformed[: bisect_left(page.malformed, cut, key=lambda one: one.sequence)]
        last = _highest(entries, malformed, page.from_offset - 1)
        # Not `cut`: a lower one that is committed late may still come between.
        return replace(page, entries=entries, malformed=malformed, next_offset=last + 1, more=True, held_back=True)

    def _note(self, page: Page, asked_at: float, came_at: float) -> None:
        seen = self._seen
        highest = _highest(page.entries, page.malformed, -1)
        if page.next_offset > max(highest + 1, page.from_offset):
            highest = page.next_offset - 1
        if not seen or (highest > seen[-1][0] and came_at - seen[-1][1] >= self._seconds / MARKS_MAX):
            seen.append((highest, came_at))
        while len(seen) > 1 and seen[1][1] <= asked_at - self._seconds:
            del seen[0]

    def _is_new(self, sequence: int, asked_at: float) -> bool:
        index = bisect_left(self._seen, sequence, key=lambda mark: mark[0])
        return index == len(self._seen) or self._seen[index][1] > asked_at - self._seconds

    def _is_old(self, updated_at: str | None, unix_asked: float) -> bool:
        written = unix_seconds(updated_at)
        if written is None:
            return False
        # Whole seconds, which is what the API documents, are cut off, not rounded: it may have been the second's end.
        return written + (1.0 if written.is_integer() else 0.0) <= unix_asked - self._seconds


def _highest(entries: Sequence[Entry], malformed: Sequence[Malformed], default: int) -> int:
    return max(entries[-1].sequence if entries else default, malformed[-1].sequence if malformed else default)
