"""What a delivery does where its sink takes events of different keys at once: the lanes, and the offset that follows.

The counterpart of `Delivery._write` for `SinkTraits.pending_max` above 1; `lanes.py` has the lanes themselves.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

import structlog

from oplogbridge.clock import Clock
from oplogbridge.closing import given_up
from oplogbridge.errors import Rejected, Unavailable
from oplogbridge.handoff import Part
from oplogbridge.lanes import Lanes
from oplogbridge.lease import Lease
from oplogbridge.sink import Sink, SinkTraits
from oplogbridge.status import PipelineStatus
from oplogbridge.values import Batch, Event

_log = structlog.get_logger()


class Keeper(Protocol):
    """What becomes of an offset, of a refused event and of trouble: the delivery knows."""

    async def save(self, offset: int) -> None: ...

    async def set_aside(self, rejected: Rejected) -> None: ...

    def fail(self, error: Exception) -> None: ...


class ByKey:
    """From `start` to `end`."""

    def __init__(
        self,
        sink: Sink,
        traits: SinkTraits,
        keeper: Keeper,
        *,
        lease: Lease,
        clock: Clock,
        jitter: Callable[[], float],
        status: PipelineStatus,
        delivered: frozenset[int],
    ) -> None:
        """`delivered`: sequences that an earlier delivery brought there, beyond the offset that it could save."""
        self._sink = sink
        self._keeper = keeper
        self._lease = lease
        self._clock = clock
        self._status = status
        self._keeping: asyncio.Task[None] | None = None
        self._lanes = Lanes(
            self._write,
            pending_max=traits.pending_max,
            bytes_max=traits.bytes_max,
            clock=clock,
            jitter=jitter,
            on_waiting=self._show_waiting,
            delivered=delivered,
        )

    def start(self) -> None:
        self._keeping = asyncio.create_task(self._keep_offset())

    async def take(self, part: Part, *, wait: bool) -> Part:
        """Returns when all of it is under way; with `wait`, or where a malformed entry follows, when all of it is
        delivered and saved. The part that comes back is caught up only if that is so."""
        await self._lanes.take(part.events, part.next_offset)
        if wait or part.malformed is not None:
            await self._lanes.empty()
        return part if self._lanes.is_empty else replace(part, caught_up=False)

    def stop(self) -> None:
        self._lanes.stop()

    async def end(self) -> None:
        """Let what is under way end and save it, else its answers are lost and it comes again. Whoever is cancelled,
        as when the lease is lost, gives it up instead."""
        self._lanes.stop()
        task = asyncio.current_task()
        cancelled = task is not None and task.cancelling() > 0
        keeping = [] if self._keeping is None else [self._keeping]
        try:
            if keeping and not cancelled:
                await asyncio.wait(keeping)
        finally:
            await given_up(keeping)
            await self._lanes.close()

    @property
    def is_empty(self) -> bool:
        return self._lanes.is_empty

    @property
    def busy(self) -> bool:
        return self._lanes.busy

    @property
    def delivered(self) -> frozenset[int]:
        return self._lanes.delivered

    async def _write(self, event: Event) -> None:
        self._lease.check()
        started_at = self._clock.monotonic()
        await self._sink.write(Batch([event], event.sequence, event.sequence + 1))
        self._status.observe_write_seconds(self._clock.monotonic() - started_at)

    async def _keep_offset(self) -> None:
        """The offset follows the lowest event that is not delivered. An event that is refused is set aside once it is
        the lowest: then all before it is delivered and saved."""
        lanes, keeper = self._lanes, self._keeper
        try:
            while await lanes.moved():
                offset, events = lanes.acknowledged()
                if offset is not None and offset != lanes.saved_offset:
                    await keeper.save(offset)
                    self._status.delivered(events, sum([len(event.payload) for event in events]))
                    lanes.release(len(events), offset)
                if (rejected := lanes.rejected()) is not None:
                    await keeper.set_aside(rejected)
                    lanes.release_rejected()
                if lanes.error is not None:
                    keeper.fail(lanes.error)
        except Exception as error:
            lanes.fail(error)
            keeper.fail(error)

    def _show_waiting(self, lanes: int, why: Unavailable | None) -> None:
        """A key that waits before it is tried again is trouble that a person should see, though others go on."""
        status = self._status
        if why is not None:
            status.retries += 1
            if status.error != str(why):  # a destination that is down for an hour says so once
                _log.warning("pipeline retries a key", pipeline=status.name, error=str(why))
            status.state, status.error = "retrying", str(why)
        elif lanes == 0:
            status.state, status.error = "running", None
