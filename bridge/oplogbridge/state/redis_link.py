"""Connections to one Redis: a command is sent once, its answer is read or the connection is thrown away.

redis-py's client and pool are left aside: their retries repeat commands, and what becomes of a connection whose answer
did not come in time depends on the version. Here one rule covers it: after anything but a whole answer the connection
is closed, and a late answer has nobody to be paired with. An answer that another node of a cluster has our keys (MOVED,
ASK) says that nothing was done: the command is sent there.
"""

from __future__ import annotations

import asyncio
import re
import ssl
from contextlib import suppress
from typing import Any

from redis import exceptions

from oplogbridge.errors import BridgeError, Misconfigured, Unavailable
from oplogbridge.redis_nodes.address import RedisAddress
from oplogbridge.redis_nodes.nodes import REDIRECTS_MAX, Node, RedisNodes
from oplogbridge.state.redis_scripts import Script

_CONNECTIONS_MAX = 8  # a save is under a millisecond of the server's time: more would only queue there
_CLOSE_SECONDS = 1.0
_IDLE_SECONDS_MAX = 30.0  # servers and load balancers close idle connections; ours go first

# What a rightly configured server answers while it cannot serve. Any other error that it answers needs a person.
_PASSING = (
    exceptions.BusyLoadingError,
    exceptions.ClusterDownError,
    exceptions.OutOfMemoryError,
    exceptions.AskError,  # after REDIRECTS_MAX of them; MOVED is a kind of ASK
    exceptions.ReadOnlyError,  # the fail-over is not over, or the name still leads to the old primary
    exceptions.TryAgainError,
)
# The same where redis-py has no class, or where the code stands inside the error of a script (Redis 6).
_PASSING_CODES = re.compile(r"\b(BUSY|CLUSTERDOWN|LOADING|MASTERDOWN|MISCONF|NOREPLICAS|OOM|READONLY|TRYAGAIN)\b")
_LASTING = (
    exceptions.AuthenticationError,
    exceptions.AuthorizationError,
    exceptions.AuthenticationWrongNumberOfArgsError,
)


class RedisLink:
    """`call` and `run` raise `Unavailable` within `deadline_seconds`, or `Misconfigured`; nothing of redis-py."""

    def __init__(self, address: RedisAddress, *, deadline_seconds: float) -> None:
        self._address = address
        self._deadline_seconds = deadline_seconds
        self._nodes = RedisNodes(address)
        self._idle: list[tuple[float, Node]] = []  # with the time it became idle; the newest last
        self._places = asyncio.Semaphore(_CONNECTIONS_MAX)
        self._closed = False

    def __repr__(self) -> str:
        return f"RedisLink({self._address})"

    async def run(self, script: Script, keys: list[str], arguments: list[str]) -> Any:
        """EVALSHA, and EVAL when the server does not know the script yet (then nothing of it has happened)."""
        rest = [str(len(keys)), *keys, *arguments]
        return await self._exchange("EVALSHA", script.sha1, *rest, unknown_script=("EVAL", script.text, *rest))

    async def call(self, *command: str) -> Any:
        return await self._exchange(*command, unknown_script=None)

    async def close(self) -> None:
        """Connections in use are closed by their users."""
        self._closed = True
        idle, self._idle = self._idle, []
        with suppress(TimeoutError, exceptions.RedisError):
            async with asyncio.timeout(_CLOSE_SECONDS):
                await asyncio.gather(*(node.connection.disconnect() for _, node in idle))

    async def _exchange(self, *command: str, unknown_script: tuple[str, ...] | None) -> Any:
        try:
            async with asyncio.timeout(self._deadline_seconds), self._places:
                for _ in range(1 + REDIRECTS_MAX):
                    answer = await self._exchange_with_a_node(command, unknown_script)
                    if not isinstance(answer, exceptions.AskError):
                        break
        except TimeoutError:
            await self._doubt()
            raise Unavailable(f"{self._address} did not answer within {self._deadline_seconds:g} s") from None
        except exceptions.RedisError as error:
            answer = error
        if isinstance(answer, exceptions.RedisError):
            await self._doubt()
            raise self._translated(answer) from self._cause(answer)
        return answer

    async def _exchange_with_a_node(self, command: tuple[str, ...], unknown_script: tuple[str, ...] | None) -> Any:
        node = await self._take()
        whole = False
        try:
            answer = await self._ask(node, command)
            if isinstance(answer, exceptions.NoScriptError) and unknown_script is not None:
                answer = await self._ask(node, unknown_script)
            whole = not isinstance(answer, Exception)
        finally:
            if whole and not self._closed:
                await self._give_back(node)
            else:
                await node.connection.disconnect(nowait=True)
        if isinstance(answer, exceptions.AskError):
            self._nodes.redirected(node, answer)
            await self._drop_idle()
        return answer

    async def _ask(self, node: Node, command: tuple[str, ...]) -> Any:
        """The server's answer; an error that it answered is returned, whatever else went wrong is raised."""
        connection = node.connection
        if node.asking:
            await connection.send_command("ASKING", check_health=False)
            await connection.read_response()
        await connection.send_command(*command, check_health=False)
        try:
            return await connection.read_response()
        except exceptions.ResponseError as error:
            return error

    async def _take(self) -> Node:
        if self._idle:
            since, node = self._idle[-1]
            if asyncio.get_running_loop().time() - since < _IDLE_SECONDS_MAX:
                self._idle.pop()
                return node
            await self._drop_idle()  # the newest was idle for too long, so were all
        return await self._nodes.connect(self._deadline_seconds)

    async def _give_back(self, node: Node) -> None:
        now = asyncio.get_running_loop().time()
        self._idle.append((now, node))
        while now - self._idle[0][0] >= _IDLE_SECONDS_MAX:
            await self._idle.pop(0)[1].connection.disconnect(nowait=True)

    async def _doubt(self) -> None:
        """Idle connections may lead to the same demoted primary, or to the old address of a name."""
        self._nodes.doubted()
        await self._drop_idle()

    async def _drop_idle(self) -> None:
        idle, self._idle = self._idle, []
        for _, node in idle:
            await node.connection.disconnect(nowait=True)

    def _translated(self, error: exceptions.RedisError) -> BridgeError:
        text = self._address.without_secrets(str(error))
        if isinstance(error, _LASTING):
            return Misconfigured(f"{self._address} refused the login ({text}): check user and password in `state:`")
        if isinstance(error, exceptions.NoPermissionError):
            return Misconfigured(f"{self._address} denies a right ({text}): grant what `check --connect` prints")
        if "WRONGTYPE" in text:
            return Misconfigured(
                f"{self._address} holds another program's key in place of ours ({text}): change `name:`"
            )
        if isinstance(error.__context__, ssl.SSLError | FileNotFoundError | PermissionError) and not isinstance(
            error.__context__, ssl.SSLEOFError | ssl.SSLZeroReturnError
        ):
            return Misconfigured(
                f"{self._address}: {text}: check the certificate, ?ssl_ca_certs=, ?ssl_certfile= and ?ssl_keyfile= in "
                "`state:`; rediss:// is for a server that speaks TLS"
            )
        if self._address.tls and isinstance(error.__context__, ConnectionResetError | BrokenPipeError):
            # TLS 1.3 refuses a client after the handshake; the reset that follows can overtake the reason.
            text += "; if that goes on, check ?ssl_certfile= in `state:`"
        passing = isinstance(error, _PASSING) or _PASSING_CODES.search(text)
        if isinstance(error, exceptions.ResponseError) and not passing:
            return Misconfigured(f"{self._address} refused a command ({text}): check what `state:` leads to")
        return Unavailable(f"{self._address} is not available: {text}")

    def _cause(self, error: Exception) -> Exception | None:
        """Kept for the log, unless it repeats the password (a server quotes the arguments of what it does not know)."""
        return error if self._address.without_secrets(str(error)) == str(error) else None
