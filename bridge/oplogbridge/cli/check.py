"""`oplog-bridge check`: validate the configuration; with --connect, try everything that it names."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from oplogbridge.cli.app import ConfigFiles, Json, app, print_json, run_async
from oplogbridge.cli.holder import SourceAccess, reach_source, spec_of
from oplogbridge.cli.run import load_settings
from oplogbridge.config import Settings
from oplogbridge.errors import BridgeError, Misconfigured
from oplogbridge.sink import SinkContext


@app.command()
def check(
    config: ConfigFiles,
    connect: Annotated[
        bool, typer.Option("--connect", help="Also try the source, the state store and the sinks.")
    ] = False,
    json: Json = False,
) -> None:
    """Validate the configuration and say what each pipeline guarantees."""
    settings = load_settings(config)
    rows = [_promise(settings, name) for name in settings.pipelines]
    problems: list[str] = []
    if connect:
        run_async(_connect(settings, problems))
    if json:
        print_json({"pipelines": rows, "problems": problems})
    else:
        for row in rows:
            typer.echo(f"{row['pipeline']}: {row['source']} -> {row['destination']}, {row['guarantee']}")
            if connect:
                for permission in row["permissions"]:
                    typer.echo(f"  needs: {permission}")
        if connect and not problems:
            typer.echo("everything answers")
    if problems:
        raise Misconfigured("\n".join(problems))


def _promise(settings: Settings, name: str) -> dict[str, Any]:
    pipeline = settings.pipelines[name]
    spec = spec_of(settings, name)
    source = settings.sources[pipeline.source]
    context = SinkContext(f"{settings.name}.{name}", name, pipeline.source, source.id)
    return {
        "pipeline": name,
        "source": pipeline.source,
        "destination": spec.make_sink().destination,
        "guarantee": spec.traits.guarantee.replace("_", " "),
        "permissions": pipeline.sink.plugin.permissions(pipeline.sink.settings, context),
    }


async def _connect(settings: Settings, problems: list[str]) -> None:
    """Try the store, then each source and its sinks. What a running instance holds is asked of it, never taken."""
    for source in settings.sources:
        pipelines = [name for name, pipeline in settings.pipelines.items() if pipeline.source == source]
        try:
            async with reach_source(settings, source) as access:
                await access.tail()
                for name in pipelines:
                    await _try_sink(settings, name, access, problems)
        except BridgeError as error:
            problems.append(f"{source}: {error}")


async def _try_sink(settings: Settings, name: str, access: SourceAccess, problems: list[str]) -> None:
    if access.lease is None:
        return  # opening the sink would fence the instance that runs it; its own status tells
    sink = spec_of(settings, name).make_sink()
    try:
        await sink.open()
    except BridgeError as error:
        problems.append(f"{name}: {error}")
    finally:
        await sink.close()
