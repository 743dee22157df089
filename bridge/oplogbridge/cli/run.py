"""`oplog-bridge run`: the job."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from pathlib import Path
from typing import Annotated

import typer

from oplogbridge import garbage
from oplogbridge.cli.app import ConfigFiles, app, run_async
from oplogbridge.cli.logs import set_up_logs
from oplogbridge.cli.reload import Reloader
from oplogbridge.cli.serving import (
    admin_of,
    bridge_of,
    drained_by_signals,
    keep_freed_memory,
    show_progress,
)
from oplogbridge.clock import SystemClock
from oplogbridge.config import Listen, Settings, load, parse_listen
from oplogbridge.errors import ConfigError


@app.command()
def run(
    config: ConfigFiles,
    pipeline: Annotated[
        list[str] | None, typer.Option("--pipeline", help="Only this pipeline; may be repeated.", metavar="NAME")
    ] = None,
    until_caught_up: Annotated[
        bool, typer.Option("--until-caught-up", help="End once the source has nothing more and all of it is durable.")
    ] = False,
    admin: Annotated[
        str | None, typer.Option("--admin", help="Where the admin server listens, or off.", metavar="HOST:PORT|off")
    ] = None,
) -> None:
    """Deliver: poll the sources and write to the sinks until stopped (SIGTERM drains, SIGHUP reloads)."""
    if not until_caught_up:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # before we can reload: what it asks for is read just now
    settings = load_settings(config)
    run_async(_run(config, settings, _chosen(settings, pipeline), until_caught_up, _listen(settings, admin)))


def load_settings(paths: list[Path]) -> Settings:
    """The checked settings; warnings go to stderr, mistakes end the command with exit code 2."""
    loaded = load(paths, os.environ)
    for warning in loaded.warnings:
        sys.stderr.write(f"warning: {warning}\n")
    return loaded.settings


async def _run(
    config: list[Path],
    settings: Settings,
    chosen: frozenset[str] | None,
    until_caught_up: bool,
    listen: Listen | None,
) -> None:
    set_up_logs(level=settings.log.level, format=settings.log.format)
    clock = SystemClock()
    bridge = bridge_of(settings, clock, only_pipelines=chosen, until_caught_up=until_caught_up)
    async with admin_of(bridge, settings, listen, clock) as admin_url:
        garbage.leave_what_is_loaded()
        keep_freed_memory()
        progress = asyncio.create_task(show_progress(bridge)) if until_caught_up else None
        try:
            with contextlib.ExitStack() as signals:
                signals.enter_context(drained_by_signals(bridge))
                if not until_caught_up:
                    signals.enter_context(Reloader(bridge, settings, config, chosen).on_signal())
                await bridge.run(admin_url=admin_url)
        finally:
            if progress is not None:
                progress.cancel()
    if until_caught_up:
        bridge.raise_if_stopped()


def _chosen(settings: Settings, names: list[str] | None) -> frozenset[str] | None:
    if not names:
        return None
    unknown = [name for name in names if name not in settings.pipelines]
    if unknown:
        known = ", ".join(settings.pipelines)
        raise ConfigError("--pipeline", [f"{name}: no such pipeline (there are {known})" for name in unknown])
    return frozenset(names)


def _listen(settings: Settings, admin: str | None) -> Listen | None:
    if admin is None:
        return settings.admin.listen
    try:
        return parse_listen(admin)
    except ValueError as error:
        raise ConfigError("--admin", [str(error)]) from error
