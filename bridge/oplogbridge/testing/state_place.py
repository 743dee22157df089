"""One state under test, and the sentences that the suite over it is written in (`state_contract`)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Protocol, TypeVar

from oplogbridge.errors import Unavailable
from oplogbridge.state import AuditRecord, Holder, Mark, StateStore, Stored

PATIENCE_SECONDS = 20.0
LONG_SECONDS = 3600.0
CANCELLED_AFTER_TURNS = range(14)  # of the event loop: before the request, during it, after it
T = TypeVar("T")

ALICE = Holder("alice-1f", "host-a", 11, "http://10.0.0.1:8090")
BOB = Holder("bob-2e", "host-b", 22, None)


class StatePlace(Protocol):
    """One state, onto which any number of stores open: as many bridge instances."""

    ttl_seconds: float  # a short lease

    async def store(self) -> StateStore:
        """Another store onto the same state, open. The place closes it after the test."""

    async def let_time_pass(self, seconds: float) -> None:
        """Move the store's clock, where it can be moved."""

    async def wipe(self) -> None:
        """Make the state forget everything, while stores are open."""

    async def claim_format(self, version: int) -> None:
        """Note that this version of the format was written here."""

    async def put_stored(self, pipeline: str, text: str) -> None:
        """Write the text of a `Stored` past the store."""


def stored(offset: int, *, mark: Mark | None = None) -> Stored:
    return Stored(offset, mark, source="https://oplog.example/api/v4/533b", destination="kafka:oplog.shop")


async def acquired(store: StateStore, source: str, holder: Holder, ttl_seconds: float = LONG_SECONDS) -> str:
    token = await store.acquire(source, holder, ttl_seconds)
    assert token is not None
    return token


async def taken_over(place: StatePlace, store: StateStore, source: str, holder: Holder) -> str:
    """Asks again until the lease, one of `place.ttl_seconds`, has run out."""
    await place.let_time_pass(place.ttl_seconds)
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            token = await store.acquire(source, holder, LONG_SECONDS)
            if token is not None:
                return token


async def short_leases_ran_out(place: StatePlace) -> None:
    """Every lease of `place.ttl_seconds` taken before this call: one that is taken now has run out."""
    store = await place.store()
    await acquired(store, "canary", ALICE, place.ttl_seconds)
    await taken_over(place, store, "canary", BOB)


async def mended(ask: Callable[[], Awaitable[T]]) -> T:
    """A store that notices that its state was replaced under it may be unavailable, once."""
    try:
        return await ask()
    except Unavailable:
        return await ask()


async def cancelled_after(turns: int, task: asyncio.Task[T]) -> T | None:
    """Cancel a request after so many turns of the event loop; its result when it was faster."""
    for _ in range(turns):
        await asyncio.sleep(0)
    task.cancel()
    try:
        return await task
    except asyncio.CancelledError:
        return None


def audit_record(number: int) -> AuditRecord:
    return AuditRecord(1_795_000_000.25 + number, "op@host", "offsets set", "p", f"{2**63 - number} → earliest")
