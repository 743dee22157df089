"""The right of this process to poll a source and to run its pipelines, and when that right counts as lost."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from oplogbridge.clock import Clock
from oplogbridge.errors import Fenced, Misconfigured, Unavailable
from oplogbridge.state import StateStore

RENEWALS_PER_TTL = 4  # three renewals may fail before the lease is lost
RENEW_RETRY_SECONDS = 0.25


@dataclass(slots=True)
class Lease:
    """A lease of one source. It counts as lost at the *send* time of its last good renewal plus the TTL.

    The answer's time would be too late: the store counts from when it saw the request. The clock includes suspension,
    so a process that was stopped finds its lease lost before its next poll or write.
    """

    source: str
    token: str
    ttl_seconds: float
    clock: Clock
    valid_until: float  # on `clock`

    @property
    def epoch(self) -> int:
        return int(self.token.partition("-")[0])

    def check(self) -> None:
        """Called in the instant before each poll and each write. Raises Fenced when the lease is lost."""
        if self.clock.monotonic() >= self.valid_until:
            raise Fenced(f"the lease of source {self.source} ran out: queueing for it again")

    async def keep(self, store: StateStore) -> None:
        """Renew until the lease is lost; then raise Fenced. Runs beside the pipelines until it is cancelled."""
        while True:
            await self.clock.sleep(self.ttl_seconds / RENEWALS_PER_TTL)
            await self._renew(store)

    async def _renew(self, store: StateStore) -> None:
        while True:
            self.check()
            sent_at = self.clock.monotonic()
            try:
                async with asyncio.timeout(self.valid_until - sent_at):  # the store's own deadline may be longer
                    await store.renew(self.source, self.token, self.ttl_seconds)
            except (Unavailable, Misconfigured):  # a rotated password heals, or the lease runs out
                await self.clock.sleep(RENEW_RETRY_SECONDS)
            except TimeoutError:
                continue
            except Fenced:
                self.valid_until = float("-inf")  # whoever checks next learns it, not only this task
                raise
            else:
                self.valid_until = sent_at + self.ttl_seconds
                return
