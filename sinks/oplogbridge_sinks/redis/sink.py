"""Redis Streams: exactly once, in order, in a stream of this pipeline alone (or one for each type).

A batch is one script (`scripts.WRITE`): it checks that this sink was the last to open, that the batch begins at the
position, and that every stream is as we left it; then it adds `<sequence>-0` for each event and sets the position in
the hash `{T}:oplog-bridge`. Log and position live and die together: what a fail-over rolls back, it rolls back whole,
and the next batch finds another position than it expects. Until then a reader may have seen events that come again,
unless `wait_replicas` makes a write wait for them.

An entry has the fields `key`, `type` and `event` (the payload). Where `max_entries` is set, the oldest are trimmed
behind each write, whether they were read or not: make it larger than the longest pause of a reader.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Any

from redis.exceptions import AskError, RedisError, ResponseError

from oplogbridge.errors import BridgeError, Misconfigured, Rejected, Unavailable
from oplogbridge.redis_nodes.cautions import NOT_ALLOWED, cautions_of
from oplogbridge.redis_nodes.nodes import REDIRECTS_MAX, RedisNodes
from oplogbridge.sink import SinkContext, SinkPlugin, SinkTraits
from oplogbridge.values import Batch, Event, Position
from oplogbridge_sinks.redis.names import hash_of, patterns_of, shown, stream_aside, streams_of
from oplogbridge_sinks.redis.reading import COMMANDS, RedisReader
from oplogbridge_sinks.redis.refusals import refusal, translate
from oplogbridge_sinks.redis.scripts import FORMAT_VERSION, MOVE, OPEN, WRITE, Script
from oplogbridge_sinks.redis.settings import RedisSettings
from oplogbridge_sinks.redis.wire import EVENT_ARGUMENTS, Argument, Packed, Wire, pack, pack_event

EVENTS_MAX = 2_000  # in one script: Redis serves nobody else for its 15 ms; 1000 to 2000 measured best, 4000 slower
BYTES_MAX = 16 * 1024 * 1024


class RedisSink:
    def __init__(self, settings: RedisSettings, context: SinkContext) -> None:
        self._settings = settings
        self._context = context
        self._streams = streams_of(settings.stream, context)
        self._hash = hash_of(settings.stream, context)
        self._destination = f"redis:{shown(settings.stream, context)}"
        self._wire: Wire | None = None
        self._nodes = RedisNodes(settings.address)
        self._token = ""
        self._refused = False  # `open` did not take what stands there
        self._offset: int | None = None

    @property
    def destination(self) -> str:
        return self._destination

    async def open(self) -> Position | None:
        await self.close()
        self._token = secrets.token_hex(16)
        keys = [self._hash, *([self._streams.constant] if self._streams.constant else [])]
        for _ in range(1 + REDIRECTS_MAX):
            await self._connect()
            try:
                kept = await self._run(OPEN, keys, (FORMAT_VERSION, self._token, self._context.owner))
                break
            except Misconfigured:
                self._refused = True
                raise
            except Unavailable as error:
                if not isinstance(error.__cause__, AskError):
                    raise
        else:
            raise Unavailable(f"{self.destination}: the cluster sends us round in circles; it will be tried again")
        offset, source, destination = (text.decode() for text in kept)
        self._refused = False
        self._offset = int(offset) if offset else None
        return None if self._offset is None else Position(self._offset, source, destination)

    async def prepare(self, events: Sequence[Event]) -> dict[str, Packed]:
        """Packed for the script, for each stream."""
        return self._packed(events)

    async def write(self, batch: Batch) -> Position | None:
        self._opened()
        if self._offset is not None and self._offset != batch.from_offset:
            raise Unavailable(
                f"{self.destination}: the batch begins at {batch.from_offset}, the position is {self._offset}; "
                "go on from there"
            )
        rejected = self._rejected(batch.events)
        if rejected is not None:
            index, reason = rejected
            before = batch.before(index)
            if before is not None:
                await self._write(before)
            raise Rejected(batch.events[index], reason)
        return await self._write(batch)

    async def move(self, offset: int) -> Position | None:
        """Also what a person decides after `open` was refused: what stands there is taken as it is."""
        wire = self._opened(refused_too=True)
        fields = self._answer(await self._ask(wire, ("HKEYS", self._hash)))
        streams = {field[4:].decode() for field in fields if field.startswith(b"top:")}
        if self._streams.constant:
            streams.add(self._streams.constant)
        take = "1" if self._refused else ""
        arguments = (FORMAT_VERSION, self._token, take, str(offset), *self._names())
        await self._run(MOVE, [self._hash, *sorted(streams)], arguments)
        self._refused, self._offset = False, offset
        return self._position(offset)

    async def position(self) -> Position | None:
        wire = self._opened()
        answer = await self._ask(wire, ("HMGET", self._hash, "token", "offset", "source", "destination"))
        token, offset, source, destination = self._answer(answer)
        if token is not None and token.decode() != self._token:
            raise self._refusal(b"fenced")
        if offset is None:
            return None
        return Position(int(offset), (source or b"").decode(), (destination or b"").decode())

    async def cautions(self) -> list[str]:
        """As `oplogbridge.sink.Cautious`."""
        try:
            info = self._answer(await self._ask(self._opened(), ("INFO",)))
        except Misconfigured:
            return [NOT_ALLOWED]
        return cautions_of(info.decode(), wait_replicas=self._settings.wait_replicas)

    async def close(self) -> None:
        wire, self._wire = self._wire, None
        self._refused, self._offset = False, None
        if wire is not None:
            await wire.close()

    # Writing -------------------------------------------------------------------------------------------------------

    def _rejected(self, events: Sequence[Event]) -> tuple[int, str] | None:
        """The first event that no stream takes, and why. Nearly always none, so the largest is looked at first."""
        bytes_max = self._settings.event_bytes_max
        if events[0].sequence < 1:
            return 0, "a stream has no entry 0"
        if max([len(event.payload) for event in events]) <= bytes_max:
            return None
        index = next(index for index, event in enumerate(events) if len(event.payload) > bytes_max)
        return index, (
            f"its {len(events[index].payload)} bytes are more than event_bytes_max ({bytes_max}); raise that together "
            "with the server's proto-max-bulk-len"
        )

    async def _write(self, batch: Batch) -> Position:
        groups: dict[str, Packed] = batch.prepared or self._packed(batch.events)  # type: ignore[assignment]
        if not batch.from_offset <= batch.events[0].sequence <= batch.events[-1].sequence < batch.next_offset:
            raise ValueError(f"a batch from {batch.from_offset} to {batch.next_offset} holds other sequences")
        arguments: list[Argument] = [
            self._token,
            "" if self._offset is None else str(self._offset),
            str(batch.next_offset),
            *self._names(),
            self._settings.max_entries or "",
            *[group.arguments // EVENT_ARGUMENTS for group in groups.values()],
        ]
        await self._run(WRITE, [self._hash, *groups], arguments, *groups.values())
        self._offset = batch.next_offset
        return self._position(batch.next_offset)

    def _packed(self, events: Sequence[Event]) -> dict[str, Packed]:
        """The packed events of each stream. No order is lost between streams: one script adds them all."""
        groups: dict[str, list[bytes]] = {}
        streams, constant = self._streams, self._streams.constant
        group = groups.setdefault(constant, []) if constant else []
        last = -1
        for event in events:
            if event.sequence <= last:
                # Inside the script this would stop it half done.
                raise ValueError(f"sequence {event.sequence} does not ascend: it comes after {last}")
            last = event.sequence
            if not constant:
                group = groups.setdefault(streams.destination(event.object_type, event.operation), [])
            group.append(pack_event(event))
        return {stream: Packed(b"".join(group), EVENT_ARGUMENTS * len(group)) for stream, group in groups.items()}

    def _names(self) -> tuple[str, str, str]:
        return self._context.owner, self._context.source_id, self.destination

    def _position(self, offset: int) -> Position:
        return Position(offset, self._context.source_id, self.destination)

    # Asking --------------------------------------------------------------------------------------------------------

    def _opened(self, *, refused_too: bool = False) -> Wire:
        if self._wire is None or (self._refused and not refused_too):
            raise Unavailable(f"{self.destination}: it is not open; open it first")
        return self._wire

    async def _connect(self) -> None:
        await self.close()
        try:
            node = await self._nodes.connect(self._settings.timeout)
        except (RedisError, OSError) as error:
            raise self._translate(error) from error
        self._wire = Wire(node, self._settings.timeout)

    async def _run(
        self, script: Script, keys: Sequence[str], arguments: Sequence[Argument], *packed: Packed
    ) -> list[bytes]:
        """Run a script and, where replicas must have what it did, wait for them; what it said beyond "ok"."""
        wire, replicas = self._wire, self._settings.wait_replicas
        assert wire is not None
        wait_ms = int(self._settings.timeout * 500)  # half of the deadline, so that the answer comes in time
        wait: Sequence[Argument] = ("WAIT", replicas, wait_ms) if replicas else ()
        try:
            answers = await wire.run(script, keys, arguments, packed, wait)
        except (RedisError, OSError) as error:
            raise self._lost(wire, error) from error
        verdict, *rest = self._answer(answers[0])
        if verdict != b"ok":
            raise self._refusal(verdict, *rest)
        # Also when opening: a batch that fell short before counts only once the replicas have it, and the token set
        # behind it in the replication stream tells.
        if replicas and self._answer(answers[1]) < replicas:
            raise Unavailable(
                f"{self.destination}: {answers[1]} of {replicas} replicas have it so far; it will be tried again"
            )
        found: list[bytes] = rest
        return found

    async def _ask(self, wire: Wire, request: Sequence[Argument]) -> Any:
        try:
            return (await wire.ask(pack(request)))[0]
        except (RedisError, OSError) as error:
            raise self._lost(wire, error) from error

    def _lost(self, wire: Wire, error: Exception) -> BridgeError:
        """The wire has closed itself; where the next one leads."""
        self._wire = None
        if isinstance(error, AskError):
            self._nodes.redirected(wire.node, error)
            return translate(error, self.destination, self._settings.address)
        return self._translate(error)

    def _answer(self, answer: Any) -> Any:
        if isinstance(answer, ResponseError):
            raise self._translate(answer) from answer
        return answer

    def _refusal(self, verdict: bytes, *found: bytes) -> BridgeError:
        return refusal(verdict, found, destination=self.destination, position=self._hash, owner=self._context.owner)

    def _translate(self, error: Exception) -> BridgeError:
        self._nodes.doubted()
        return translate(error, self.destination, self._settings.address)


def _permissions(settings: RedisSettings, context: SinkContext) -> list[str]:
    streams, position = patterns_of(settings.stream, context)
    commands = "+eval +evalsha +hget +hmget +hset +hkeys +type +xadd +xinfo|stream"
    commands += " +xtrim" if settings.max_entries else ""
    commands += " +wait" if settings.wait_replicas else ""
    address = settings.address
    commands += " +select" if address.database else ""
    commands += " +role" if address.service is not None else ""
    commands += " +asking" if address.cluster else ""
    rules = [f"ACL SETUSER <user> on ><password> resetkeys ~{streams} ~{position} -@all {commands}"]
    if address.service is not None:
        rules.append(
            "at each sentinel: ACL SETUSER <sentinel_username> on ><sentinel_password> resetkeys resetchannels -@all "
            "+sentinel|get-master-addr-by-name"
        )
    return rules


plugin = SinkPlugin(
    kind="redis",
    summary="Redis Streams, exactly once",
    settings=RedisSettings,
    # A stream takes only growing ids, so there is no way back below what was written.
    traits=lambda _settings: SinkTraits("exactly_once", True, False, events_max=EVENTS_MAX, bytes_max=BYTES_MAX),
    build=RedisSink,
    permissions=_permissions,
    aside=lambda settings, name: {"stream": stream_aside(settings.stream, name)},
    reader=RedisReader,
    reader_permissions=lambda _settings, _context: [f"ACL SETUSER <user> {COMMANDS}"],
)
