"""`oplog-bridge replay`: deliver a range of the log once more, beside the live pipeline.

A replay is a job in the state store (`wishes`). Whoever holds the source carries it out; when nobody does, this command
takes the lease and does so itself, and gives way to the first instance that queues for it.
"""

from __future__ import annotations

import time
from collections import Counter
from datetime import UTC, datetime
from typing import Annotated, Any

import msgspec
import typer
import yaml

from oplogbridge import wishes
from oplogbridge.assembly import goes_live, sink_aside
from oplogbridge.cli.app import ConfigFiles, Json, print_json, replay_app, run_async
from oplogbridge.cli.holder import SourceAccess, opened_store, reach_source, spec_of
from oplogbridge.cli.offsets import actor, known, time_of
from oplogbridge.cli.replay_follow import follow
from oplogbridge.cli.run import load_settings
from oplogbridge.config import Settings, parse_start
from oplogbridge.errors import ConfigError, Misconfigured
from oplogbridge.offsets import move_offset
from oplogbridge.replay_pages import accepts
from oplogbridge.source.start import Start
from oplogbridge.state import AuditRecord, StateStore
from oplogbridge.wishes import Narrowing, Replay, ReplayState

ReplayName = Annotated[str, typer.Argument(metavar="NAME")]
Several = Annotated[list[str] | None, typer.Option(help="Only these; may be repeated, or have commas.")]


@replay_app.command("start")
def start(
    pipeline: Annotated[str, typer.Argument(metavar="PIPELINE")],
    config: ConfigFiles,
    from_: Annotated[str, typer.Option("--from", help="earliest, a sequence, or a time like 2026-11-22T10:00:00Z.")],
    to: Annotated[
        str | None, typer.Option("--to", help="Up to, without it; the default is the pipeline's own offset, or latest.")
    ] = None,
    name: Annotated[str | None, typer.Option("--name", help="a-z, 0-9, _ and -; the default is the time.")] = None,
    into: Annotated[
        list[str] | None,
        typer.Option("--into", metavar="KEY=VALUE", help="A key of the sink that differs; may be repeated."),
    ] = None,
    types: Several = None,
    operations: Several = None,
    ids: Several = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Count what it would deliver, and write nothing.")] = False,
    detach: Annotated[bool, typer.Option("--detach", help="Leave it to the running instances.")] = False,
    then_follow: Annotated[
        bool, typer.Option("--then-follow", help="Of a pipeline without an offset: begin there, and stay live.")
    ] = False,
) -> None:
    """Deliver a range once more, beside the live pipeline (`replay PIPELINE …` is the same)."""
    settings = load_settings(config)
    known(settings, pipeline)
    narrowing = Narrowing(_words(types), _words(operations), _words(ids))
    wanted = Replay(
        name=name or datetime.now(UTC).strftime("%Y%m%d-%H%M%S"),
        pipeline=pipeline,
        from_offset=0,
        to_offset=0,
        into=_keys(into or []),
        narrowing=narrowing,
        by=actor(),
        at_unix_seconds=time.time(),
    )
    if not wishes.is_replay_name(wanted.name):
        raise ConfigError("replay", [f"--name {wanted.name}: {wishes.REPLAY_NAME_ALLOWED}"])
    if then_follow and (into or narrowing != Narrowing() or to is not None or dry_run):
        raise ConfigError("replay", ["--then-follow goes with --from alone: the pipeline's own range has no end"])
    begin, end = _point("--from", from_), None if to is None else _point("--to", to)
    if then_follow:
        run_async(_then_follow(settings, pipeline, begin))
    else:
        run_async(_start(settings, wanted, begin, end, dry_run=dry_run, detach=detach))


@replay_app.command("list")
def list_replays(config: ConfigFiles, json: Json = False) -> None:
    """Every replay that is known, and how far it came."""
    run_async(_list(load_settings(config), json))


@replay_app.command("pause")
def pause(name: ReplayName, config: ConfigFiles) -> None:
    """Stop it for now; what is delivered stays."""
    run_async(_change(load_settings(config), name, "paused", from_states=("wanted",)))


@replay_app.command("resume")
def resume(
    name: ReplayName,
    config: ConfigFiles,
    detach: Annotated[bool, typer.Option("--detach", help="Leave it to the running instances.")] = False,
) -> None:
    """Go on, also with one whose command or instance died."""
    run_async(_resume(load_settings(config), name, detach))


@replay_app.command("cancel")
def cancel(name: ReplayName, config: ConfigFiles) -> None:
    """End it for good; what is delivered stays."""
    run_async(_change(load_settings(config), name, "cancelled", from_states=("wanted", "paused")))


async def _start(
    settings: Settings, wanted: Replay, begin: Start, end: Start | None, *, dry_run: bool, detach: bool
) -> None:
    pipeline = settings.pipelines[wanted.pipeline]
    sink = sink_aside(pipeline.sink, wanted.name, wanted.into)
    async with reach_source(settings, pipeline.source) as access:
        from_offset = await access.resolve(begin)
        stored = None if end is not None else await access.store.peek(wanted.pipeline)
        to_offset = stored.offset if stored is not None else await access.resolve(end or Start("latest"))
        wanted = msgspec.structs.replace(
            wanted,
            from_offset=from_offset,
            to_offset=to_offset,
            live=goes_live(settings, wanted.pipeline, sink),
        )
        if from_offset >= to_offset:
            raise ConfigError("replay", [f"nothing lies between {from_offset} and {to_offset}: see `offsets list`"])
        if dry_run:
            await _dry_run(settings, access, wanted)
            return
        await wishes.add_replay(access.store, pipeline.source, wanted)
        await _record(access.store, wanted, "start")
        await access.look()
    typer.echo(f"replay {wanted.name}: {wanted.pipeline} from {from_offset} to {to_offset}")
    if not detach:
        await follow(settings, pipeline.source, wanted.name)


async def _dry_run(settings: Settings, access: SourceAccess, wanted: Replay) -> None:
    accepted, passes = accepts(wanted.narrowing), spec_of(settings, wanted.pipeline).codec.accepts
    counts: Counter[tuple[str, str]] = Counter()
    offset, more = wanted.from_offset, True
    while more and offset < wanted.to_offset:
        page = await access.page(offset)
        for entry in page["entries"]:
            type_, operation = entry["type"], entry["operation"]
            if int(entry["sequence"]) < wanted.to_offset and passes(type_, operation):
                counts[type_, operation] += accepted is None or accepted(type_, operation, entry["id"])
        offset, more = int(page["next_offset"]), page["more"]
    typer.echo(f"{'TYPE':<30} {'OPERATION':<12} {'EVENTS':>12}")
    for (type_, operation), count in sorted(counts.items()):
        if count:
            typer.echo(f"{type_:<30} {operation:<12} {count:>12,}")
    typer.echo(f"{'':<30} {'':<12} {counts.total():>12,}")


async def _then_follow(settings: Settings, pipeline: str, begin: Start) -> None:
    source = settings.pipelines[pipeline].source
    async with reach_source(settings, source) as access:
        stored = await access.store.peek(pipeline)
        if stored is not None:
            raise Misconfigured(
                f"pipeline {pipeline} has the offset {stored.offset}: move it with `oplog-bridge offsets reset "
                f"{pipeline} --to …`, or replay without --then-follow"
            )
        offset = await access.resolve(begin)
        if access.lease is None:
            await access.set_offset(pipeline, offset)
        else:
            await move_offset(spec_of(settings, pipeline), offset=offset, store=access.store, lease=access.lease)
        resumed = await wishes.resume(access.store, source, pipeline)
        record = AuditRecord(time.time(), actor(), "replay --then-follow", pipeline, f"from {offset}")
        await access.store.record(record)
        await access.look()
    going = "it is resumed" if resumed else "`oplog-bridge run` goes on there"
    typer.echo(f"{pipeline}: begins at {offset} and stays live; {going}")


async def _list(settings: Settings, json: bool) -> None:
    rows: list[dict[str, Any]] = []
    async with opened_store(settings) as store:
        for source in settings.sources:
            found = await wishes.read(store, source)
            rows += [await _row(store, source, replay) for replay in found.replays.values()]
            rows += [
                {"name": name, "source": source, "pipeline": "", "state": "unreadable", "error": reason}
                for name, reason in found.unreadable.items()
            ]
    if json:
        print_json(rows)
        return
    typer.echo(f"{'NAME':<24} {'PIPELINE':<30} {'STATE':<10} {'FROM':>20} {'OFFSET':>20} {'TO':>20} TIME")
    for row in rows:
        typer.echo(
            f"{row['name']:<24} {row['pipeline']:<30} {row['state']:<10} {row.get('from', ''):>20} "
            f"{row.get('offset') or '-':>20} {row.get('to', ''):>20} {row.get('time') or row.get('error') or '-'}"
        )


async def _row(store: StateStore, source: str, replay: Replay) -> dict[str, Any]:
    stored = await store.peek(replay.line)
    offset = None if stored is None else stored.offset
    return {
        "name": replay.name,
        "source": source,
        "pipeline": replay.pipeline,
        "state": replay.state,
        "from": str(replay.from_offset),
        "to": str(replay.to_offset),
        "offset": None if offset is None else str(offset),
        "time": None if offset is None else time_of(offset),
        "destination": None if stored is None else stored.destination,
        "by": replay.by,
    }


async def _change(settings: Settings, name: str, state: ReplayState, *, from_states: tuple[ReplayState, ...]) -> None:
    async with opened_store(settings) as store:
        source, replay = await find(settings, store, name)
        if replay.state not in from_states:
            raise Misconfigured(f"replay {name} is {replay.state}: see `oplog-bridge replay list`")
        if not await wishes.change_replay(store, source, replay, state):
            raise Misconfigured(f"replay {name} was changed by somebody else just now: look at it again")
        await _record(store, replay, state)
        await SourceAccess(settings, source, store, None, await store.holder(source)).look()
    typer.echo(f"replay {name}: {state}")


async def _resume(settings: Settings, name: str, detach: bool) -> None:
    async with opened_store(settings) as store:
        source, replay = await find(settings, store, name)
    if replay.state != "wanted":
        await _change(settings, name, "wanted", from_states=("paused",))
    if not detach:
        await follow(settings, source, name)


async def find(settings: Settings, store: StateStore, name: str) -> tuple[str, Replay]:
    """The source that has a replay of this name, and the replay. Raises Misconfigured."""
    for source in settings.sources:
        replay = (await wishes.read(store, source)).replays.get(name)
        if replay is not None:
            return source, replay
    raise Misconfigured(f"there is no replay {name}: see `oplog-bridge replay list`")


async def _record(store: StateStore, replay: Replay, what: str) -> None:
    detail = f"{replay.name}: {replay.from_offset} -> {replay.to_offset}"
    await store.record(AuditRecord(time.time(), actor(), f"replay {what}", replay.pipeline, detail))


def _point(option: str, text: str) -> Start:
    try:
        return parse_start(text)
    except ValueError as error:
        raise ConfigError("replay", [f"{option} {text}: {error}"]) from error


def _words(given: list[str] | None) -> tuple[str, ...]:
    return tuple(word for text in given or () for word in text.split(",") if word)


def _keys(given: list[str]) -> dict[str, Any]:
    keys: dict[str, Any] = {}
    for text in given:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise ConfigError("replay", [f"--into {text}: write KEY=VALUE, such as topic=oplog.again"])
        try:
            keys[key] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise ConfigError("replay", [f"--into {key}: its value cannot be read as YAML"]) from error
    return keys
