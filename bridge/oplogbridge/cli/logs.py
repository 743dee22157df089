"""Log set-up: one line an event of a pipeline's life, never one a page or an entry; to stderr."""

from __future__ import annotations

import logging
import sys
from typing import Any, Literal

import orjson
import structlog

LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


def set_up_logs(*, level: str, format: Literal["json", "console"]) -> None:  # noqa: A002
    """`json` for machines, `console` for people. Client libraries' own logs are kept to errors: their warnings about
    every lost connection would bury ours, which say the same once."""
    renderers: list[Any] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    factory: Any
    if format == "json":
        renderers.append(
            structlog.processors.JSONRenderer(serializer=lambda event, **_: orjson.dumps(event, default=str))
        )
        factory = structlog.BytesLoggerFactory(sys.stderr.buffer)
    else:
        renderers.append(structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty()))
        factory = structlog.PrintLoggerFactory(sys.stderr)
    structlog.configure(
        processors=renderers,
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]),
        logger_factory=factory,
        cache_logger_on_first_use=False,  # module-level loggers exist before this runs
    )
    logging.basicConfig(stream=sys.stderr, level=logging.CRITICAL)
