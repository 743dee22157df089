"""`oplog-bridge dead-letters`: see what a destination would not take, and deliver or drop it."""

from __future__ import annotations

import sys
import time
from typing import Annotated

import typer

from oplogbridge import letters
from oplogbridge.assembly import dead_letter_reader_of
from oplogbridge.cli.app import ConfigFiles, Json, dead_letters_app, print_json, run_async
from oplogbridge.cli.holder import opened_store
from oplogbridge.cli.offsets import actor, known
from oplogbridge.cli.redriving import delivered_later, gone_at_the_source, redriven
from oplogbridge.cli.run import load_settings
from oplogbridge.config import Settings
from oplogbridge.errors import ConfigError, Misconfigured
from oplogbridge.letters import Letter
from oplogbridge.sink import DestinationReader
from oplogbridge.state import AuditRecord
from oplogbridge.values import OFFSET_MAX

PipelineName = Annotated[str, typer.Argument(metavar="PIPELINE")]
Ids = Annotated[list[str] | None, typer.Argument(metavar="[ID]...", help="As `list` shows them.")]
All = Annotated[bool, typer.Option("--all", help="All that nobody has dealt with.")]


@dead_letters_app.command("list")
def list_letters(
    pipeline: PipelineName,
    config: ConfigFiles,
    every: Annotated[bool, typer.Option("--every", help="Also those that were redriven or dropped.")] = False,
    json: Json = False,
) -> None:
    """What the destination would not take, oldest first."""
    run_async(_list(load_settings(config), pipeline, every, json))


@dead_letters_app.command("show")
def show(pipeline: PipelineName, id_: Annotated[str, typer.Argument(metavar="ID")], config: ConfigFiles) -> None:
    """The event that was refused, byte for byte."""
    run_async(_show(load_settings(config), pipeline, id_))


@dead_letters_app.command("drop")
def drop(pipeline: PipelineName, config: ConfigFiles, ids: Ids = None, all_: All = False) -> None:
    """Deal with them by doing nothing more: they are not listed any more."""
    run_async(_drop(load_settings(config), pipeline, ids or [], all_))


@dead_letters_app.command("redrive")
def redrive(
    pipeline: PipelineName,
    config: ConfigFiles,
    ids: Ids = None,
    all_: All = False,
    force: Annotated[
        bool, typer.Option("--force", help="Also where a later event of the same key was delivered already.")
    ] = False,
    detach: Annotated[bool, typer.Option("--detach", help="Leave it to the running instances.")] = False,
) -> None:
    """Deliver them, once, by the pipeline itself, behind what it has delivered so far."""
    run_async(_redrive(load_settings(config), pipeline, ids or [], all_, force=force, detach=detach))


async def _list(settings: Settings, pipeline: str, every: bool, json: bool) -> None:
    found = [one for one in await _letters(settings, pipeline) if every or one.handled is None]
    if json:
        print_json([one.shown() for one in found])
        return
    typer.echo(f"{'ID':<24} {'KEY':<44} {'HANDLED':<9} REASON")
    for one in found:
        typer.echo(f"{one.id:<24} {one.key:<44} {one.handled or '-':<9} {one.reason}")


async def _show(settings: Settings, pipeline: str, id_: str) -> None:
    (letter,) = _chosen(await _letters(settings, pipeline), [id_], all_=False)
    sys.stdout.buffer.write(letter.rejected + b"\n")


async def _drop(settings: Settings, pipeline: str, ids: list[str], all_: bool) -> None:
    chosen = _chosen(await _letters(settings, pipeline), ids, all_=all_)
    async with opened_store(settings) as store:
        await letters.note_handled(store, pipeline, [one.id for one in chosen], "dropped")
        await store.record(AuditRecord(time.time(), actor(), "dead-letters drop", pipeline, _ids(chosen)))
    typer.echo(f"{pipeline}: {len(chosen)} dropped")


async def _redrive(settings: Settings, pipeline: str, ids: list[str], all_: bool, *, force: bool, detach: bool) -> None:
    chosen = _chosen(await _letters(settings, pipeline), ids, all_=all_)
    if not chosen:
        typer.echo(f"{pipeline}: there is none to redrive")
        return
    for one in chosen:
        if one.sequence is None or one.is_malformed:
            why = "is malformed: have it mended at the source" if one.is_malformed else "is none of the log's"
            raise Misconfigured(f"letter {one.id} {why}; then drop it, or replay that range")
        if one.handled is not None:
            raise Misconfigured(f"letter {one.id} was {one.handled} already: see `dead-letters list --every`")
    sequences = {one.sequence: one.key for one in chosen if one.sequence is not None}
    later = {} if force else await delivered_later(settings, pipeline, sequences)
    for sequence, by in sorted(later.items()):
        raise Misconfigured(
            f"letter {sequence}: {sequences[sequence]} was changed later, by sequence {by}, which is delivered; drop "
            "it, or say --force if consumers heed sequences"
        )
    for sequence in await gone_at_the_source(settings, settings.pipelines[pipeline].source, sorted(sequences)):
        raise Misconfigured(
            f"the source does not show sequence {sequence} any more, so it cannot be redriven: "
            f"`oplog-bridge dead-letters show {pipeline} {sequence}` has its bytes"
        )
    left_over = f"the rest goes on with the next `oplog-bridge run`; see `dead-letters list {pipeline}`"
    over = await redriven(
        settings, pipeline, list(sequences), action="dead-letters redrive", detach=detach, left_over=left_over
    )
    if over or detach:
        typer.echo(f"{pipeline}: {len(chosen)} {'redriven' if over else 'left to the running instances'}")


async def _letters(settings: Settings, pipeline: str) -> list[Letter]:
    """In the order in which they were kept; of several with one id the last."""
    known(settings, pipeline)
    if settings.pipelines[pipeline].dead_letter is None:
        raise ConfigError("dead-letters", [f"{pipeline}: has no `dead_letter` sink"])
    reader: DestinationReader | None = dead_letter_reader_of(settings, pipeline)
    if reader is None:
        raise Misconfigured(f"the dead letters of {pipeline} are at a sink that cannot be read back: look there")
    async with opened_store(settings) as store:
        done = await letters.handled(store, pipeline)
    found: dict[str, Letter] = {}
    try:
        for lane in await reader.open():
            async for page in reader.pages(lane, 0, OFFSET_MAX):
                found |= {one.id: one for one in letters.letters_of(page, pipeline, done)}
    finally:
        await reader.close()
    return list(found.values())


def _chosen(found: list[Letter], ids: list[str], *, all_: bool) -> list[Letter]:
    if bool(ids) == all_:
        raise ConfigError("dead-letters", ["name letters by their ids, or say --all"])
    if all_:
        return [one for one in found if one.handled is None]
    by_id = {one.id: one for one in found}
    unknown = [id_ for id_ in ids if id_ not in by_id]
    if unknown:
        raise Misconfigured(f"there is no letter {', '.join(unknown)}: see `oplog-bridge dead-letters list`")
    return [by_id[id_] for id_ in ids]


def _ids(chosen: list[Letter]) -> str:
    shown = ", ".join(one.id for one in chosen[:10])
    return shown if len(chosen) <= 10 else f"{shown} and {len(chosen) - 10} more"
