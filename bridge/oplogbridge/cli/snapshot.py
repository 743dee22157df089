"""`oplog-bridge snapshot`: the current state of every object, told by the pipeline itself, before what comes next."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from oplogbridge import wishes
from oplogbridge.cli.app import ConfigFiles, app, run_async
from oplogbridge.cli.carrying import carry_out
from oplogbridge.cli.holder import SourceAccess, opened_store
from oplogbridge.cli.offsets import actor, known
from oplogbridge.cli.run import load_settings
from oplogbridge.codec.encode import DEFAULT_KEY
from oplogbridge.config import Settings
from oplogbridge.errors import ConfigError
from oplogbridge.state import AuditRecord
from oplogbridge.status import PipelineStatus
from oplogbridge.wishes import Interlude, Wishes


@app.command()
def snapshot(
    pipeline: Annotated[str, typer.Argument(metavar="PIPELINE")],
    config: ConfigFiles,
    types: Annotated[
        list[str] | None, typer.Option("--types", help="Only these; may be repeated, or have commas.")
    ] = None,
    reconcile: Annotated[
        bool,
        typer.Option("--reconcile", help="Tell deletes, too: of what the destination has, and the source no more."),
    ] = False,
    detach: Annotated[bool, typer.Option("--detach", help="Leave it to the running instances.")] = False,
) -> None:
    """Tell the current state of every object: the pipeline stands still for it, and then follows the log."""
    settings = load_settings(config)
    known(settings, pipeline)
    if settings.sources[settings.pipelines[pipeline].source].api == "v1":
        raise ConfigError("snapshot", [f"{pipeline}: a snapshot lists objects by API v4; its source is read by v1"])
    chosen_pipeline = settings.pipelines[pipeline]
    if reconcile and chosen_pipeline.key != DEFAULT_KEY:
        raise ConfigError("snapshot", [f"{pipeline}: --reconcile needs the key {DEFAULT_KEY}, which names an object"])
    if reconcile and chosen_pipeline.sink.plugin.reader is None:
        raise ConfigError("snapshot", [f"{pipeline}: --reconcile needs a sink that can be read back"])
    chosen = tuple(word for text in types or () for word in text.split(",") if word)
    wanted = Interlude("snapshot", pipeline, types=chosen, reconcile=reconcile, by=actor(), at_unix_seconds=time.time())
    run_async(_snapshot(settings, wanted, detach))


async def _snapshot(settings: Settings, wanted: Interlude, detach: bool) -> None:
    source = settings.pipelines[wanted.pipeline].source
    async with opened_store(settings) as store:
        await wishes.add_interlude(store, source, wanted)
        record = AuditRecord(time.time(), actor(), "snapshot", wanted.pipeline, ",".join(wanted.types) or "all types")
        await store.record(record)
        await SourceAccess(settings, source, store, None, await store.holder(source)).look()
    if detach:
        typer.echo(f"snapshot of {wanted.pipeline}: left to the running instances")
        return
    last: dict[str, Interlude] = {}

    def is_over(found: Wishes) -> bool:
        last[""] = found.interludes[wanted.pipeline]
        return last[""].phase == "done"

    def show(found: Wishes, own: PipelineStatus | None) -> str:
        now = found.interludes[wanted.pipeline]
        line = f"snapshot of {wanted.pipeline}: {now.phase}"
        if own is None or own.offset is None or now.phase != "telling":
            return line
        return f"{line}, {own.offset - now.at_offset:,} objects"

    await carry_out(
        settings,
        source,
        pipelines=[wanted.pipeline],
        is_over=is_over,
        left_over=f"the snapshot of {wanted.pipeline} goes on with the next `oplog-bridge run`",
        show=show,
    )
    if last[""].phase == "done":
        typer.echo(f"snapshot of {wanted.pipeline}: {last[''].events:,} objects behind offset {last[''].at_offset}")
