"""Connects to the server that serves us now, on redis-py's transport; nothing is ever asked of a pool.

Sentinels are asked at every connecting, one after the other until one names a server that says of itself that it is
the master: one that was cut off may name the old one. Sentinels close the connections of a master that they demote, so
that a connection which was one to the master stays one.

Of a cluster no map is kept, which would need a right and a refresh: all that we touch lies in one slot, and a node that
does not have it says who does. While the slot is on its way to another node, the old one sends us there for what it has
given away already (ASK); each request is then prefixed with ASKING, which an owner ignores.

Raises redis-py's exceptions, OSError and TimeoutError; whoever connects translates them.
"""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import suppress
from typing import Any, NamedTuple

from redis import exceptions
from redis.asyncio.connection import Connection, SSLConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from oplogbridge.redis_nodes.address import RedisAddress, Server

REDIRECTS_MAX = 4  # of one request; a cluster whose nodes agree needs one
_LASTING = (exceptions.AuthenticationError, exceptions.AuthorizationError, exceptions.NoPermissionError)
_HERE = ("", "?")  # a node that does not know by which name we reach it


class Node(NamedTuple):
    connection: Connection  # connected
    asking: bool  # ASKING goes before every request


class RedisNodes:
    """Use it from one event loop."""

    def __init__(self, address: RedisAddress) -> None:
        self._address = address
        self._servers = deque(address.servers)  # the next one to try first
        self._owner: Server | None = None  # of our slot
        self._asking = False

    async def connect(self, within_seconds: float) -> Node:
        """A connection, logged in. Each server gets a share of the time, so that a silent one does not take it all."""
        share_seconds = within_seconds / (len(self._servers) + 1)
        async with asyncio.timeout(within_seconds):
            if self._address.service is not None:
                return Node(await self._master(share_seconds), False)
            if self._owner is not None:
                return Node(await self._connected(self._owner, within_seconds), self._asking)
            share_seconds = within_seconds if len(self._servers) == 1 else share_seconds
            return Node(await self._first_of_the_named(share_seconds), False)

    def redirected(self, node: Node, error: exceptions.AskError) -> None:
        """`node` answered that another one has our slot: connect to that one next."""
        host = node.connection.host if error.host in _HERE else error.host
        self._owner, self._asking = Server(host, error.port), not isinstance(error, exceptions.MovedError)

    def doubted(self) -> None:
        """Something went wrong: what was learned is forgotten, and the next of the named servers is tried first."""
        self._owner, self._asking = None, False
        self._servers.rotate(-1)

    async def _first_of_the_named(self, share_seconds: float) -> Connection:
        for _ in range(len(self._servers) - 1):
            try:
                return await self._connected(self._servers[0], share_seconds)
            except (exceptions.RedisError, OSError):
                self._servers.rotate(-1)
        return await self._connected(self._servers[0], share_seconds)

    async def _master(self, share_seconds: float) -> Connection:
        troubles: list[Exception] = []
        for sentinel in tuple(self._servers):
            try:
                named = await self._named_by(sentinel, share_seconds)
                connection = await self._connected(named, share_seconds)
            except (exceptions.RedisError, OSError) as error:
                troubles.append(error)
                continue
            try:
                async with asyncio.timeout(share_seconds):
                    role = await _asked(connection, "ROLE")
                if role[0] == b"master":
                    return connection
                trouble: Exception = exceptions.ReadOnlyError(f"{named} is not the master, or not yet")
            except (exceptions.RedisError, OSError) as error:
                trouble = error
            except BaseException:
                await dropped(connection)
                raise
            await dropped(connection)
            troubles.append(trouble)
        raise _worst(troubles)

    async def _named_by(self, sentinel: Server, share_seconds: float) -> Server:
        connection = await self._connected(sentinel, share_seconds, sentinel=True)
        try:
            async with asyncio.timeout(share_seconds):
                named = await _asked(connection, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", str(self._address.service))
        finally:
            await dropped(connection)
        if named is None:
            raise _UnknownService(f"the sentinel {sentinel} knows no service {self._address.service!r}")
        host, port = named
        return Server(host.decode(), int(port))

    async def _connected(self, server: Server, within_seconds: float, *, sentinel: bool = False) -> Connection:
        connection = self._connection(server, sentinel=sentinel)
        try:
            async with asyncio.timeout(within_seconds):
                await connection.connect()  # type: ignore[no-untyped-call]
        except TimeoutError:
            await dropped(connection)
            raise exceptions.TimeoutError(f"{server} did not answer in time") from None
        except BaseException:
            await dropped(connection)
            raise
        return connection

    def _connection(self, server: Server, *, sentinel: bool) -> Connection:
        address = self._address
        shared: dict[str, Any] = {
            "host": server.host,
            "port": server.port,
            "db": 0 if sentinel else address.database,
            "username": address.sentinel_username if sentinel else address.username,
            "password": address.sentinel_password if sentinel else address.password,
            "protocol": 2,  # no HELLO
            "retry": Retry(NoBackoff(), 0),
            "socket_timeout": None,  # time-outs are ours: redis-py can swallow a cancellation that meets one of its own
            "socket_connect_timeout": None,
            "socket_keepalive": True,
            "health_check_interval": 0,
        }
        if address.tls:
            connection: Connection = SSLConnection(
                **shared,
                ssl_cert_reqs="required",
                ssl_check_hostname=True,
                ssl_ca_certs=address.ca_certs,
                ssl_certfile=address.certfile,
                ssl_keyfile=address.keyfile,
            )
        else:
            connection = Connection(**shared)
        # No CLIENT SETINFO: with an ACL of the least rights the server would log a denial on each connection. These
        # attributes are how redis-py 5.2 to 8 all know it; the arguments changed.
        for unsent in ("driver_info", "lib_name", "lib_version"):
            setattr(connection, unsent, None)
        return connection


class _UnknownService(exceptions.ResponseError):
    """As lasting as any other refusal, unless a sentinel that did not answer may know better."""


def _worst(troubles: list[Exception]) -> Exception:
    """The one to tell: what a person must mend, then what passes, then that nobody knows the service."""
    for error in troubles:
        if isinstance(error, _LASTING):
            return error
    return next((error for error in troubles if not isinstance(error, _UnknownService)), troubles[0])


async def _asked(connection: Connection, *command: str) -> Any:
    await connection.send_command(*command, check_health=False)
    return await connection.read_response()


async def dropped(connection: Connection) -> None:
    """Away with it, at once: a polite close first sends what is buffered, and waits for a silent peer to take it."""
    writer = getattr(connection, "_writer", None)
    if writer is not None:
        writer.transport.abort()
    with suppress(Exception):
        await connection.disconnect(nowait=True)
