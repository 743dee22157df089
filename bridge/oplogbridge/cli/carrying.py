"""Carrying out what an operator wants of a source while nobody else holds it, and waiting for it in any case."""

from __future__ import annotations

import asyncio
import os
import random
import secrets
import signal
import socket
import sys
from collections.abc import Callable

import typer

from oplogbridge import wishes
from oplogbridge.assembly import source_of
from oplogbridge.cli.holder import opened_store
from oplogbridge.cli.logs import set_up_logs
from oplogbridge.clock import SystemClock
from oplogbridge.config import Settings
from oplogbridge.errors import Misconfigured
from oplogbridge.state import Holder, StateStore
from oplogbridge.status import PipelineStatus, SourceStatus
from oplogbridge.supervisor import SourceRunner
from oplogbridge.wishes import Wishes

LOOK_SECONDS = 0.5


async def carry_out(
    settings: Settings,
    source: str,
    *,
    pipelines: list[str],
    is_over: Callable[[Wishes], bool],
    left_over: str,
    show: Callable[[Wishes, PipelineStatus | None], str],
) -> None:
    """Until it is over. `pipelines` are those that run here meanwhile, up to the end of the log.

    SIGINT and SIGTERM end the waiting; `left_over` then says what becomes of it. `show` makes a line of progress.

    Raises:
        Misconfigured: A pipeline stopped.
    """
    set_up_logs(level="warning", format="console")
    loop, interrupted = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, interrupted.set)
    try:
        async with opened_store(settings) as store:
            carrying = _Carrying(settings, source, pipelines, store)
            try:
                while not is_over(found := await wishes.read(store, source)):
                    await carrying.go_on()
                    carrying.say(show(found, carrying.status(pipelines)))
                    try:
                        async with asyncio.timeout(LOOK_SECONDS):
                            await interrupted.wait()
                    except TimeoutError:
                        continue
                    typer.echo(left_over, err=True)
                    return
            finally:
                await carrying.end()
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)


class _Carrying:
    def __init__(self, settings: Settings, source: str, pipelines: list[str], store: StateStore) -> None:
        self._settings = settings
        self._source = source
        self._spec = source_of(
            settings, source, settings.sources[source], {name: settings.pipelines[name] for name in pipelines}
        )
        self._store = store
        self._pipelines = {
            spec.name: PipelineStatus(spec.name, source, spec.sink_kind) for spec in self._spec.pipelines
        }
        self._runner: SourceRunner | None = None
        self._running: asyncio.Task[None] | None = None
        self._ticks = 0

    async def go_on(self) -> None:
        """While nobody holds the source, we do."""
        if self._running is not None and self._running.done():
            self._running.result()
            self._running = self._runner = None
            for status in self._pipelines.values():
                if status.state == "stopped":
                    raise Misconfigured(f"pipeline {status.name} stopped: {status.error}")
        if self._running is None and await self._store.holder(self._source) is None:
            host, pid = socket.gethostname(), os.getpid()
            self._runner = SourceRunner(
                self._spec,
                store=self._store,
                holder=Holder(f"{host}-{pid}-{secrets.token_hex(3)}", host, pid, admin_url=None, yields=True),
                lease_ttl_seconds=self._settings.lease_ttl,
                clock=SystemClock(),
                jitter=random.random,
                status=SourceStatus(self._source),
                pipeline_status=self._pipelines,
                until_caught_up=True,
            )
            self._running = asyncio.create_task(self._runner.run())

    def status(self, pipelines: list[str]) -> PipelineStatus | None:
        """What runs here; None where somebody else runs it."""
        return self._pipelines[pipelines[0]] if self._running is not None and pipelines else None

    def say(self, line: str) -> None:
        """In place on a terminal, a plain line every ten seconds elsewhere."""
        if sys.stderr.isatty():
            sys.stderr.write(f"\r\x1b[K{line}")
            sys.stderr.flush()
        elif self._ticks % 20 == 0:
            sys.stderr.write(line + "\n")
        self._ticks += 1

    async def end(self) -> None:
        if self._runner is not None and self._running is not None:
            self._runner.stop()
            await asyncio.wait([self._running])
        if sys.stderr.isatty():
            sys.stderr.write("\r\x1b[K")
