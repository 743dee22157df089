"""The source's own record of what it was asked and when. Tests hold the one-poll-a-second rule against it."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator
from itertools import pairwise

import msgspec

REQUESTS_KEPT_MAX = 100_000


class Request(msgspec.Struct):
    """`monotonic` and `unix` are the moment of arrival; `status` is 0 until answered, and after a reset."""

    number: int  # counts from 1
    monotonic: float
    unix: float
    method: str
    path: str
    query: str  # as received
    start: str | None
    limit: str | None
    status: int = 0
    entries: int = 0  # shown in the answer
    faults: list[str] = msgspec.field(default_factory=list)


class RequestLog:
    """Bounded: the oldest records go first. `total` counts all that ever arrived."""

    def __init__(self, kept_max: int = REQUESTS_KEPT_MAX) -> None:
        self._kept: deque[Request] = deque(maxlen=kept_max)
        self._changed = asyncio.Event()
        self.total = 0

    def record(self, request: Request) -> None:
        self._kept.append(request)
        self.total = request.number
        self._changed.set()
        self._changed = asyncio.Event()

    def __iter__(self) -> Iterator[Request]:
        return iter(list(self._kept))

    def __len__(self) -> int:
        return len(self._kept)

    def __getitem__(self, index: int) -> Request:
        return self._kept[index]

    def clear(self) -> None:
        """Forget what was kept; `total` goes on."""
        self._kept.clear()

    async def arrived(self, total: int) -> None:
        """Wait until `total` requests have arrived since the emulator was made. A signal, so that no test sleeps."""
        while self.total < total:
            await self._changed.wait()

    def shortest_gap_seconds(self) -> float | None:
        """The least time between two consecutive arrivals; None for fewer than two."""
        gaps = [later.monotonic - earlier.monotonic for earlier, later in pairwise(self._kept)]
        return min(gaps, default=None)
