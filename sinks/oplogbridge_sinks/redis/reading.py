"""Reads the streams back, beside whoever writes them: XRANGE over a connection of its own; it touches no token."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

from redis.exceptions import AskError, RedisError, ResponseError

from oplogbridge.errors import Misconfigured, Unavailable
from oplogbridge.identity import identity_of
from oplogbridge.redis_nodes.nodes import REDIRECTS_MAX, RedisNodes
from oplogbridge.sink import Delivered, Lane, SinkContext
from oplogbridge.values import Event
from oplogbridge_sinks.redis.names import hash_of, shown, streams_of
from oplogbridge_sinks.redis.refusals import translate
from oplogbridge_sinks.redis.settings import RedisSettings
from oplogbridge_sinks.redis.wire import Argument, Wire, pack

PAGE_BYTES = 4 << 20  # aimed at: by what an entry took on the page before
ENTRIES_FIRST, ENTRIES_MAX = 100, 1_000
COMMANDS = "+xrange"  # the others are a writer's, too
_ID_PART_MAX = 2**64 - 1  # of both numbers of an entry's id


class RedisReader:
    def __init__(self, settings: RedisSettings, context: SinkContext) -> None:
        self._settings = settings
        self._destination = f"redis:{shown(settings.stream, context)}"
        self._streams = streams_of(settings.stream, context)
        self._hash = hash_of(settings.stream, context)
        self._nodes = RedisNodes(settings.address)
        self._wire: Wire | None = None
        self._last: dict[str, str] = {}  # by lane: the last id when it was opened

    async def open(self) -> Sequence[Lane]:
        await self.close()
        self._last.clear()
        names = {field[4:].decode() for field in await self._ask("HKEYS", self._hash) if field.startswith(b"top:")}
        if self._streams.constant is not None:
            names.add(self._streams.constant)
        lanes = [await self._lane(name) for name in sorted(names)]
        return [lane for lane in lanes if lane is not None]

    async def pages(self, lane: Lane, from_sequence: int, to_sequence: int) -> AsyncIterator[Sequence[Delivered]]:
        """By id, which is the sequence: only what lies in the range is asked for."""
        begin, count = f"{from_sequence}-0", ENTRIES_FIRST
        end = _earlier(f"{to_sequence - 1}-{_ID_PART_MAX}", self._last[lane.name])
        while from_sequence < to_sequence:
            entries = await self._ask("XRANGE", lane.name, begin, end, "COUNT", count)
            if entries:
                yield [_delivered(entry, lane.name) for entry in entries]
                begin = f"({entries[-1][0].decode()}"
            if len(entries) < count:
                return
            each = sum(len(text) for _, fields in entries for text in fields or ()) // len(entries) + 1
            count = max(1, min(ENTRIES_MAX, PAGE_BYTES // each))

    async def kept(self) -> Sequence[Lane]:
        lanes = [await self._lane(name) for name in sorted(self._last)]
        return [lane for lane in lanes if lane is not None]

    def lane_of(self, event: Event) -> str:
        return self._streams.destination(event.object_type, event.operation)

    def shown(self, event: Event) -> bytes:
        return event.payload

    async def close(self) -> None:
        wire, self._wire = self._wire, None
        if wire is not None:
            await wire.close()

    async def _lane(self, name: str) -> Lane | None:
        try:
            told = await self._ask("XINFO", "STREAM", name)
        except Misconfigured as error:
            if "no such key" in str(error.__cause__):
                return None
            raise
        info = dict(zip(told[::2], told[1::2], strict=True))
        last_id = info[b"last-generated-id"].decode()
        self._last.setdefault(name, last_id)
        # Before Redis 7 nobody counts what was added; there, what `max_entries` allows may have happened.
        added = info.get(b"entries-added")
        trimmed = self._settings.max_entries is not None if added is None else added > info[b"length"]
        if not trimmed:
            return Lane(name, None)
        first = info[b"first-entry"]
        last_ever = int(last_id.partition("-")[0])
        return Lane(name, last_ever + 1 if first is None else int(first[0].partition(b"-")[0]))

    async def _ask(self, *request: Argument) -> Any:
        for _ in range(1 + REDIRECTS_MAX):
            wire = self._wire
            try:
                if wire is None:
                    node = await self._nodes.connect(self._settings.timeout)
                    wire = self._wire = Wire(node, self._settings.timeout)
                answer = (await wire.ask(pack(request)))[0]
            except AskError as error:
                self._wire = None
                if wire is not None:
                    self._nodes.redirected(wire.node, error)
                continue
            except (RedisError, OSError) as error:
                self._wire = None
                raise translate(error, self._destination, self._settings.address) from error
            if isinstance(answer, ResponseError):
                raise translate(answer, self._destination, self._settings.address) from answer
            return answer
        raise Unavailable(f"{self._destination}: the cluster sends us round in circles; it will be tried again")


def _earlier(one: str, other: str) -> str:
    return min(one, other, key=lambda entry_id: tuple(map(int, entry_id.split("-"))))


def _delivered(entry: Any, lane: str) -> Delivered:
    entry_id, told = entry[0].decode(), entry[1] or ()
    fields = dict(zip(told[::2], told[1::2], strict=True))
    number, _, behind = entry_id.partition("-")
    payload = fields.get(b"event")
    if payload is None or b"key" not in fields:  # somebody else's
        return Delivered(None, None, None, payload or b"", lane, entry_id)
    if behind == "0":
        return Delivered(int(number), number, fields[b"key"], payload, lane, entry_id)
    own = identity_of(payload)  # beside the log the id tells the place; which event it is, only its payload
    sequence = int(number) if own.sequence is None else own.sequence
    if own.id == number:  # no event beside the log has the id of the one it is behind: a copy of that
        return Delivered(sequence, number, fields[b"key"], payload, lane, entry_id)
    return Delivered(sequence, own.id or entry_id, fields[b"key"], payload, lane, entry_id, place=entry_id)
