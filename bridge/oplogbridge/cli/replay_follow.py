"""Watching a replay until it ends, and carrying it out while nobody holds its source."""

from __future__ import annotations

import asyncio
import os
import random
import secrets
import signal
import socket
import sys
import time

import typer

from oplogbridge import wishes
from oplogbridge.assembly import source_of
from oplogbridge.cli.holder import SourceAccess, opened_store
from oplogbridge.cli.logs import set_up_logs
from oplogbridge.clock import SystemClock
from oplogbridge.config import Settings
from oplogbridge.errors import Misconfigured
from oplogbridge.state import Holder, StateStore
from oplogbridge.status import SourceStatus
from oplogbridge.supervisor import SourceRunner
from oplogbridge.wishes import Replay

LOOK_SECONDS = 0.5


async def follow(settings: Settings, source: str, name: str) -> None:
    """Until it is done. Raises Misconfigured when it stopped, or somebody cancelled it."""
    set_up_logs(level="warning", format="console")
    loop, interrupted = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, interrupted.set)
    try:
        async with opened_store(settings) as store:
            await _Following(settings, source, name, store).until_done(interrupted)
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)


class _Following:
    def __init__(self, settings: Settings, source: str, name: str, store: StateStore) -> None:
        self._settings = settings
        self._source = source
        self._name = name
        self._store = store
        self._status = SourceStatus(source)
        self._runner: SourceRunner | None = None
        self._running: asyncio.Task[None] | None = None
        self._began: tuple[float, int] | None = None  # when, and where it stood then
        self._shown_at = 0.0
        self._counted: tuple[float, int] | None = None  # when, and how many events there were

    async def until_done(self, interrupted: asyncio.Event) -> None:
        try:
            while True:
                replay = (await wishes.read(self._store, self._source)).replays.get(self._name)
                if replay is None or replay.state in ("done", "cancelled", "paused"):
                    self._end_line(replay)
                    return
                await self._progress(replay)
                await self._carry_out()
                try:
                    async with asyncio.timeout(LOOK_SECONDS):
                        await interrupted.wait()
                except TimeoutError:
                    continue
                typer.echo(
                    f"replay {self._name} is left to whoever runs the source next; `oplog-bridge replay cancel "
                    f"{self._name}` ends it",
                    err=True,
                )
                return
        finally:
            if self._runner is not None and self._running is not None:
                self._runner.stop()
                await asyncio.wait([self._running])

    async def _carry_out(self) -> None:
        """While nobody holds the source, we do."""
        if self._running is not None and self._running.done():
            self._running.result()
            own = self._status.replays.get(self._name)
            self._running = self._runner = None
            if own is not None and own.state == "stopped":
                raise Misconfigured(
                    f"replay {self._name} stopped: {own.error}; then `oplog-bridge replay resume {self._name}`"
                )
        if self._running is None and await self._store.holder(self._source) is None:
            spec = source_of(self._settings, self._source, self._settings.sources[self._source], {})
            host, pid = socket.gethostname(), os.getpid()
            clock = SystemClock()
            self._runner = SourceRunner(
                spec,
                store=self._store,
                holder=Holder(f"{host}-{pid}-{secrets.token_hex(3)}", host, pid, admin_url=None, yields=True),
                lease_ttl_seconds=self._settings.lease_ttl,
                clock=clock,
                jitter=random.random,
                status=self._status,
                pipeline_status={},
                until_caught_up=True,
            )
            self._running = asyncio.create_task(self._runner.run())

    async def _progress(self, replay: Replay) -> None:
        """A bar on a terminal, rewritten in place; a plain line every ten seconds elsewhere."""
        stored = await self._store.peek(replay.line)
        at = replay.from_offset if stored is None else stored.offset
        now = time.monotonic()
        if self._began is None:
            self._began = now, at
        begun_at, begun = self._began
        whole = max(1, replay.to_offset - replay.from_offset)
        share = min(1.0, max(0.0, (at - replay.from_offset) / whole))
        left = "" if at <= begun else f", {(replay.to_offset - at) * (now - begun_at) / (at - begun):,.0f} s left"
        events = ""
        delivered = await self._delivered()
        if delivered is not None:
            if self._counted is not None and now > self._counted[0]:
                rate = (delivered - self._counted[1]) / (now - self._counted[0])
                events = f", {delivered:,} events, {max(0.0, rate):,.0f}/s"
            self._counted = now, delivered
        line = f"{share:4.0%}{events}{left}"
        if sys.stderr.isatty():
            bar = "#" * round(share * 30)
            sys.stderr.write(f"\r\x1b[K[{bar:<30}] {line}")
            sys.stderr.flush()
        elif now - self._shown_at >= 10.0:
            self._shown_at = now
            sys.stderr.write(f"replay {self._name}: {line}\n")

    async def _delivered(self) -> int | None:
        """Events so far: here, or at whoever carries it out."""
        own = self._status.replays.get(self._name)
        if own is not None:
            return own.events_delivered
        holder = await self._store.holder(self._source)
        status = await SourceAccess(self._settings, self._source, self._store, None, holder).status()
        if status is None:
            return None
        told = status["sources"].get(self._source, {}).get("replays", {}).get(self._name)
        return None if told is None else int(told["events_delivered"])

    def _end_line(self, replay: Replay | None) -> None:
        if sys.stderr.isatty():
            sys.stderr.write("\r\x1b[K")
        if replay is None or replay.state == "cancelled":
            raise Misconfigured(f"replay {self._name} was cancelled")
        typer.echo(f"replay {self._name}: {replay.state}")
