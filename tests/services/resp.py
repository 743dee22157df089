"""Says one thing to a Redis server and hears its answer: enough for setting servers up."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from typing import Any, BinaryIO

from services.process import ServerFailed, ServerProcess

_ANSWER_WITHIN_SECONDS = 10.0
_WITHIN_SECONDS = 30.0
_POLL_INTERVAL_SECONDS = 0.02


class ErrorAnswer(OSError):
    """The server refused; most callers ask again."""


def ask(server: ServerProcess, *words: object) -> Any:
    """The answer: text, int, None, or a list of those."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=_ANSWER_WITHIN_SECONDS) as connection:
        packed = b"".join(b"$%d\r\n%b\r\n" % (len(text), text) for text in (str(word).encode() for word in words))
        connection.sendall(b"*%d\r\n%b" % (len(words), packed))
        with connection.makefile("rb") as answer:
            return _read(answer)


def _read(answer: BinaryIO) -> Any:
    line = answer.readline()
    kind, rest = line[:1], line[1:].strip().decode()
    if kind == b"-":
        raise ErrorAnswer(rest)
    if kind == b":":
        return int(rest)
    if kind == b"$":
        return None if rest == "-1" else answer.read(int(rest) + 2)[:-2].decode(errors="replace")
    if kind == b"*":
        return None if rest == "-1" else [_read(answer) for _ in range(int(rest))]
    if kind != b"+":
        raise ConnectionError(f"no answer: {line!r}")
    return rest


def until(condition: Callable[[], bool], what: str, server: ServerProcess) -> None:
    """Looks again and again; a server that is not there or refuses means: not yet."""
    deadline = time.monotonic() + _WITHIN_SECONDS
    trouble: OSError | None = None
    while time.monotonic() < deadline:
        try:
            if condition():
                return
        except OSError as error:
            trouble = error
        time.sleep(_POLL_INTERVAL_SECONDS)
    raise ServerFailed(f"not within {_WITHIN_SECONDS:g}s: {what} ({trouble})\n{server.log_tail()}")
