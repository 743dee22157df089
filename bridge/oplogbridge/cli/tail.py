"""`oplog-bridge tail`: look at a source's newest entries, within its pace."""

from __future__ import annotations

from typing import Annotated, Any

import orjson
import typer

from oplogbridge.cli.app import ConfigFiles, Json, app, run_async
from oplogbridge.cli.holder import reach_source
from oplogbridge.cli.run import load_settings
from oplogbridge.clock import SystemClock
from oplogbridge.config import Settings
from oplogbridge.errors import ConfigError

HOLD_SECONDS_MAX = 30.0


@app.command()
def tail(
    source: Annotated[str, typer.Argument(metavar="SOURCE")],
    config: ConfigFiles,
    entries: Annotated[int, typer.Option("--entries", "-n", min=0, help="How many of the newest.")] = 20,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what comes; Ctrl-C ends it.")] = False,
    json: Json = False,
) -> None:
    """The newest entries of a source. Asks the process that holds the source, or reads when nobody does."""
    settings = load_settings(config)
    if source not in settings.sources:
        raise ConfigError("tail", [f"{source}: no such source (there are {', '.join(settings.sources)})"])
    run_async(_tail(settings, source, entries, follow, json))


async def _tail(settings: Settings, source: str, entries_max: int, follow: bool, json: bool) -> None:
    clock = SystemClock()
    offset: int | None = None
    while True:
        until = clock.monotonic() + HOLD_SECONDS_MAX
        async with reach_source(settings, source) as access:
            if offset is None:
                page = await access.tail()
                _show(page["entries"][-entries_max:] if entries_max else [], json)
                offset = int(page["next_offset"])
            while follow and (access.lease is None or clock.monotonic() < until):
                page = await access.page(offset)  # at the reader's pace, ours or the holder's
                _show(page["entries"], json)
                offset = int(page["next_offset"])
        if not follow:
            return
        # We held the source ourselves: a bridge that waits for it must not wait for a terminal that somebody forgot.
        await clock.sleep(settings.lease_ttl)


def _show(entries: list[dict[str, Any]], json: bool) -> None:
    for entry in entries:
        if json:
            object_ = orjson.Fragment(entry["object"])
            typer.echo(orjson.dumps(entry | {"object": object_}).decode())
        else:
            body = " ".join(entry["object"].split())
            typer.echo(f"{entry['sequence']}  {entry['operation']:<6}  {entry['type']}/{entry['id']}  {body[:120]}")
