"""`oplog-bridge demo`: a small app's traffic on an emulated backend, delivered to a file; all in this process."""

from __future__ import annotations

import asyncio
import contextlib
import shlex
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated

import typer

from oplogbridge.bridge import Bridge
from oplogbridge.cli.app import app, run_async
from oplogbridge.cli.logs import set_up_logs
from oplogbridge.cli.serving import admin_of, bridge_of, drained_by_signals, show_progress
from oplogbridge.clock import SystemClock
from oplogbridge.config import Listen, Settings, from_data
from oplogbridge.durations import seconds_of
from oplogbridge.emulator.server import Emulator
from oplogbridge.errors import ConfigError, Misconfigured

HISTORY_ENTRIES = 2_500  # more than two pages, so that the first seconds show a catch-up
RATE_PER_SECOND = 40.0  # a busy small app


@app.command()
def demo(
    duration: Annotated[
        str | None, typer.Option("--for", help="End by itself after this time, like 10s.", metavar="TIME")
    ] = None,
) -> None:
    """Watch entries flow: emulator → bridge → file, with nothing to install or configure. Ctrl-C ends it."""
    try:
        seconds = None if duration is None else seconds_of(duration)
    except ValueError as error:
        raise ConfigError("--for", [f"{duration}: {error}"]) from error
    run_async(_demo(seconds))


async def _demo(seconds: float | None) -> None:
    folder = Path.cwd() / time.strftime("demo-%Y%m%d-%H%M%S")
    folder.mkdir()
    set_up_logs(level="warning", format="console")
    clock = SystemClock()
    async with Emulator(password="demo", entries=HISTORY_ENTRIES, rate=RATE_PER_SECOND) as emulator:  # noqa: S106
        settings = _settings(emulator, folder)
        bridge = bridge_of(settings, clock)
        async with _admin(bridge, settings, clock) as admin_url:
            _intro(emulator.url, admin_url, folder, seconds)
            beside = [asyncio.create_task(emulator.run()), asyncio.create_task(show_progress(bridge))]
            if seconds is not None:
                asyncio.get_running_loop().call_later(seconds, bridge.stop)
            try:
                with drained_by_signals(bridge):
                    await bridge.run(admin_url=admin_url)
            finally:
                for task in beside:
                    task.cancel()
                await asyncio.wait(beside)
    _summary(folder, bridge.status.pipelines["demo-to-file"].events_delivered)


def _settings(emulator: Emulator, folder: Path) -> Settings:
    return from_data(
        {
            "name": "demo",
            "state": f"sqlite:///{folder / 'state.db'}",
            "sources": {
                "shop": {
                    "url": emulator.url,
                    "auth": {"username": emulator.settings.deployment, "password": "demo"},
                }
            },
            "pipelines": {
                "demo-to-file": {"source": "shop", "sink": {"kind": "file", "path": str(folder / "events.jsonl")}}
            },
        }
    ).settings


@contextlib.asynccontextmanager
async def _admin(bridge: Bridge, settings: Settings, clock: SystemClock) -> AsyncIterator[str | None]:
    """At the usual port, or at any free one when something else is there: a demo must not fail for that."""
    async with contextlib.AsyncExitStack() as stack:
        try:
            url = await stack.enter_async_context(admin_of(bridge, settings, settings.admin.listen, clock))
        except Misconfigured:
            url = await stack.enter_async_context(admin_of(bridge, settings, Listen("127.0.0.1", 0), clock))
        yield url


def _intro(source_url: str, admin_url: str | None, folder: Path, seconds: float | None) -> None:
    until = "Ctrl-C ends it" if seconds is None else f"it ends by itself after {seconds:g} s"
    typer.echo(
        f"source  {source_url}  (an emulated backend: {HISTORY_ENTRIES:,} entries, then {RATE_PER_SECOND:g} a second)\n"
        f"file    {folder / 'events.jsonl'}\n"
        f"page    {admin_url}\n"
        f"{until}",
        err=True,
    )


def _summary(folder: Path, delivered: int) -> None:
    path = folder / "events.jsonl"
    quoted = shlex.quote(str(path))
    typer.echo(
        f"delivered {delivered:,} events, in oplog order, each exactly once\n"
        f"{path}\n"
        f"look at the first: head -n 1 {quoted} | python3 -m json.tool\n"
        f"count them: wc -l {quoted}"
    )
