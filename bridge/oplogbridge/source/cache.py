"""The last pages polled, so that pipelines which want the same entries share one poll. Pure."""

from __future__ import annotations

from collections import deque
from dataclasses import replace

from oplogbridge.values import Page

PAGES_MAX = 16
BYTES_MAX = 32 * 2**20  # decoded pages cost about twice what was received; a bridge should stay under 100 MiB
AGE_SECONDS_MAX = 10.0  # a source may commit lower sequences late: what is older is asked again


class PageCache:
    def __init__(self, *, pages_max: int = PAGES_MAX) -> None:
        self._pages_max = pages_max
        self._pages: deque[tuple[float, Page]] = deque()
        self._bytes = 0

    @property
    def keeps(self) -> bool:
        return self._pages_max > 0

    def add(self, page: Page, now: float) -> None:
        """Keep a page with entries. Pages without any say only what was true at that moment."""
        if not page.entries and not page.malformed:
            return
        self._pages.append((now, page))
        self._bytes += page.bytes_received
        self._expire(now)

    def find(self, offset: int, now: float) -> Page | None:
        """A page that begins at `offset`, cut from a longer one if need be; None when it must be polled."""
        self._expire(now)
        for _, page in reversed(self._pages):
            if page.from_offset <= offset < page.next_offset:
                return page if page.from_offset == offset else _from(page, offset)
        return None

    def _expire(self, now: float) -> None:
        while self._pages and (
            len(self._pages) > self._pages_max
            or (self._bytes > BYTES_MAX and len(self._pages) > 1)
            or now - self._pages[0][0] > AGE_SECONDS_MAX
        ):
            self._bytes -= self._pages.popleft()[1].bytes_received


def _from(page: Page, offset: int) -> Page:
    return replace(
        page,
        from_offset=offset,
        entries=[entry for entry in page.entries if entry.sequence >= offset],
        malformed=[entry for entry in page.malformed if entry.sequence >= offset],
        dropped=0,
        reordered=False,
    )
