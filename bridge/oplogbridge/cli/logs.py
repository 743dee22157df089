"""Log set-up: one line an event of a pipeline's life, never one a page or an entry; to stderr."""

from __future__ import annotations

import logging
import sys
from typing import Any, BinaryIO, Literal

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
        factory = structlog.BytesLoggerFactory(LossyLog(sys.stderr.buffer))  # type: ignore[arg-type]
    else:
        renderers.append(structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty()))
        factory = structlog.PrintLoggerFactory(LossyLog(sys.stderr.buffer))  # type: ignore[arg-type]
    structlog.configure(
        processors=renderers,
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]),
        logger_factory=factory,
        cache_logger_on_first_use=False,  # module-level loggers exist before this runs
    )
    logging.basicConfig(stream=sys.stderr, level=logging.CRITICAL)


class LossyLog:
    """Loses lines rather than the line: a full disk under the log, or a reader of it that went away, once ended the
    whole bridge. How many were lost is said when there is room again."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = getattr(stream, "raw", stream)  # a buffer would keep what it could not write, and try it again
        self._lost = 0

    def write(self, text: bytes | str) -> int:
        """The whole text, or none or some of it. Never raises OSError."""
        whole = text.encode(errors="backslashreplace") if isinstance(text, str) else text
        try:
            if self._lost:
                self._put(orjson.dumps({"event": "log lines lost", "level": "warning", "lines": self._lost}) + b"\n")
                self._lost = 0
            self._put(whole)
        except OSError:
            self._lost += 1
        return len(text)

    def flush(self) -> None:
        """Nothing is kept."""

    def _put(self, left: bytes) -> None:
        while left:
            written = self._stream.write(left)
            if written is None:  # not blocking, and full: to try until somebody reads would stand still with all of it
                raise BlockingIOError
            left = left[written:]
