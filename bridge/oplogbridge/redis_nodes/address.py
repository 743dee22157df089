"""What a Redis URL means, without connecting. Pure.

redis://user:password@host:6379/0                          one server
redis+sentinel://user:password@host:26379,host/service/0   the master that these sentinels name
redis+cluster://user:password@host:6379,host               a Redis Cluster, of which some nodes are named

With `rediss` for `redis` everything is TLS: ?ssl_ca_certs=, ?ssl_certfile=, ?ssl_keyfile=. User and password are those
of the servers with the data; the sentinels' own are ?sentinel_username= and ?sentinel_password=.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import NamedTuple
from urllib.parse import parse_qsl, unquote

SCHEMES = ("redis", "rediss", "redis+sentinel", "rediss+sentinel", "redis+cluster", "rediss+cluster")

_PORT, _SENTINEL_PORT = 6379, 26379
# Not redis-py's whole list: it can switch off the verification of certificates, and bring retries back.
_TLS_OPTIONS = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
_SENTINEL_OPTIONS = ("sentinel_username", "sentinel_password")
_PARTS = re.compile(r"(?P<scheme>[a-z+]+)://(?P<authority>[^/?#]*)(?P<path>/[^?#]*)?(?:\?(?P<query>[^#]*))?", re.ASCII)
_AUTHORITY = re.compile(r"(?:(?P<user>[^\s\[\]:]*)(?::(?P<password>[^\s\[\]]*))?@)?(?P<servers>[^\s@]*)")
_SERVER = re.compile(r"(?P<host>\[[0-9A-Fa-f:.%]+\]|[^\s\[\]:@]+)(?::(?P<port>[0-9]{1,5}))?")


class AddressError(ValueError):
    """What is wrong with a URL. Never quotes what may be a password: a URL that cannot be split has it anywhere."""


class Server(NamedTuple):
    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class RedisAddress:
    """Where a Redis is and who we are there. No password is in any `repr`."""

    servers: tuple[Server, ...]  # sentinels where there is a `service`, else servers with the data
    database: int = 0
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    service: str | None = None  # what the sentinels call it
    sentinel_username: str | None = None
    sentinel_password: str | None = field(default=None, repr=False)
    cluster: bool = False
    tls: bool = False
    ca_certs: str | None = None
    certfile: str | None = None
    keyfile: str | None = None

    def __str__(self) -> str:
        """The URL without users, passwords and files: for messages."""
        scheme = "rediss" if self.tls else "redis"
        scheme += "+cluster" if self.cluster else "" if self.service is None else "+sentinel"
        place = "" if self.service is None else f"/{self.service}"
        place += "" if self.cluster else f"/{self.database}"
        return f"{scheme}://{','.join(map(str, self.servers))}{place}"

    def without_secrets(self, text: str) -> str:
        """A server quotes the arguments of what it does not know: our passwords among them."""
        for secret in (self.password, self.sentinel_password):
            text = text.replace(secret, "***") if secret else text
        return text


def redis_address(url: str) -> RedisAddress:
    """Raises AddressError: one line, without secrets, that says what is allowed."""
    if "#" in url:
        raise AddressError("a Redis URL has no #; in a password it is written %23")
    parts = _PARTS.fullmatch(url)
    authority = _AUTHORITY.fullmatch(parts["authority"]) if parts else None
    if parts is None or authority is None or parts["scheme"] not in SCHEMES:
        raise AddressError(
            "the Redis URL cannot be read: it is redis://user:password@host:6379/0, with special characters of a "
            "password percent-encoded"
        )
    secured, kind = parts["scheme"].startswith("rediss"), parts["scheme"].partition("+")[2]
    options = _options(parts["query"] or "", secured=secured, sentinel=kind == "sentinel")
    service, database = _place((parts["path"] or "").removeprefix("/"), kind)
    return RedisAddress(
        servers=_servers(authority["servers"], kind),
        database=database,
        username=unquote(authority["user"]) if authority["user"] else None,
        password=unquote(authority["password"]) if authority["password"] else None,
        service=service,
        cluster=kind == "cluster",
        tls=secured,
        **options,
    )


def _servers(text: str, kind: str) -> tuple[Server, ...]:
    if text.partition(":")[0] == "":
        raise AddressError("the Redis URL names no host: redis://host:6379/0")
    found = [_SERVER.fullmatch(one) for one in text.split(",")]
    if len(found) > 1 and not kind:
        raise AddressError("several hosts are for redis+sentinel:// and redis+cluster://; a redis:// URL names one")
    servers = []
    for one in found:
        port = _SENTINEL_PORT if kind == "sentinel" else _PORT
        if one is not None and one["port"] is not None:
            port = int(one["port"])
        if one is None or not 0 < port < 65536:
            raise AddressError(
                "the host or port of the Redis URL cannot be read (special characters of a password are "
                "percent-encoded)"
            )
        servers.append(Server(one["host"].strip("[]").lower(), port))
    return tuple(servers)


def _place(path: str, kind: str) -> tuple[str | None, int]:
    """What stands behind the hosts: the service, the database."""
    service: str | None = None
    if kind == "sentinel":
        name, _, path = path.partition("/")
        service = unquote(name)
        if not service:
            raise AddressError(
                "the Redis URL names no service, as the sentinels call it: redis+sentinel://host:26379/service/0"
            )
    if path and not (path.isascii() and path.isdigit()):
        raise AddressError("the path of a Redis URL ends in the number of a database: redis://host:6379/0")
    database = int(path or 0)
    if kind == "cluster" and database:
        raise AddressError("a Redis Cluster has database 0 alone: redis+cluster://host:6379")
    return service, database


def _options(query: str, *, secured: bool, sentinel: bool) -> dict[str, str]:
    allowed = (*(_TLS_OPTIONS if secured else ()), *(_SENTINEL_OPTIONS if sentinel else ()))
    options: dict[str, str] = {}
    for key, value in parse_qsl(query, keep_blank_values=True):
        if key not in allowed:
            takes = ", ".join(allowed) or "none, but ssl_… where it begins with rediss://"
            raise AddressError(f"unknown option in the Redis URL; this one takes {takes}")
        if not value:
            raise AddressError(f"the option {key} of the Redis URL is empty; leave it out or give it a value")
        options[key.removeprefix("ssl_")] = value
    if "keyfile" in options and "certfile" not in options:
        raise AddressError("ssl_keyfile in the Redis URL needs the certificate that it belongs to, ssl_certfile")
    return options
