"""`state:` is one URL. Which store it names, and what is wrong with it, without connecting.

sqlite:///oplog-bridge.db           relative to the working directory
sqlite:////var/lib/bridge/state.db  absolute
redis://user:password@host:6379/0   and rediss://, redis+sentinel://, redis+cluster://: see `redis_nodes.address`
memory:                             nothing survives the process
"""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote

from oplogbridge.clock import Clock
from oplogbridge.errors import Misconfigured
from oplogbridge.redis_nodes.address import SCHEMES as _REDIS_SCHEMES
from oplogbridge.redis_nodes.address import AddressError, RedisAddress, redis_address
from oplogbridge.state import StateStore

_SCHEMES = "sqlite:///, redis://, rediss://, redis+sentinel://, redis+cluster:// and memory:"


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


def state_permissions(url: str, *, name: str) -> list[str]:
    """The rights that the store must grant, a line each. Raises as `state_store`."""
    place = _parse(url)
    if not isinstance(place, RedisAddress):
        return []
    from oplogbridge.state.redis import permissions

    own, *sentinels = permissions(name, place)
    rules = [f"ACL SETUSER <user> on ><password> resetkeys -@all {own}"]
    user = "ACL SETUSER <sentinel_username> on ><sentinel_password> resetkeys resetchannels -@all"
    return rules + [f"at each sentinel: {user} {one}" for one in sentinels]


class _Problem(Exception):
    """Never quotes what may be a password: a URL that cannot be split has it anywhere."""


def _parse(url: str) -> RedisAddress | Path | None:
    if url == "memory:":
        return None
    scheme, colon, _ = url.partition(":")
    if scheme == "sqlite":
        return _sqlite_path(url)
    if scheme in _REDIS_SCHEMES:
        try:
            return redis_address(url)
        except AddressError as error:
            raise _Problem(str(error)) from None
    if scheme == "memory":
        raise _Problem("the memory store is written `memory:`, without anything behind it")
    what = f"unknown scheme {scheme!r}" if colon and scheme.replace("+", "").isalnum() else "not a URL"
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
