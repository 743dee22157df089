"""`oplog-bridge offsets export|import`: from one state store into another, while nothing runs."""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import sys
import time
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Annotated

import typer

from oplogbridge.cli.app import ConfigFiles, offsets_app, run_async
from oplogbridge.cli.holder import opened_store
from oplogbridge.cli.offsets import actor
from oplogbridge.cli.run import load_settings
from oplogbridge.config import Settings
from oplogbridge.errors import ConfigError, Misconfigured
from oplogbridge.state import AuditRecord, Holder, StateStore, Stored
from oplogbridge.state.exchange import exported, read_exported


@offsets_app.command("export")
def export(config: ConfigFiles) -> None:
    """Print every pipeline's stored offset, a line of JSON for each. Stop the instances first."""
    run_async(_export(load_settings(config)))


@offsets_app.command("import")
def import_(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What `offsets export` printed; - is standard input.")],
    config: ConfigFiles,
    force: Annotated[bool, typer.Option("--force", help="Also replace other offsets that are stored here.")] = False,
) -> None:
    """Store the offsets of an export here. Nothing is stored unless all of it can be; destinations are not touched."""
    settings = load_settings(config)
    try:
        lines = sys.stdin.readlines() if str(file) == "-" else file.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(str(file), [f"cannot be read: {error}"]) from error
    run_async(_import(settings, read_exported(lines, str(file)), force=force))


async def _export(settings: Settings) -> None:
    async with opened_store(settings) as store:
        for source in sorted({pipeline.source for pipeline in settings.pipelines.values()}):
            holder = await store.holder(source)
            if holder is not None:
                raise Misconfigured(
                    f"source {source} is held by {holder.instance}, which moves its offsets on: stop it first"
                )
        kept = {name: await store.peek(name) for name in settings.pipelines}
    sys.stdout.write(exported({name: stored for name, stored in kept.items() if stored is not None}))
    missing = [name for name, stored in kept.items() if stored is None]
    if missing:
        sys.stderr.write(f"no offset yet: {', '.join(missing)}\n")


async def _import(settings: Settings, offsets: dict[str, Stored], *, force: bool) -> None:
    unknown = [name for name in offsets if name not in settings.pipelines]
    if unknown:
        raise ConfigError("offsets import", [f"{name}: no such pipeline in the configuration" for name in unknown])
    of = {name: settings.pipelines[name].source for name in offsets}
    async with opened_store(settings) as store, _leases(settings, store, sorted(set(of.values()))) as tokens:
        before = {name: await store.load(of[name], tokens[of[name]], name) for name in offsets}
        others = [name for name, stored in before.items() if stored not in (None, offsets[name])]
        if others and not force:
            raise Misconfigured(
                f"other offsets are stored here for {', '.join(others)}: nothing was imported; look at them with "
                "`oplog-bridge offsets list`, and replace them with --force"
            )
        for name, stored in offsets.items():
            if before[name] != stored:
                await store.save(of[name], tokens[of[name]], name, stored, replacing=before[name])
                await store.record(_audited(name, before[name], stored))
            typer.echo(f"{name}: {_text(before[name])} -> {stored.offset}")


@contextlib.asynccontextmanager
async def _leases(settings: Settings, store: StateStore, sources: Iterable[str]) -> AsyncIterator[dict[str, str]]:
    """Of all these sources, so that nobody works meanwhile. They last for the few milliseconds that this takes."""
    host, pid = socket.gethostname(), os.getpid()
    holder = Holder(f"{host}-{pid}-{secrets.token_hex(3)}", host, pid, admin_url=None)
    tokens: dict[str, str] = {}
    try:
        for source in sources:
            token = await store.acquire(source, holder, settings.lease_ttl)
            if token is None:
                other = await store.holder(source)
                who = "another instance" if other is None else other.instance
                raise Misconfigured(f"source {source} is held by {who}: stop it first; nothing was imported")
            tokens[source] = token
        yield tokens
    finally:
        for source, token in tokens.items():
            await store.release(source, token)


def _audited(pipeline: str, before: Stored | None, now: Stored) -> AuditRecord:
    return AuditRecord(time.time(), actor(), "offsets import", pipeline, f"{_text(before)} -> {now.offset}")


def _text(stored: Stored | None) -> str:
    return "none" if stored is None else str(stored.offset)
