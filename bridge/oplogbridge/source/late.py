"""Which entries were seen near the live end, so that a second look finds those that were committed late. Pure.

While the bridge is behind only the last page is remembered: what is older has settled, and millions of entries pass.
"""

from __future__ import annotations

from collections import deque

from oplogbridge.values import Page

WINDOW_SECONDS = 120.0  # how long after a higher sequence a lower one is looked for: some looks
ENTRIES_MAX = 1000  # as many as a second look shows, in one poll


class Recent:
    def __init__(self) -> None:
        self._seen: deque[tuple[int, float]] = deque()  # sequences, ascending but for late ones, and when
        self._known: set[int] = set()
        self._end = 0  # up to which all was seen that was there
        self._floor = -1  # the highest sequence that was forgotten
        self._looked_to = 0  # of a window that one page does not show, the part up to here was looked at

    def note(self, page: Page, now: float) -> None:
        """A page of the live pipelines, as they got it."""
        if page.next_offset < self._end:
            return  # of a pipeline that is behind the others
        behind = page.more and not page.held_back
        if behind or page.from_offset > self._end:  # something was not seen between: the window begins anew
            self._seen.clear()
            self._known.clear()
        self._end = max(self._end, page.next_offset)
        for sequence in _sequences(page):
            if sequence not in self._known:
                self._seen.append((sequence, now))
                self._known.add(sequence)
        if behind:
            return
        while self._seen and (len(self._seen) > ENTRIES_MAX or now - self._seen[0][1] > WINDOW_SECONDS):
            forgotten = self._seen.popleft()[0]
            self._known.discard(forgotten)
            self._floor = max(self._floor, forgotten)

    @property
    def begin(self) -> int | None:
        """From where to look once more; None when there is nothing to look for."""
        known = self._above_floor()
        return max(min(known), self._looked_to) if len(known) > 1 else None

    def late(self, page: Page) -> list[int]:
        """Of a second look from `begin` on: the sequences below the highest seen that were not there the first time."""
        known = self._above_floor()
        if not known:
            return []
        first, last = min(known), max(known)
        self._looked_to = page.next_offset if page.next_offset <= last else 0
        found = sorted(one for one in _sequences(page) if first < one < last and one not in self._known)
        self._known = {*known, *found}
        return found

    def _above_floor(self) -> list[int]:
        """What lies below something that was forgotten says nothing any more: that would count as late itself."""
        return [one for one in self._known if one > self._floor]


def _sequences(page: Page) -> list[int]:
    return [one.sequence for one in page.entries] + [one.sequence for one in page.malformed]
