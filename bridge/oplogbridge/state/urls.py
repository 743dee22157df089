"""`state:` is one URL. Which store it names, and what is wrong with it, without connecting.

sqlite:///oplog-bridge.db           relative to the working directory
sqlite:////var/lib/bridge/state.db  absolute
redis://user:password@host:6379/0   rediss:// with TLS; ?ssl_ca_certs=, ?ssl_certfile=, ?ssl_keyfile=
memory:                             nothing survives the process
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from oplogbridge.clock import Clock
from oplogbridge.errors import Misconfigured
from oplogbridge.state import StateStore

_SCHEMES = "sqlite:///, redis://, rediss:// and memory:"
_LATER = {"redis+sentinel": "Redis Sentinel", "redis+cluster": "Redis Cluster"}
_TLS_FILES = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
_REDIS_PORT = 6379


@dataclass(frozen=True, slots=True)
class RedisAddress:
    """Where a Redis is and who we are there. The password is in no `repr`."""

    host: str
    port: int
    database: int
    username: str | None
    password: str | None = field(repr=False)
    tls: bool = False
    ca_certs: str | None = None
    certfile: str | None = None
    keyfile: str | None = None

    def __str__(self) -> str:
        """The URL without the user: for messages."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'rediss' if self.tls else 'redis'}://{host}:{self.port}/{self.database}"


def check_url(url: str) -> str | None:
    """What is wrong with a `state:` URL, in one line without secrets; None when it can be tried."""
    try:
        _parse(url)
    except _Problem as problem:
        return str(problem)
    return None


def state_store(url: str, *, name: str, clock: Clock) -> StateStore:
    """The store that `url` names, not yet open. `name` is the configuration's and prefixes all that is kept.

    Raises:
        Misconfigured: The URL is wrong, or names Redis and the extra `redis` is not installed.
    """
    try:
        place = _parse(url)
    except _Problem as problem:
        raise Misconfigured(f"state: {problem}") from None
    # Stores are imported when they are named: nobody needs redis-py for an SQLite file.
    if isinstance(place, RedisAddress):
        try:
            from oplogbridge.state.redis import RedisStateStore
        except ModuleNotFoundError as error:
            if (error.name or "").partition(".")[0] not in ("redis", "hiredis"):
                raise
            raise Misconfigured(
                "state: a Redis URL needs the extra `redis`: pip install 'oplog-bridge[redis]'"
            ) from error
        return RedisStateStore(place, name=name)
    if isinstance(place, Path):
        from oplogbridge.state.sqlite import SqliteStateStore

        return SqliteStateStore(place, name=name, clock=clock)
    from oplogbridge.state.memory import MemoryStateStore

    return MemoryStateStore(clock)


class _Problem(Exception):
    """Never quotes what may be a password: a URL that cannot be split has it anywhere."""


def _parse(url: str) -> RedisAddress | Path | None:
    if url == "memory:":
        return None
    scheme, colon, _ = url.partition(":")
    if scheme == "sqlite":
        return _sqlite_path(url)
    if scheme in ("redis", "rediss"):
        return _redis_address(url)
    if scheme in _LATER:
        raise _Problem(f"{_LATER[scheme]} comes in a later version; this one knows {_SCHEMES}")
    if scheme == "memory":
        raise _Problem("the memory store is written `memory:`, without anything behind it")
    what = f"unknown scheme {scheme!r}" if colon and scheme.isalnum() else "not a URL"
    raise _Problem(f"{what}; this version knows {_SCHEMES}")


def _sqlite_path(url: str) -> Path:
    path = url.removeprefix("sqlite:///")
    if path == url or not path:
        raise _Problem("a SQLite URL is sqlite:///file (relative) or sqlite:////directory/file (absolute)")
    if "?" in path or "#" in path:
        raise _Problem("a SQLite URL has no options; a file name with ? or # is written with %3F or %23")
    path = unquote(path)
    if "\0" in path or path.endswith("/") or path == ":memory:":
        raise _Problem("a SQLite URL names a file; for a store in memory write `memory:`")
    return Path(path)


def _redis_address(url: str) -> RedisAddress:
    try:
        parts = urlsplit(url)
        port = _REDIS_PORT if parts.port is None else parts.port
    except ValueError:
        raise _Problem(
            "the host or port of the Redis URL cannot be read (special characters of a password are percent-encoded)"
        ) from None
    if parts.fragment or "#" in url:
        raise _Problem("a Redis URL has no #; in a password it is written %23")
    if not parts.hostname:
        raise _Problem("the Redis URL names no host: redis://host:6379/0")
    return RedisAddress(
        host=parts.hostname,
        port=port,
        database=_database(parts),
        username=unquote(parts.username) if parts.username else None,
        password=unquote(parts.password) if parts.password else None,
        tls=parts.scheme == "rediss",
        **_tls_files(parts),
    )


def _database(parts: SplitResult) -> int:
    text = parts.path.removeprefix("/")
    if not text:
        return 0
    if not (text.isascii() and text.isdigit()):
        raise _Problem("the path of a Redis URL is the number of a database: redis://host:6379/0")
    return int(text)


def _tls_files(parts: SplitResult) -> dict[str, str]:
    options = parse_qsl(parts.query, keep_blank_values=True)
    for key, _ in options:
        # Not redis-py's whole list: it can switch off the verification of certificates, and bring retries back.
        if parts.scheme != "rediss" or key not in _TLS_FILES:
            raise _Problem(f"unknown option in the Redis URL; a rediss:// URL takes {', '.join(_TLS_FILES)}")
    return {key.removeprefix("ssl_"): value for key, value in options}
