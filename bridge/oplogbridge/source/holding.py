"""Holding a source for one command: the lease, kept, and a reader, for `tail`, `check --connect` and `offsets`."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

from oplogbridge.clock import Clock
from oplogbridge.errors import BridgeError
from oplogbridge.lease import Lease
from oplogbridge.source.reader import ClosableClient, Reader
from oplogbridge.state import Holder, StateStore
from oplogbridge.status import SourceStatus


@dataclass(frozen=True, slots=True)
class Held:
    lease: Lease
    reader: Reader


@contextlib.asynccontextmanager
async def held_source(
    *,
    name: str,
    make_client: Callable[[Callable[[], None]], ClosableClient],
    poll_interval_seconds: float,
    store: StateStore,
    holder: Holder,
    lease_ttl_seconds: float,
    clock: Clock,
    jitter: Callable[[], float],
) -> AsyncIterator[Held | None]:
    """The source, held and read within its pace, or None while somebody else holds it: then ask them."""
    sent_at = clock.monotonic()
    token = await store.acquire(name, holder, lease_ttl_seconds)
    if token is None:
        yield None
        return
    lease = Lease(name, token, lease_ttl_seconds, clock, sent_at + lease_ttl_seconds)
    client = make_client(lease.check)
    reader = Reader(
        client,
        poll_interval_seconds=poll_interval_seconds,
        lease=lease,
        clock=clock,
        jitter=jitter,
        status=SourceStatus(name),
    )
    beside = [asyncio.create_task(lease.keep(store)), asyncio.create_task(reader.run())]
    try:
        yield Held(lease, reader)
    finally:
        for task in beside:
            task.cancel()
        await asyncio.gather(*beside, return_exceptions=True)
        await client.close()
        with contextlib.suppress(BridgeError):  # it expires by itself; what was done meanwhile is done
            await store.release(name, token)
