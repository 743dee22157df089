"""`oplog-bridge emulator`: the vendor's backend API on this machine."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from pathlib import Path
from typing import Annotated

import typer

from oplogbridge.cli.app import app, run_async
from oplogbridge.emulator.deployments import read_deployments
from oplogbridge.emulator.server import serve
from oplogbridge.emulator.settings import DEPLOYMENT_DEFAULT, ENVIRONMENT_PREFIX, LISTEN_DEFAULT, EmulatorSettings
from oplogbridge.errors import ConfigError, Misconfigured


def _env(name: str) -> str:
    return ENVIRONMENT_PREFIX + name


@app.command()
def emulator(
    listen: Annotated[str, typer.Option(envvar=_env("LISTEN"), metavar="HOST:PORT")] = LISTEN_DEFAULT,
    origin: Annotated[
        str | None,
        typer.Option(envvar=_env("ORIGIN"), metavar="URL", help="How clients reach it, for the URLs that it gives."),
    ] = None,
    deployment: Annotated[str, typer.Option(envvar=_env("DEPLOYMENT"), metavar="ID")] = DEPLOYMENT_DEFAULT,
    username: Annotated[str | None, typer.Option(envvar=_env("USERNAME"), help="Default: the deployment's id.")] = None,
    password: Annotated[
        str | None, typer.Option(envvar=_env("PASSWORD"), help="Without it and without --token, all are let in.")
    ] = None,
    token: Annotated[list[str] | None, typer.Option("--token", envvar=_env("TOKEN"), help="May be repeated.")] = None,
    data: Annotated[str, typer.Option(envvar=_env("DATA"), help="A SQLite file, or memory.")] = "memory",
    seed: Annotated[int, typer.Option(envvar=_env("SEED"), help="Of the workload.")] = 0,
    entries: Annotated[int, typer.Option(envvar=_env("ENTRIES"), min=0, help="Written at start.")] = 0,
    entry_bytes: Annotated[
        int | None, typer.Option(envvar=_env("ENTRY_BYTES"), min=1, help="Every entry exactly so long.")
    ] = None,
    rate: Annotated[float, typer.Option(envvar=_env("RATE"), min=0, help="Writes a second from then on.")] = 0.0,
    load: Annotated[
        Path | None, typer.Option(envvar=_env("LOAD"), exists=True, dir_okay=False, help="JSON Lines to play as a log.")
    ] = None,
    model: Annotated[
        Path | None,
        typer.Option(
            envvar=_env("MODEL"), exists=True, dir_okay=False, help="The data model: YAML, or the vendor's JSON."
        ),
    ] = None,
    deployments: Annotated[
        Path | None,
        typer.Option(
            envvar=_env("DEPLOYMENTS"), exists=True, dir_okay=False, help="YAML: further deployments, by their ids."
        ),
    ] = None,
    faults: Annotated[
        Path | None, typer.Option(envvar=_env("FAULTS"), exists=True, dir_okay=False, help="A JSON array of faults.")
    ] = None,
) -> None:
    """Serve the vendor's backend API, for development and tests. Prints the base URL once it answers."""
    settings = EmulatorSettings(
        listen=listen,
        origin=origin,
        deployment=deployment,
        username=username,
        password=password,
        tokens=tuple(token or ()),
        data="memory" if data == "memory" else Path(data),
        seed=seed,
        entries=entries,
        entry_bytes=entry_bytes,
        rate=rate,
        load=load,
        faults=faults,
        model=model,
        more=() if deployments is None else tuple(read_deployments(deployments)),
    )
    run_async(_serve(settings))


async def _serve(settings: EmulatorSettings) -> None:
    serving = asyncio.ensure_future(serve(settings, ready=lambda url: typer.echo(f"v4 {url}")))
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, serving.cancel)
    try:
        with contextlib.suppress(asyncio.CancelledError):
            await serving
    except ValueError as error:
        raise ConfigError("emulator", [str(error)]) from error
    except OSError as error:
        raise Misconfigured(f"emulator: {error.strerror or error}: choose another --listen or --data") from error
