"""`oplog-bridge offsets list|get|set|reset`."""

from __future__ import annotations

import getpass
import os
import socket
import time
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from oplogbridge import wishes
from oplogbridge.cli.app import ConfigFiles, Json, offsets_app, print_json, run_async
from oplogbridge.cli.holder import SourceAccess, opened_store, reach_source, spec_of
from oplogbridge.cli.run import load_settings
from oplogbridge.config import Settings, parse_start
from oplogbridge.errors import ConfigError, Misconfigured
from oplogbridge.offsets import move_offset
from oplogbridge.state import AuditRecord, StateStore, Stored
from oplogbridge.values import offset_of

PipelineName = Annotated[str, typer.Argument(metavar="PIPELINE")]


@offsets_app.command("list")
def list_offsets(config: ConfigFiles, json: Json = False) -> None:
    """Every pipeline's stored offset, and who holds its source."""
    run_async(_list(load_settings(config), json))


@offsets_app.command("get")
def get(pipeline: PipelineName, config: ConfigFiles, json: Json = False) -> None:
    """One pipeline's stored offset."""
    run_async(_get(load_settings(config), pipeline, json))


@offsets_app.command("set")
def set_(pipeline: PipelineName, offset: Annotated[str, typer.Argument(metavar="OFFSET")], config: ConfigFiles) -> None:
    """Go on from OFFSET, the next sequence to read. The destination's own position is moved first."""
    if offset_of(offset) is None:
        raise ConfigError("offsets set", [f"{offset}: an offset is a whole number from 0 to 2^63"])
    run_async(_move(load_settings(config), pipeline, offset, f"set {offset}"))


@offsets_app.command("reset")
def reset(
    pipeline: PipelineName,
    config: ConfigFiles,
    to: Annotated[
        str, typer.Option("--to", help="earliest, latest, a sequence, or a time like 2026-11-22T10:00:00Z.")
    ] = "earliest",
) -> None:
    """Begin again from a point of the log."""
    run_async(_move(load_settings(config), pipeline, to, f"reset --to {to}"))


async def _list(settings: Settings, json: bool) -> None:
    rows: list[dict[str, Any]] = []
    async with opened_store(settings) as store:
        for source in settings.sources:
            access = SourceAccess(settings, source, store, None, await store.holder(source))
            told = (await access.status() or {}).get("pipelines", {})
            paused = (await wishes.read(store, source)).paused
            names = [name for name, pipeline in settings.pipelines.items() if pipeline.source == source]
            rows += [await _row(settings, store, name) | _live(told.get(name), name in paused) for name in names]
    if json:
        print_json(rows)
        return
    typer.echo(
        f"{'PIPELINE':<30} {'STATE':<9} {'OFFSET':>20} {'TIME':<21} {'LAG':>8} {'POSITION':>20} {'STORED':>20} HOLDER"
    )
    for row in rows:
        lag = "-" if row["lag_seconds"] is None else f"{row['lag_seconds']:.0f} s"
        state, offset, position = (row[key] or "-" for key in ("state", "offset", "position"))
        typer.echo(
            f"{row['pipeline']:<30} {state:<9} {offset:>20} {row['time'] or '-':<21} {lag:>8} {position:>20} "
            f"{row['mark'] or '-':>20} {row['holder'] or '-'}"
        )
    for row in rows:
        if row["log_trouble"]:
            typer.echo(f"{row['pipeline']}: {row['log_trouble']}")


def _live(told: dict[str, Any] | None, paused: bool) -> dict[str, Any]:
    """What only the instance knows that runs it: lag, and the position that the sink proved last."""
    told = told or {}
    return {
        "state": "paused" if paused else told.get("state"),
        "lag_seconds": told.get("lag_seconds"),
        "position": told.get("position"),
        "log_trouble": told.get("log_trouble"),
    }


async def _get(settings: Settings, pipeline: str, json: bool) -> None:
    known(settings, pipeline)
    async with opened_store(settings) as store:
        row = await _row(settings, store, pipeline)
    if json:
        print_json(row)
    elif row["offset"] is None:
        raise Misconfigured(f"pipeline {pipeline} has no offset yet: `oplog-bridge run` begins at its `start`")
    else:
        typer.echo(row["offset"])


async def _row(settings: Settings, store: StateStore, pipeline: str) -> dict[str, Any]:
    stored: Stored | None = await store.peek(pipeline)
    holder = await store.holder(settings.pipelines[pipeline].source)
    return {
        "pipeline": pipeline,
        "source": settings.pipelines[pipeline].source,
        "offset": None if stored is None else str(stored.offset),
        "time": None if stored is None else time_of(stored.offset),
        "mark": None if stored is None or stored.mark is None else str(stored.mark.offset),
        "destination": None if stored is None else stored.destination,
        "holder": None if holder is None else holder.instance,
    }


async def _move(settings: Settings, pipeline: str, to: str, action: str) -> None:
    known(settings, pipeline)
    try:
        start = parse_start(int(to) if to.isdecimal() else to)
    except ValueError as error:
        raise ConfigError("offsets", [f"{to}: {error}"]) from error
    async with reach_source(settings, settings.pipelines[pipeline].source) as access:
        offset = await access.resolve(start)
        if access.lease is None:
            moved = await access.set_offset(pipeline, offset)
            before = moved["before"]
        else:
            stored, _ = await move_offset(
                spec_of(settings, pipeline), offset=offset, store=access.store, lease=access.lease
            )
            before = None if stored is None else str(stored.offset)
        await access.store.record(
            AuditRecord(
                at_unix_seconds=time.time(),
                actor=actor(),
                action=f"offsets {action}",
                pipeline=pipeline,
                detail=f"{before or 'none'} -> {offset}",
            )
        )
    typer.echo(f"{pipeline}: {before or 'no offset'} -> {offset}")


def known(settings: Settings, pipeline: str) -> None:
    """Raises ConfigError when it is not."""
    if pipeline not in settings.pipelines:
        known = ", ".join(settings.pipelines)
        raise ConfigError("offsets", [f"{pipeline}: no such pipeline (there are {known})"])


def time_of(offset: int) -> str | None:
    """The second that a sequence carries in its upper half, when that is a plausible time."""
    seconds = offset >> 32
    if not 10**9 <= seconds < 2**31:
        return None
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def actor() -> str:
    """Who runs this command, for the audit trail."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's numeric user has no name
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"
