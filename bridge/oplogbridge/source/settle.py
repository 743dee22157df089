"""Holding back entries that are too young, for sources that commit lower sequences late."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import replace

from oplogbridge.source.start import unix_seconds
from oplogbridge.values import Page

MARKS_MAX = 1000  # in one `settle`: a moment is remembered to a thousandth of it


class Settling:
    """Cuts a page before its first entry younger than `settle_seconds`; what is cut off is asked for again.

    An entry is old enough by its `updated_at`, or once this reader has known it for so long. The second serves what has
    no readable time (malformed entries, a data model with a field of that name) and a clock that runs behind. A
    clock that runs ahead ends the wait too soon.
    """

    def __init__(self, settle_seconds: float) -> None:
        self._seconds = settle_seconds
        self._seen: list[tuple[int, float]] = []  # up to which sequence, and when on the reader's clock; both ascend

    def hold_back(self, page: Page, *, now: float, unix_now: float) -> Page:
        """`now` is the reader's monotonic clock."""
        if self._seconds <= 0:
            return page
        self._note(page, now)
        young = [one.sequence for one in page.malformed if self._is_new(one.sequence, now)][:1]
        for entry in page.entries:
            if not self._is_old(entry.updated_at, unix_now) and self._is_new(entry.sequence, now):
                young.append(entry.sequence)
                break
        if not young:
            return page
        cut = min(young)
        entries = page.entries[: bisect_left(page.entries, cut, key=lambda one: one.sequence)]
        malformed = page.malformed[: bisect_left(page.malformed, cut, key=lambda one: one.sequence)]
        last = max([one.sequence for one in (*entries[-1:], *malformed[-1:])], default=page.from_offset - 1)
        # Not `cut`: a lower one that is committed late may still come between.
        return replace(page, entries=entries, malformed=malformed, next_offset=last + 1, more=True, held_back=True)

    def _note(self, page: Page, now: float) -> None:
        seen = self._seen
        highest = max([one.sequence for one in (*page.entries[-1:], *page.malformed[-1:])], default=-1)
        if not seen or (highest > seen[-1][0] and now - seen[-1][1] >= self._seconds / MARKS_MAX):
            seen.append((highest, now))
        while len(seen) > 1 and seen[1][1] <= now - self._seconds:
            del seen[0]

    def _is_new(self, sequence: int, now: float) -> bool:
        index = bisect_left(self._seen, sequence, key=lambda mark: mark[0])
        return index == len(self._seen) or self._seen[index][1] > now - self._seconds

    def _is_old(self, updated_at: str | None, unix_now: float) -> bool:
        written = unix_seconds(updated_at)
        if written is None:
            return False
        # Whole seconds, which is what the API documents, are cut off, not rounded: it may have been the second's end.
        return written + (1.0 if written.is_integer() else 0.0) <= unix_now - self._seconds
