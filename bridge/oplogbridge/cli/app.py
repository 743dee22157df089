"""The commands by name, and the one place where an error becomes a line and an exit code."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer

import oplogbridge
from oplogbridge.errors import BridgeError, ConfigError

EXIT_UNEXPECTED = 1
EXIT_CONFIGURATION = 2
EXIT_STOPPED = 3

app = typer.Typer(
    name="oplog-bridge",
    help="Carries every entry of a JourneyApps oplog to Kafka, Redis Streams and files: in order, exactly once.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
offsets_app = typer.Typer(help="See and move offsets, the destination's own position too.", no_args_is_help=True)
config_app = typer.Typer(help="About the configuration.", no_args_is_help=True)
app.add_typer(offsets_app, name="offsets")
app.add_typer(config_app, name="config")

ConfigFiles = Annotated[
    list[Path], typer.Option("--config", "-c", help="Configuration file; several are merged.", metavar="FILE")
]
Json = Annotated[bool, typer.Option("--json", help="One JSON document instead of a table.")]


def main() -> None:
    """Run a command; errors are one line with the next step, never a traceback."""
    try:
        code = app(standalone_mode=False)
    except typer.Abort:
        _fail("interrupted", 130)
    except typer.TyperException as error:
        _fail(f"{getattr(error, 'format_message', error.__str__)()}: see --help", EXIT_CONFIGURATION)
    except ConfigError as error:
        _fail(str(error), EXIT_CONFIGURATION)
    except BridgeError as error:
        _fail(str(error), EXIT_STOPPED)
    except BrokenPipeError:
        # Whoever read our output has left. What is still buffered must not be tried again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(EXIT_UNEXPECTED)
    except Exception as error:
        cause: BaseException = error
        while isinstance(cause, BaseExceptionGroup):  # from a TaskGroup: its first trouble is the one to tell
            cause = cause.exceptions[0]
        if isinstance(cause, BridgeError):
            _fail(str(cause), EXIT_STOPPED)
        _fail(f"unexpected {type(cause).__name__}: {cause}; please report it", EXIT_UNEXPECTED)
    sys.exit(code if isinstance(code, int) else 0)


def _fail(line: str, code: int) -> None:
    sys.stderr.write(f"oplog-bridge: {line}\n")
    sys.exit(code)


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


# Each command lives in a module of its own and registers itself when imported.
from oplogbridge.cli import check, configuration, demo, emulator, offsets, run, tail  # noqa: E402, F401
