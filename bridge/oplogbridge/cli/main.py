"""The one place where an error becomes a line and an exit code."""

from __future__ import annotations

import asyncio
import os
import sys

import typer

# Each command lives in a module of its own and registers itself when imported.
from oplogbridge.cli import (  # noqa: F401
    audit,
    check,
    configuration,
    dead_letters,
    demo,
    emulator,
    offsets,
    offsets_exchange,
    pipelines,
    replay,
    run,
    snapshot,
    tail,
    verify,
)
from oplogbridge.cli.app import app
from oplogbridge.errors import BridgeError, ConfigError, first_cause

EXIT_UNEXPECTED = 1
EXIT_CONFIGURATION = 2
EXIT_STOPPED = 3
EXIT_SIGNALLED = 130


def main() -> None:
    """Run a command; errors are one line with the next step, never a traceback."""
    try:
        code = app(standalone_mode=False)
    except typer.Abort:
        _fail("interrupted", EXIT_SIGNALLED)
    except typer.TyperException as error:
        said = str(getattr(error, "format_message", error.__str__)()).rstrip(".")
        _fail(f"{said}: see --help", EXIT_CONFIGURATION)
    except ConfigError as error:
        _fail(str(error), EXIT_CONFIGURATION)
    except BridgeError as error:
        _fail(str(error), EXIT_STOPPED)
    except asyncio.CancelledError:
        _fail("ended before the write in flight was finished; it is read again at the next start", EXIT_SIGNALLED)
    except BrokenPipeError:
        # Whoever read our output has left. What is still buffered must not be tried again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(EXIT_UNEXPECTED)
    except Exception as error:
        cause = first_cause(error)
        if isinstance(cause, BridgeError):
            _fail(str(cause), EXIT_STOPPED)
        _fail(f"unexpected {type(cause).__name__}: {cause}; please report it", EXIT_UNEXPECTED)
    sys.exit(code if isinstance(code, int) else 0)


def _fail(line: str, code: int) -> None:
    sys.stderr.write(f"oplog-bridge: {line}\n")
    sys.exit(code)
