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
from oplogbridge.spec import SourceSpec
from oplogbridge.state import Holder, StateStore
from oplogbridge.status import BridgeStatus, PipelineStatus
from oplogbridge.supervisor import SourceRunner

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
        self._wanted = {source.name: source for source in sources}
        self._store = store
        self._clock = clock
        self._jitter = jitter
        self._lease_ttl_seconds = lease_ttl_seconds
        self._shutdown_timeout_seconds = shutdown_timeout_seconds
        self._instance = instance
        self._until_caught_up = until_caught_up
        self._stop = asyncio.Event()
        self._changed = asyncio.Event()
        self._holder: Holder | None = None
        self.runners: dict[str, SourceRunner] = {}
        self.status = BridgeStatus(instance=instance or _instance_name(), started_at_unix=clock.unix())
        self._show_wanted()

    @property
    def store(self) -> StateStore:
        return self._store

    def stop(self) -> None:
        """Drain and end; `run` returns within the shutdown timeout."""
        self.status.stopping = True
        self._stop.set()

    def reload(self, sources: Sequence[SourceSpec]) -> None:
        """Run these sources and pipelines from now on. What is made from the same as before goes on untouched; a
        pipeline that changed is drained and begins anew under the same lease, a source that changed gives it up."""
        self._wanted = {source.name: source for source in sources}
        self._show_wanted()
        self._changed.set()

    def _show_wanted(self) -> None:
        self.status.show(
            self._wanted,
            [(one.name, source.name, one.sink_kind) for source in self._wanted.values() for one in source.pipelines],
        )

    async def run(self, *, admin_url: str | None = None) -> None:
        """Until stopped, or until every pipeline has caught up where that was asked for.

        Raises:
            Misconfigured: The state store will not work as it is configured.
        """
        try:
            if not await self._open_store():
                return
            self._holder = Holder(
                instance=self.status.instance,
                host=socket.gethostname(),
                pid=os.getpid(),
                admin_url=admin_url,
                reclaims=self._instance is not None,
            )
            await self._run_sources()
        finally:
            await self._store.close()

    async def _run_sources(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            running: dict[str, asyncio.Task[None]] = {}
            beside = [tasks.create_task(_wait_until(self._stop))]
            while self._settle(running, tasks) and not self._stop.is_set():
                changed = tasks.create_task(_wait_until(self._changed))
                going = [task for task in running.values() if not task.done()]
                await asyncio.wait([*going, *beside, changed], return_when=asyncio.FIRST_COMPLETED)
                changed.cancel()
                self._changed.clear()
            going = [task for task in running.values() if not task.done()]
            if going:
                _log.info("draining", timeout_seconds=self._shutdown_timeout_seconds)
                for runner in self.runners.values():
                    runner.stop()
                await asyncio.wait(going, timeout=self._shutdown_timeout_seconds)
                if not all(task.done() for task in going):
                    # Nothing is lost by it: what was in flight is read again from the position.
                    _log.warning("drain timed out, ending anyway")
            for task in (*beside, *going):
                task.cancel()

    def _settle(self, running: dict[str, asyncio.Task[None]], tasks: asyncio.TaskGroup) -> bool:
        """Let the wanted sources run, and end those that are not. False once nothing runs any more."""
        for name, runner in self.runners.items():
            wanted = self._wanted.get(name)
            if wanted is None or wanted.made_from != runner.spec.made_from:
                runner.stop()
            elif wanted is not runner.spec:
                runner.change(wanted, self._status_of(wanted))
        for name, wanted in self._wanted.items():
            if name not in running or (running[name].done() and self.runners[name].is_stopping):
                self.runners[name] = self._runner(wanted)
                running[name] = tasks.create_task(self.runners[name].run())
        return not all(task.done() for task in running.values())

    def _runner(self, source: SourceSpec) -> SourceRunner:
        assert self._holder is not None, "the store is open"
        return SourceRunner(
            source,
            store=self._store,
            holder=self._holder,
            lease_ttl_seconds=self._lease_ttl_seconds,
            clock=self._clock,
            jitter=self._jitter,
            status=self.status.sources[source.name],
            pipeline_status=self._status_of(source),
            until_caught_up=self._until_caught_up,
        )

    def _status_of(self, source: SourceSpec) -> dict[str, PipelineStatus]:
        return {pipeline.name: self.status.pipelines[pipeline.name] for pipeline in source.pipelines}

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


async def _wait_until(event: asyncio.Event) -> None:
    await event.wait()


def _instance_name() -> str:
    return f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"
