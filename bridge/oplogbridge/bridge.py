"""One running bridge: its state store, its sources, its admin server, from start to drained end."""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
from collections.abc import Callable, Sequence

import structlog

from oplogbridge.backoff import Backoff
from oplogbridge.clock import Clock
from oplogbridge.errors import Misconfigured, Unavailable
from oplogbridge.state import Holder, StateStore
from oplogbridge.status import BridgeStatus, PipelineStatus, SourceStatus
from oplogbridge.supervisor import SourceRunner, SourceSpec

_log = structlog.get_logger()


class Bridge:
    """Runs all sources of a configuration in this process."""

    def __init__(
        self,
        sources: Sequence[SourceSpec],
        *,
        store: StateStore,
        clock: Clock,
        jitter: Callable[[], float],
        lease_ttl_seconds: float,
        shutdown_timeout_seconds: float,
        instance: str | None = None,
        until_caught_up: bool = False,
    ) -> None:
        self._sources = sources
        self._store = store
        self._clock = clock
        self._jitter = jitter
        self._lease_ttl_seconds = lease_ttl_seconds
        self._shutdown_timeout_seconds = shutdown_timeout_seconds
        self._instance = instance
        self._until_caught_up = until_caught_up
        self._stop = asyncio.Event()
        self.runners: dict[str, SourceRunner] = {}
        self.status = BridgeStatus(instance=instance or _instance_name(), started_at_unix=clock.unix())
        for source in sources:
            self.status.sources[source.name] = SourceStatus(source.name)
            for pipeline in source.pipelines:
                self.status.pipelines[pipeline.name] = PipelineStatus(pipeline.name, source.name, pipeline.sink_kind)

    @property
    def store(self) -> StateStore:
        return self._store

    def stop(self) -> None:
        """Drain and end; `run` returns within the shutdown timeout."""
        self.status.stopping = True
        self._stop.set()

    async def run(self, *, admin_url: str | None = None) -> None:
        """Until stopped, or until every pipeline has caught up where that was asked for.

        Raises:
            Misconfigured: The state store will not work as it is configured.
        """
        try:
            if not await self._open_store():
                return
            holder = Holder(
                instance=self.status.instance,
                host=socket.gethostname(),
                pid=os.getpid(),
                admin_url=admin_url,
                reclaims=self._instance is not None,
            )
            self.runners = {
                source.name: SourceRunner(
                    source,
                    store=self._store,
                    holder=holder,
                    lease_ttl_seconds=self._lease_ttl_seconds,
                    clock=self._clock,
                    jitter=self._jitter,
                    status=self.status.sources[source.name],
                    pipeline_status={p.name: self.status.pipelines[p.name] for p in source.pipelines},
                    until_caught_up=self._until_caught_up,
                )
                for source in self._sources
            }
            await self._run_sources()
        finally:
            await self._store.close()

    async def _run_sources(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            running = [tasks.create_task(runner.run()) for runner in self.runners.values()]
            finished = tasks.create_task(_wait_for(running))
            stopped = tasks.create_task(_wait_until(self._stop))
            await asyncio.wait([finished, stopped], return_when=asyncio.FIRST_COMPLETED)
            if stopped.done() and not finished.done():
                _log.info("draining", timeout_seconds=self._shutdown_timeout_seconds)
                for runner in self.runners.values():
                    runner.stop()
                await asyncio.wait([finished], timeout=self._shutdown_timeout_seconds)
                if not finished.done():
                    # Nothing is lost by it: what was in flight is read again from the position.
                    _log.warning("drain timed out, ending anyway")
            for task in (stopped, finished, *running):
                task.cancel()

    async def _open_store(self) -> bool:
        """Wait for the state store: without it no lease, no poll, no write. False when stopped meanwhile."""
        backoff = Backoff(first_seconds=0.2, max_seconds=10.0, jitter=self._jitter)
        said: str | None = None
        while not self._stop.is_set():
            try:
                await self._store.open()
                return True
            except Unavailable as error:
                if str(error) != said:
                    _log.warning("state store unavailable", error=str(error))
                    said = str(error)
            waiting = asyncio.create_task(self._clock.sleep(backoff.next_seconds()))
            stopped = asyncio.create_task(self._stop.wait())
            await asyncio.wait([waiting, stopped], return_when=asyncio.FIRST_COMPLETED)
            waiting.cancel()
            stopped.cancel()
        return False

    async def set_offset(self, pipeline: str, offset: int) -> tuple[int | None, int]:
        """Move the offset of a pipeline that is stopped, on the holder of its source's lease.

        Raises:
            Misconfigured: It runs, is not here, or its destination cannot go there.
        """
        status = self.status.pipelines.get(pipeline)
        runner = None if status is None else self.runners.get(status.source)
        if runner is None:
            raise Misconfigured(f"pipeline {pipeline} is not one of this instance's")
        before, now = await runner.set_offset(pipeline, offset)
        return None if before is None else before.offset, now.offset

    def raise_if_stopped(self) -> None:
        """After `--until-caught-up`: a pipeline that stopped is exit code 3.

        Raises:
            Misconfigured: One or more pipelines stopped; the message has a line for each.
        """
        stopped = [f"{p.name}: {p.error}" for p in self.status.pipelines.values() if p.state == "stopped"]
        if stopped:
            raise Misconfigured("\n".join(stopped))


async def _wait_for(tasks: Sequence[asyncio.Task[None]]) -> None:
    await asyncio.wait(tasks)


async def _wait_until(event: asyncio.Event) -> None:
    await event.wait()


def _instance_name() -> str:
    return f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"
