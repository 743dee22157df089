"""Runs sources: queue for the lease, hold it, run the reader and every pipeline of the source, give it up, queue again.

One process polls a source. Sources do not know of each other; neither do pipelines, but for the reader they share.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import structlog

from oplogbridge.backoff import Backoff
from oplogbridge.clock import Clock
from oplogbridge.errors import BridgeError, Fenced, Misconfigured, Unavailable, first_cause
from oplogbridge.garbage import collect_after_failure
from oplogbridge.lease import Lease
from oplogbridge.pipeline import Pipeline
from oplogbridge.source.reader import ClosableClient, Reader
from oplogbridge.spec import PipelineSpec
from oplogbridge.state import Holder, StateStore, Stored
from oplogbridge.status import PipelineState, PipelineStatus, SourceStatus

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class SourceSpec:
    """What the configuration makes of one source and the pipelines that read it."""

    name: str
    source_id: str
    poll_interval_seconds: float
    settle_seconds: float
    make_client: Callable[[Callable[[], None]], ClosableClient]  # of the check before each request
    pipelines: Sequence[PipelineSpec]
    made_from: object = None  # of the source alone; as `PipelineSpec.made_from`


@dataclass(slots=True)
class _Running:
    spec: PipelineSpec
    pipeline: Pipeline
    task: asyncio.Task[None]
    is_ending: bool = False

    def end(self) -> None:
        """Drain it, once: a second time would cut its closing short."""
        if not self.is_ending:
            self.is_ending = True
            self.pipeline.stop()

    def is_over(self, wanted: PipelineSpec) -> bool:
        """It has ended because it was told to, or because it was something else."""
        return self.task.done() and (self.is_ending or self.spec.made_from != wanted.made_from)


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
        self._running: dict[str, _Running] = {}  # under the present lease, by pipeline; also those that have ended
        self._changed = asyncio.Event()
        self._queueing: asyncio.Task[None] | None = None
        self._stopping = False
        self.reader: Reader | None = None  # for `tail`, which asks the holder
        self.lease: Lease | None = None

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
                self.lease = self.reader = None
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
        for running in self._running.values():
            running.end()
        if self._queueing is not None:
            self._queueing.cancel()

    def change(self, spec: SourceSpec, pipeline_status: dict[str, PipelineStatus]) -> None:
        """Run the pipelines of `spec`, which is `made_from` the same source. Those that are made from the same go on
        untouched; others are drained, and begin anew when they have ended; the lease stays."""
        self._spec, self._pipeline_status = spec, pipeline_status
        self._changed.set()

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
        running = self._running.get(pipeline)
        if running is None:
            raise Misconfigured(f"pipeline {pipeline} does not run here now: try again, or stop the instances first")
        return await running.pipeline.move(offset)

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
            except (Unavailable, Misconfigured) as error:
                why = str(error)
            if why != said:
                _log.info("waiting for the lease", source=self._spec.name, why=why)
                said = why
            await self._clock.sleep(self._queue_seconds)

    async def _hold(self, lease: Lease) -> None:
        """Run everything that belongs to the source until it is done, stopped, or the lease is lost (raises Fenced)."""
        spec, client = self._spec, self._spec.make_client(lease.check)
        reader = Reader(
            client,
            poll_interval_seconds=spec.poll_interval_seconds,
            settle_seconds=spec.settle_seconds,
            lease=lease,
            clock=self._clock,
            jitter=self._jitter,
            status=self._status,
        )
        self.lease, self.reader = lease, reader
        self._status.lease_held, self._status.epoch = True, lease.epoch
        for pipeline_status in self._pipeline_status.values():
            pipeline_status.progress_at = self._clock.monotonic()  # readiness counts from here
        try:
            async with asyncio.TaskGroup() as tasks:
                beside = [tasks.create_task(lease.keep(self._store)), tasks.create_task(reader.run())]
                while self._settle(lease, reader, tasks):
                    await self._wait_for_news()
                for task in beside:
                    task.cancel()
        except ExceptionGroup as group:  # not `except*`, which would wrap what is raised in it into another group
            fenced, rest = group.split(Fenced)
            if fenced is None or rest is not None:
                raise
            raise Fenced(str(fenced.exceptions[0])) from None
        finally:
            self._running = {}
            await client.close()

    def _settle(self, lease: Lease, reader: Reader, tasks: asyncio.TaskGroup) -> bool:
        """Let run what is wanted, and end what is not. False once nothing runs any more."""
        wanted = {spec.name: spec for spec in self._spec.pipelines}
        reader.share_pages(len(wanted) > 1)
        for name, running in self._running.items():
            if name not in wanted or wanted[name].made_from != running.spec.made_from:
                running.end()
        for name, spec in wanted.items():
            before = self._running.get(name)
            if not self._stopping and (before is None or before.is_over(spec)):
                pipeline = Pipeline(
                    spec,
                    pages=reader,
                    store=self._store,
                    lease=lease,
                    clock=self._clock,
                    jitter=self._jitter,
                    status=self._pipeline_status[name],
                    until_caught_up=self._until_caught_up,
                )
                self._running[name] = _Running(spec, pipeline, tasks.create_task(pipeline.run()))
        return not all(running.task.done() for running in self._running.values())

    async def _wait_for_news(self) -> None:
        """Until a pipeline has ended, or others are wanted."""
        changed = asyncio.create_task(self._changed.wait())
        going = [running.task for running in self._running.values() if not running.task.done()]
        try:
            await asyncio.wait([changed, *going], return_when=asyncio.FIRST_COMPLETED)
        finally:
            changed.cancel()
        self._changed.clear()

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
