"""The command line's frame: the application that commands register with, and the options that they share."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer
from typer.core import TyperGroup

import oplogbridge


class StartsByDefault(TyperGroup):
    """`replay PIPELINE …` is `replay start PIPELINE …`, which is for a pipeline that is called like a command."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and not args[0].startswith("-") and args[0] not in self.commands:
            args = ["start", *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    name="oplog-bridge",
    help="Carries every entry of a JourneyApps oplog to Kafka, Redis Streams and files: in order, exactly once.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
offsets_app = typer.Typer(help="See and move offsets, the destination's own position too.", no_args_is_help=True)
dead_letters_app = typer.Typer(help="What destinations would not take: see, redrive, drop.", no_args_is_help=True)
pipelines_app = typer.Typer(help="Pause and resume pipelines while they run.", no_args_is_help=True)
replay_app = typer.Typer(
    cls=StartsByDefault,
    help="Deliver a range of the log once more: replay PIPELINE --from X, and list, pause, resume, cancel.",
    no_args_is_help=True,
)
config_app = typer.Typer(help="About the configuration.", no_args_is_help=True)
app.add_typer(offsets_app, name="offsets")
app.add_typer(dead_letters_app, name="dead-letters")
app.add_typer(pipelines_app, name="pipelines")
app.add_typer(replay_app, name="replay")
app.add_typer(config_app, name="config")

ConfigFiles = Annotated[
    list[Path], typer.Option("--config", "-c", help="Configuration file; several are merged.", metavar="FILE")
]
Json = Annotated[bool, typer.Option("--json", help="One JSON document instead of a table.")]


def run_async(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(work)


def print_json(value: object) -> None:
    sys.stdout.buffer.write(orjson.dumps(value, option=orjson.OPT_INDENT_2) + b"\n")
    sys.stdout.flush()


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"oplog-bridge {oplogbridge.__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and end.")
    ] = False,
) -> None: ...
