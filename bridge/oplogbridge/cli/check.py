"""`oplog-bridge check`: validate the configuration; with --connect, try everything that it names."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated, Any

import typer

from oplogbridge.cli.app import ConfigFiles, Json, app, print_json, run_async
from oplogbridge.cli.holder import SourceAccess, opened_store, reach_source, spec_of
from oplogbridge.cli.run import load_settings
from oplogbridge.config import Settings
from oplogbridge.errors import BridgeError, Misconfigured
from oplogbridge.sink import Cautious, Sink, SinkContext
from oplogbridge.state import StateStore
from oplogbridge.state.urls import state_permissions


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
    rows = {name: _promise(settings, name) for name in settings.pipelines}
    report = Report(settings, rows)
    if connect:
        run_async(report.connect())
    if json:
        state = {"permissions": state_permissions_of(settings), "cautions": report.state_cautions}
        print_json({"pipelines": [*rows.values()], "state": state, "problems": report.problems})
    else:
        for line in report.lines(connected=connect):
            typer.echo(line)
    if report.problems:
        raise Misconfigured("\n".join(report.problems))


class Report:
    """What was found when everything was tried."""

    def __init__(self, settings: Settings, rows: dict[str, dict[str, Any]]) -> None:
        self._settings = settings
        self._rows = rows
        self.problems: list[str] = []
        self.state_cautions: list[str] = []

    def lines(self, *, connected: bool) -> Iterator[str]:
        for row in self._rows.values():
            yield f"{row['pipeline']}: {row['source']} -> {row['destination']}, {row['guarantee']}"
            if row["dead_letters"] is not None:
                yield f"  dead letters: {row['dead_letters']}"
            if connected:
                yield from (f"  needs: {permission}" for permission in row["permissions"])
                yield from (f"  verify needs: {permission}" for permission in row["verify_permissions"])
                yield from (f"  caution: {caution}" for caution in row["cautions"])
        if connected:
            yield from (f"state: needs: {permission}" for permission in state_permissions_of(self._settings))
            yield from (f"state: caution: {caution}" for caution in self.state_cautions)
            if not self.problems:
                yield "everything answers"

    async def connect(self) -> None:
        """Try the store, then each source and its sinks. What a running instance holds is asked of it, never taken."""
        settings = self._settings
        try:
            async with opened_store(settings) as store:
                self.state_cautions += await _cautions_of(store)
        except BridgeError as error:
            self.problems.append(f"state: {error}")
            return
        for source in settings.sources:
            pipelines = [name for name, pipeline in settings.pipelines.items() if pipeline.source == source]
            try:
                async with reach_source(settings, source) as access:
                    await access.tail()
                    for name in pipelines:
                        await self._try_sinks(name, access)
            except BridgeError as error:
                self.problems.append(f"{source}: {error}")

    async def _try_sinks(self, name: str, access: SourceAccess) -> None:
        if access.lease is None:
            return  # opening a sink would fence the instance that runs it; its own status tells
        spec = spec_of(self._settings, name)
        for what, make in ((name, spec.make_sink), (f"{name}, dead letters", spec.make_dead_letters)):
            if make is None:
                continue
            sink = make()
            try:
                await sink.open()
                self._rows[name]["cautions"] += await _cautions_of(sink)
            except BridgeError as error:
                self.problems.append(f"{what}: {error}")
            finally:
                await sink.close()


async def _cautions_of(opened: Sink | StateStore) -> Sequence[str]:
    return await opened.cautions() if isinstance(opened, Cautious) else []


def state_permissions_of(settings: Settings) -> list[str]:
    return state_permissions(settings.state.get_secret_value(), name=settings.name)


def _promise(settings: Settings, name: str) -> dict[str, Any]:
    pipeline = settings.pipelines[name]
    spec = spec_of(settings, name)
    source = settings.sources[pipeline.source]
    owner = f"{settings.name}.{name}"
    own = context = SinkContext(owner, name, pipeline.source, source.id)
    permissions = pipeline.sink.plugin.permissions(pipeline.sink.settings, context)
    letters = pipeline.dead_letter if spec.make_dead_letters is not None else None
    if letters is not None:
        context = SinkContext(f"{owner}.dead-letters", name, pipeline.source, source.id)
        permissions = [*permissions, *letters.plugin.permissions(letters.settings, context)]
    return {
        "pipeline": name,
        "source": pipeline.source,
        "destination": spec.make_sink().destination,
        "dead_letters": None if spec.make_dead_letters is None else spec.make_dead_letters().destination,
        "guarantee": spec.traits.guarantee.replace("_", " "),
        "permissions": permissions,
        "verify_permissions": pipeline.sink.plugin.reader_permissions(pipeline.sink.settings, own),
        "cautions": [],
    }
