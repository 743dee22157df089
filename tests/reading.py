"""A reader over a scripted source, with the time in the test's hand."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from oplogbridge.lease import Lease
from oplogbridge.source.reader import Reader
from oplogbridge.status import SourceStatus
from oplogbridge.testing.clock import ManualClock
from scripted import ScriptedSource


class Setting:
    """A reader over a scripted source."""

    def __init__(self, *, interval: float = 1.0, settle: float = 0.0, valid_for: float = 1e9) -> None:
        self.clock = ManualClock()
        self.source = ScriptedSource(self.clock)
        self.status = SourceStatus("shop")
        self.began_at = self.clock.monotonic()
        self.lease = Lease("shop", "1-a", 10.0, self.clock, self.began_at + valid_for)
        self.reader = Reader(
            self.source.client(),
            poll_interval_seconds=interval,
            settle_seconds=settle,
            lease=self.lease,
            clock=self.clock,
            jitter=lambda: 1.0,
            status=self.status,
        )
        self.tasks: list[asyncio.Task[object]] = []
        self.running: asyncio.Task[None]

    async def follow(self, offset: int) -> None:
        """A pipeline without a sink: it asks and asks."""
        while True:
            offset = (await self.reader.page(offset)).next_offset

    def start(self, *offsets: int) -> None:
        self.tasks += [asyncio.create_task(self.follow(offset)) for offset in offsets]


@asynccontextmanager
async def setting(**options: float) -> AsyncIterator[Setting]:
    made = Setting(**options)
    running = made.running = asyncio.create_task(made.reader.run())
    try:
        yield made
    finally:
        for task in (running, *made.tasks):
            task.cancel()
        await asyncio.gather(running, *made.tasks, return_exceptions=True)
