"""One connection to Redis, on redis-py's transport: a request, its answer, a deadline; after any doubt it is gone.

redis-py does the connecting (`redis_nodes`) and the reading. Requests are packed here, an event at a time: redis-py's
encoder costs more than all the rest, hiredis's twice as much as this. Nothing is ever repeated.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from typing import Any, NamedTuple

from redis.exceptions import AskError, NoScriptError, ResponseError

from oplogbridge.redis_nodes.nodes import Node, dropped
from oplogbridge.values import Event
from oplogbridge_sinks.redis.scripts import Script

Argument = bytes | str | int


class Packed(NamedTuple):
    """Arguments in RESP already, and how many they are."""

    text: bytes
    arguments: int


EVENT_ARGUMENTS = 4  # of a packed event: sequence, key, type, payload


class Wire:
    def __init__(self, node: Node, deadline_seconds: float) -> None:
        self.node = node
        self._connection = node.connection
        self._deadline_seconds = deadline_seconds
        self._usable = True

    async def ask(self, *requests: bytes) -> list[Any]:
        """Send packed requests at once; the answers, in order. An error that is an answer is returned, not raised.

        But for MOVED and ASK: there is nothing more to ask here, and what comes behind one (WAIT) may take its time.
        """
        if not self._usable:
            raise ConnectionError("the connection is closed")  # else redis-py would open another one, unasked
        async with self._whole():
            asking = [_ASKING] if self.node.asking else []
            await self._connection.send_packed_command([*asking, *requests], check_health=False)
            for _ in asking:
                await self._connection.read_response(disconnect_on_error=False)
            return [await self._answer() for _ in requests]

    async def run(
        self,
        script: Script,
        keys: Sequence[str],
        arguments: Sequence[Argument],
        packed: Sequence[Packed] = (),
        more: Sequence[Argument] = (),
    ) -> list[Any]:
        """Run a script with `arguments` and then those of `packed`, and the request `more` behind it; the answers."""
        tail = (len(keys), *keys, *arguments)
        behind = [pack(more)] if more else []
        answers = await self.ask(pack(("EVALSHA", script.sha, *tail), *packed), *behind)
        if isinstance(answers[0], NoScriptError):  # a new server, or SCRIPT FLUSH: it did nothing, and EVAL teaches it
            answers = await self.ask(pack(("EVAL", script.text, *tail), *packed), *behind)
        return answers

    async def _answer(self) -> Any:
        try:
            return await self._connection.read_response(disconnect_on_error=False)
        except AskError:
            raise
        except ResponseError as error:
            return error

    @contextlib.asynccontextmanager
    async def _whole(self) -> AsyncIterator[None]:
        """Between request and answer nobody may leave: who is cancelled or late there takes the connection along, or
        the late answer would be read as the answer to the next request."""
        self._usable = False
        try:
            async with asyncio.timeout(self._deadline_seconds):
                yield
        except BaseException:
            await self.close()
            raise
        self._usable = True

    async def close(self) -> None:
        usable, self._usable = self._usable, False
        if not usable:
            await dropped(self._connection)
        with contextlib.suppress(Exception):
            await self._connection.disconnect(nowait=True)


def pack(request: Sequence[Argument], *packed: Packed) -> bytes:
    """RESP of a request, whose last arguments may be packed already."""
    parts = [b"*%d\r\n" % (len(request) + sum([one.arguments for one in packed]))]
    for argument in request:
        text = argument if isinstance(argument, bytes) else str(argument).encode()
        parts.append(b"$%d\r\n%b\r\n" % (len(text), text))
    return b"".join([*parts, *[one.text for one in packed]])


def pack_event(event: Event) -> bytes:
    """Its four arguments, in one go: half of all that a batch costs us is here."""
    sequence, key, kind, payload = (event.place or event.id).encode(), event.key, event.type.encode(), event.payload
    return b"$%d\r\n%b\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n" % (
        len(sequence),
        sequence,
        len(key),
        key,
        len(kind),
        kind,
        len(payload),
        payload,
    )


_ASKING = pack(("ASKING",))
