"""The table in docs/architecture.md of what client libraries can raise: made from the code, `make docs` writes it.

Each exception class of a client library is made, handed to the one place where its sink or store translates, and listed
under what came out. A test holds the document to it, so a new version of a library with a new class is noticed.
"""

from __future__ import annotations

import errno
import os
import sqlite3
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import ModuleType

import aiohttp
import aiokafka.errors
import nats.errors
import nkeys
import redis.exceptions

from marked import filled
from oplogbridge.errors import BridgeError
from oplogbridge.redis_nodes.address import redis_address
from oplogbridge.state.redis_link import RedisLink
from oplogbridge.state.sqlite_file import translated as sqlite_translated
from oplogbridge_sinks.file.failures import translate as file_translate
from oplogbridge_sinks.kafka.failures import translate as kafka_translate
from oplogbridge_sinks.nats.answers import Failed
from oplogbridge_sinks.nats.failures import refusal, translate
from oplogbridge_sinks.redis.refusals import translate as redis_translate
from oplogbridge_sinks.webhook.sink import _translate as webhook_translate

DOCUMENT = Path(__file__).parent.parent / "docs" / "architecture.md"
ADDRESS = redis_address("redis://127.0.0.1:6379/0")
# What JetStream answers is a number; these are its own names for those that we tell apart.
JETSTREAM_CODES = {
    10023: "insufficient resources",
    10035: "maximum consumers",
    10039: "not enabled for the account",
    10047: "insufficient storage",
    10054: "message size exceeds maximum",
    10059: "stream not found",
    10071: "wrong last sequence",
    10076: "not enabled",
    10077: "maximum messages",
    10164: "wrong last sequence (constant)",
    10167: "memory exceeded",
    10176: "batch incomplete",
}
# Its result codes; sqlite3 has many more names, of functions and limits.
SQLITE_CODES = (
    *("AUTH", "BUSY", "CANTOPEN", "CONSTRAINT", "CORRUPT", "ERROR", "FORMAT", "FULL", "INTERNAL", "IOERR"),
    *("LOCKED", "MISMATCH", "MISUSE", "NOLFS", "NOMEM", "NOTADB", "PERM", "PROTOCOL", "READONLY", "SCHEMA", "TOOBIG"),
)


def classes(module: ModuleType, root: type[BaseException]) -> list[type[BaseException]]:
    """Those defined there."""
    found = {one for one in vars(module).values() if isinstance(one, type) and issubclass(one, root)}
    return sorted((one for one in found if one.__module__.startswith(module.__name__)), key=lambda one: one.__name__)


def made(kind: type[BaseException]) -> BaseException:
    """One, as its library makes it; those that want more than a text get it, or are made without their text."""
    for arguments in ((), ("text",), ("1 127.0.0.1:7000",)):
        try:
            error = kind(*arguments)
            str(error)
        except Exception:
            continue
        return error
    silent = type(kind.__name__, (kind,), {"__init__": lambda self: None, "__str__": lambda self: "text"})
    error = silent()
    assert isinstance(error, BaseException)
    return error


def groups(pairs: Iterable[tuple[str, BridgeError]]) -> dict[str, list[str]]:
    """Names by what they become."""
    found: dict[str, list[str]] = {}
    for name, error in pairs:
        found.setdefault(type(error).__name__, []).append(name)
    return found


def kafka() -> Iterator[tuple[str, BridgeError]]:
    for kind in classes(aiokafka.errors, aiokafka.errors.KafkaError):
        yield kind.__name__, kafka_translate(made(kind), "write", 5.0)


def redis_sink() -> Iterator[tuple[str, BridgeError]]:
    for kind in classes(redis.exceptions, redis.exceptions.RedisError):
        yield kind.__name__, redis_translate(made(kind), "redis:s", ADDRESS)


def redis_store() -> Iterator[tuple[str, BridgeError]]:
    link = RedisLink(ADDRESS, deadline_seconds=1.0)
    for kind in classes(redis.exceptions, redis.exceptions.RedisError):
        yield kind.__name__, link._translated(made(kind))


def nats_client() -> Iterator[tuple[str, BridgeError]]:
    for kind in [*classes(nats.errors, nats.errors.Error), *classes(nkeys, nkeys.NkeysError)]:
        yield kind.__name__, translate(made(kind), "nats:S", ())


def jetstream() -> Iterator[tuple[str, BridgeError]]:
    for code, name in JETSTREAM_CODES.items():
        yield f"{code} {name}", refusal(Failed(400, code), "nats:S")
    for kind in (400, 404, 500, 503):
        yield f"any other of {kind}", refusal(Failed(kind, 1), "nats:S")


def http() -> Iterator[tuple[str, BridgeError]]:
    for kind in classes(aiohttp, aiohttp.ClientError):
        yield kind.__name__, webhook_translate(made(kind), "webhook:x")


def disk() -> Iterator[tuple[str, BridgeError]]:
    for code, name in sorted(errno.errorcode.items()):
        yield name, file_translate(OSError(code, os.strerror(code)), "file:x")


def sqlite() -> Iterator[tuple[str, BridgeError]]:
    for name in SQLITE_CODES:
        yield f"SQLITE_{name}", sqlite_translated(_sqlite_error(getattr(sqlite3, f"SQLITE_{name}")), Path("state.db"))


def _sqlite_error(code: int) -> sqlite3.Error:
    error = sqlite3.OperationalError("text")
    error.sqlite_errorcode = code
    return error


TABLES: dict[str, Callable[[], Iterator[tuple[str, BridgeError]]]] = {
    "aiokafka: kafka": kafka,
    "redis-py: redis": redis_sink,
    "redis-py: state store": redis_store,
    "nats-py, nkeys: nats": nats_client,
    "JetStream's answers: nats": jetstream,
    "aiohttp: webhook": http,
    "the operating system: file": disk,
    "SQLite: state store": sqlite,
}
MANY = 24  # of one library's names; the rest of Unavailable, which is what is not known better, is a number


def table() -> str:
    lines = ["| raised by, in | becomes | |", "|---|---|---|"]
    for title, pairs in TABLES.items():
        for outcome, names in sorted(groups(pairs()).items()):
            shown = ", ".join(f"`{name}`" if " " not in name else name for name in names)
            if outcome == "Unavailable" and len(names) > MANY:
                shown = "all others" if pairs is disk else f"all others ({len(names)})"  # errnos are the platform's
            lines.append(f"| {title} | `{outcome}` | {shown} |")
    return "\n".join(lines)


def written(document: str) -> str:
    """The document with the table as it is now."""
    return filled(document, "the table of exceptions", table())


if __name__ == "__main__":
    DOCUMENT.write_text(written(DOCUMENT.read_text()))
    sys.stdout.write(f"{DOCUMENT.name}\n")
