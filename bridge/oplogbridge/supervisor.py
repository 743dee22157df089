"""Runs sources: queue for the lease, hold it (`tenure`), give it up, queue again.

One process polls a source. Sources do not know of each other; neither do pipelines, but for the reader they share.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog

from oplogbridge import wishes
from oplogbridge.backoff import Backoff
from oplogbridge.clock import Clock
from oplogbridge.errors import BridgeError, Fenced, Misconfigured, Unavailable, first_cause
from oplogbridge.garbage import collect_after_failure
from oplogbridge.lease import Lease
from oplogbridge.source.reader import Reader
from oplogbridge.spec import SourceSpec
from oplogbridge.state import Holder, StateStore, Stored
from oplogbridge.status import PipelineState, PipelineStatus, SourceStatus
from oplogbridge.tenure import Tenure

_log = structlog.get_logger()


class SourceRunner:
    """The life of one source in this process."""

    def __init__(
        self,
        spec: SourceSpec,
        *,
        store: StateStore,
        holder: Holder,
        lease_ttl_seconds: float,
        clock: Clock,
        jitter: Callable[[], float],
        status: SourceStatus,
        pipeline_status: dict[str, PipelineStatus],
        until_caught_up: bool = False,
    ) -> None:
        self._spec = spec
        self._store = store
        self._holder = holder
        self._lease_ttl_seconds = lease_ttl_seconds
        self._clock = clock
        self._jitter = jitter
        self._status = status
        self._pipeline_status = pipeline_status
        self._until_caught_up = until_caught_up
        # Asking four times per TTL: a waiting instance takes over within the TTL after the lease ran out.
        self._queue_seconds = lease_ttl_seconds / 4
        # Two configurations that fence each other at one destination must not do it in a tight loop.
        self._fenced_backoff = Backoff(first_seconds=1.0, max_seconds=60.0, jitter=jitter)
        self._tenure: Tenure | None = None  # while the lease is held
        self._queueing: asyncio.Task[None] | None = None
        self._stopping = False

    async def run(self) -> None:
        """Until stopped, or until every pipeline is finished where that was asked for."""
        while not self._stopping:
            try:
                self._queueing = asyncio.current_task()
                lease = await self._queue_for_lease()
                self._queueing = None
            except asyncio.CancelledError:
                if not self._stopping:
                    raise
                return
            held_at = self._clock.monotonic()
            try:
                await self._hold(lease)
                return
            except Fenced as error:
                if self._clock.monotonic() - held_at > self._fenced_backoff.max_seconds:
                    self._fenced_backoff.reset()
                wait_seconds = self._given_up("waiting", str(error))
            except Exception as error:
                # A defect of ours stops this source and not its neighbours; the traceback goes to the log.
                _log.exception("unexpected error", source=self._spec.name)
                cause = first_cause(error)
                text = f"unexpected {type(cause).__name__}: {cause}; please report it"
                wait_seconds = self._given_up("stopped", text)
                if self._until_caught_up:
                    return
            finally:
                self._status.lease_held = False
                await self._release(lease)
            collect_after_failure()
            await self._wait(wait_seconds)

    def _given_up(self, state: PipelineState, reason: str) -> float:
        """Say so, for every pipeline. How long to stay away from the lease."""
        wait_seconds = self._fenced_backoff.next_seconds()
        for status in self._pipeline_status.values():
            status.state, status.error, status.caught_up = state, reason, False
        _log.warning("lease given up", source=self._spec.name, reason=reason, retry_in_seconds=wait_seconds)
        return wait_seconds

    def stop(self) -> None:
        """Drain: writes in flight are finished and saved, then the lease is released."""
        self._stopping = True
        if self._tenure is not None:
            self._tenure.stop()
        if self._queueing is not None:
            self._queueing.cancel()

    def change(self, spec: SourceSpec, pipeline_status: dict[str, PipelineStatus]) -> None:
        """Run the pipelines of `spec`, which is `made_from` the same source. Those that are made from the same go on
        untouched; others are drained, and begin anew when they have ended; the lease stays."""
        self._spec, self._pipeline_status = spec, pipeline_status
        if self._tenure is not None:
            self._tenure.change(spec, pipeline_status)

    @property
    def is_stopping(self) -> bool:
        return self._stopping

    @property
    def spec(self) -> SourceSpec:
        return self._spec

    async def set_offset(self, pipeline: str, offset: int) -> tuple[Stored | None, Stored]:
        """An operator's `offsets set` for a pipeline that stopped; it tries again at once from there.

        Raises:
            Misconfigured: The pipeline runs, this process does not hold the lease, or the destination refuses.
        """
        if self._tenure is None:
            raise Misconfigured(f"pipeline {pipeline} does not run here now: try again, or stop the instances first")
        return await self._tenure.set_offset(pipeline, offset)

    @property
    def reader(self) -> Reader | None:
        """For `tail`, which asks the holder."""
        return None if self._tenure is None else self._tenure.reader

    @property
    def lease(self) -> Lease | None:
        return None if self._tenure is None else self._tenure.lease

    def look(self) -> None:
        """At what operators want: something changed."""
        if self._tenure is not None:
            self._tenure.watch.poke()

    async def _queue_for_lease(self) -> Lease:
        said: str | None = None
        for status in self._pipeline_status.values():
            status.state = "waiting"
        while True:
            sent_at = self._clock.monotonic()
            try:
                token = await self._store.acquire(self._spec.name, self._holder, self._lease_ttl_seconds)
                if token is not None:
                    lease = Lease(
                        self._spec.name, token, self._lease_ttl_seconds, self._clock, sent_at + self._lease_ttl_seconds
                    )
                    _log.info("lease held", source=self._spec.name, epoch=lease.epoch)
                    return lease
                holder = await self._store.holder(self._spec.name)
                why = f"held by {holder.instance}" if holder is not None else "just released"
                if holder is not None and holder.yields and not self._holder.yields:
                    await wishes.want_lease(self._store, self._spec.name, self._holder.instance)
            except (Unavailable, Misconfigured) as error:
                why = str(error)
            if why != said:
                _log.info("waiting for the lease", source=self._spec.name, why=why)
                said = why
            await self._clock.sleep(self._queue_seconds)

    async def _hold(self, lease: Lease) -> None:
        """Run everything that belongs to the source until it is done, stopped, or the lease is lost (raises Fenced)."""
        client = self._spec.make_client(lease.check)
        tenure = self._tenure = Tenure(
            self._spec,
            client,
            lease=lease,
            store=self._store,
            clock=self._clock,
            jitter=self._jitter,
            status=self._status,
            pipeline_status=self._pipeline_status,
            until_caught_up=self._until_caught_up,
            gives_way=self._holder.yields,
        )
        self._status.lease_held, self._status.epoch = True, lease.epoch
        for pipeline_status in self._pipeline_status.values():
            pipeline_status.progress_at = self._clock.monotonic()  # readiness counts from here
        if self._stopping:
            tenure.stop()
        try:
            await tenure.run()
        finally:
            self._tenure = None
            await client.close()

    async def _release(self, lease: Lease) -> None:
        try:
            await self._store.release(lease.source, lease.token)
        except BridgeError as error:
            _log.info("lease not released, it will expire", source=lease.source, reason=str(error))

    async def _wait(self, seconds: float) -> None:
        if self._stopping:  # it came while the lease was released: nobody would wake us
            return
        self._queueing = asyncio.current_task()
        try:
            await self._clock.sleep(seconds)
        except asyncio.CancelledError:
            if not self._stopping:
                raise
        finally:
            self._queueing = None
