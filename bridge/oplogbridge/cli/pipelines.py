"""`oplog-bridge pipelines`: pause and resume them at run time, on whatever instance runs them."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from oplogbridge import wishes
from oplogbridge.cli.app import ConfigFiles, pipelines_app, run_async
from oplogbridge.cli.holder import SourceAccess, opened_store
from oplogbridge.cli.offsets import actor, known
from oplogbridge.cli.run import load_settings
from oplogbridge.config import Settings
from oplogbridge.errors import Misconfigured
from oplogbridge.state import AuditRecord

PipelineName = Annotated[str, typer.Argument(metavar="PIPELINE")]


@pipelines_app.command("pause")
def pause(pipeline: PipelineName, config: ConfigFiles) -> None:
    """Drain it and let it rest, also across restarts, until it is resumed."""
    run_async(_switch(load_settings(config), pipeline, to_pause=True))


@pipelines_app.command("resume")
def resume(pipeline: PipelineName, config: ConfigFiles) -> None:
    """Let it go on where it is."""
    run_async(_switch(load_settings(config), pipeline, to_pause=False))


async def _switch(settings: Settings, pipeline: str, *, to_pause: bool) -> None:
    known(settings, pipeline)
    source, action = settings.pipelines[pipeline].source, "pause" if to_pause else "resume"
    async with opened_store(settings) as store:
        switch = wishes.pause(store, source, pipeline, actor()) if to_pause else wishes.resume(store, source, pipeline)
        if not await switch:
            raise Misconfigured(f"pipeline {pipeline} is {'' if to_pause else 'not '}paused: nothing to do")
        await store.record(AuditRecord(time.time(), actor(), f"pipelines {action}", pipeline, ""))
        noticed = await SourceAccess(settings, source, store, None, await store.holder(source)).look()
    when = "now" if noticed else "within five seconds where it runs"
    typer.echo(f"{pipeline}: {action}d, {when}")
