"""NATS JetStream: exactly once, in order, in a stream of this pipeline alone.

A batch is one atomic batch of JetStream (server 2.12.1 and later, on a stream with `allow_atomic`): its first message
expects the stream's last sequence, so that whoever wrote meanwhile makes it fail as a whole; its last message says
where the pipeline stands. Elsewhere each message is a step of its own with the same expectation, and says it itself;
the next one is sent when the one before is acknowledged.

There is no fence. A predecessor that still lives can write until we do; its write then makes ours fail, and we read the
position again. And there is no place for a position without a message: before the first one `start` lives in the state
store alone, and so does what `offsets set` skips.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Any

from oplogbridge.errors import Misconfigured, Rejected, Unavailable
from oplogbridge.sink import SinkContext, SinkPlugin, SinkTraits
from oplogbridge.templates import Template, token
from oplogbridge.values import OFFSET_MAX, Batch, Event, Position
from oplogbridge_sinks.nats import stream as streams
from oplogbridge_sinks.nats.answers import Ack, Failed, decoded
from oplogbridge_sinks.nats.failures import ERRORS, refusal, translate
from oplogbridge_sinks.nats.frames import Frames, batch_headers, stream_subject, subject_template
from oplogbridge_sinks.nats.reading import NatsReader, reader_permissions
from oplogbridge_sinks.nats.settings import NatsSettings
from oplogbridge_sinks.nats.stream import Stream, stream_name
from oplogbridge_sinks.nats.wire import NO_RESPONDERS, Wire

EVENTS_MAX = 1_000  # of an atomic batch; a server refuses more
BYTES_MAX = 4 * 1024 * 1024


class NatsSink:
    def __init__(self, settings: NatsSettings, context: SinkContext) -> None:
        self._settings = settings
        self._context = context
        self._name = stream_name(settings, context)
        self._destination = f"nats:{self._name}/{_shown(settings.subject, context)}"
        self._subject = subject_template(settings.subject, context)
        self._frames = Frames(self._subject, context, self._destination, ())
        self._wire: Wire | None = None
        self._stream: Stream | None = None
        self._last_sequence = 0  # of the stream
        self._offset: int | None = None  # None: any batch may come

    @property
    def destination(self) -> str:
        return self._destination

    async def open(self) -> Position | None:
        await self.close()
        wire = self._wire = Wire(self._settings, client_name=self._context.owner)
        try:
            await wire.connect()
            subjects = stream_subject(self._settings.subject, self._context)
            stream = await streams.opened(wire, self._name, subjects, self._settings, self._destination)
            position = await self._position(wire, stream.last_sequence)
        except ERRORS as error:
            raise translate(error, self._destination, self._settings.secrets()) from error
        self._frames = Frames(self._subject, self._context, self._destination, stream.subjects)
        self._stream, self._last_sequence = stream, stream.last_sequence
        self._offset = None if position is None or not position.is_known else position.offset
        return position

    async def prepare(self, events: Sequence[Event]) -> object:
        """The commands of an atomic batch; None where there is none for all of these events."""
        stream = self._stream
        if stream is None or not stream.takes_batches:
            return None
        batch_id = secrets.token_hex(11).encode()
        try:
            commands = self._frames.batch(events, batch_id)
        except (Rejected, Misconfigured):
            return None  # `write` says it, when it is this event's turn
        if max(map(len, commands)) + len(self._more_max()) > stream.message_bytes_max and self._rejected(
            events, stream
        ):
            return None
        return batch_id, commands

    async def write(self, batch: Batch) -> Position | None:
        stream = self._opened()[1]
        if self._offset is not None and self._offset != batch.from_offset:
            raise Unavailable(
                f"{self._destination}: the batch begins at {batch.from_offset}, the position is {self._offset}; "
                "go on from there"
            )
        prepared: Any = batch.prepared or await self.prepare(batch.events)
        if prepared is None and (rejected := self._rejected(batch.events, stream)) is not None:
            index, reason = rejected
            before = batch.before(index)
            if before is not None:
                await self._write(before, await self.prepare(before.events))
            raise Rejected(batch.events[index], reason)
        return await self._write(batch, prepared)

    async def move(self, offset: int) -> Position | None:
        """Nothing is kept there: a message is an event. The state store has the offset, beside what stands here."""
        wire, stream = self._opened()
        position = await self._found(wire, stream)
        # What another source counts, or an interlude does, says nothing about this one's offsets.
        comparable = position is not None and position.is_known and position.source == self._context.source_id
        if comparable and position is not None and offset < position.offset:
            raise Misconfigured(
                f"{self._destination}: the stream stands at {position.offset} and holds what comes after {offset}; "
                "replay into another stream, or delete this one first"
            )
        return position

    async def position(self) -> Position | None:
        return await self._found(*self._opened())

    async def cautions(self) -> list[str]:
        """As `oplogbridge.sink.Cautious`."""
        return [*self._opened()[1].cautions]

    async def close(self) -> None:
        wire, self._wire = self._wire, None
        self._stream, self._offset = None, None
        if wire is not None:
            await wire.close()

    # Writing -------------------------------------------------------------------------------------------------------

    def _rejected(self, events: Sequence[Event], stream: Stream) -> tuple[int, str] | None:
        """The first event that can be no message there, and why."""
        more = self._more_max()
        for index, event in enumerate(events):
            try:
                size = len(self._frames.message(event, more))
            except Rejected as rejected:
                return index, rejected.reason
            if size > stream.message_bytes_max:
                return index, (
                    f"its {len(event.payload)} bytes and headers are more than the {stream.message_bytes_max} that the "
                    "server and the stream take; raise `max_payload` and `max_msg_size` there"
                )
        return None

    def _more_max(self) -> bytes:
        """All headers that a message can have besides. Sizes count the command as well, which the server does not: it
        ends the connection of whoever sends a byte too much, and would do so again and again."""
        position = self._frames.position(OFFSET_MAX)
        return batch_headers(b"x" * 22, EVENTS_MAX) + b"Nats-Batch-Commit: 1\r\n" + self._expectation() + position

    def _expectation(self) -> bytes:
        return b"Nats-Expected-Last-Sequence: %d\r\n" % self._last_sequence

    async def _write(self, batch: Batch, prepared: Any) -> Position:
        wire, stream = self._opened()
        if stream.takes_batches:
            await self._write_batch(wire, batch, *prepared)
        else:
            await self._write_one_by_one(wire, batch)
        self._offset = batch.next_offset
        return self._at(batch.next_offset)

    async def _write_batch(self, wire: Wire, batch: Batch, batch_id: bytes, commands: list[bytes]) -> None:
        events, frames = batch.events, self._frames
        count = len(events)
        end = b"Nats-Batch-Commit: 1\r\n" + frames.position(batch.next_offset)
        inbox = wire.next_inbox()
        first = batch_headers(batch_id, 1) + self._expectation()
        if count == 1:
            request = frames.message(events[0], first + end, inbox)
        else:
            last = frames.message(events[-1], batch_headers(batch_id, count) + end, inbox)
            request = b"".join([frames.message(events[0], first), *commands[1:-1], last])
        await self._published(wire, request, count)

    async def _write_one_by_one(self, wire: Wire, batch: Batch) -> None:
        last = len(batch.events) - 1
        for index, event in enumerate(batch.events):
            next_offset = batch.next_offset if index == last else event.sequence + 1
            more = self._expectation() + self._frames.position(next_offset)
            await self._published(wire, self._frames.message(event, more, wire.next_inbox()), 1)

    async def _published(self, wire: Wire, request: bytes, count: int) -> None:
        """Send it, and see that the stream has grown by exactly this."""
        try:
            answer = await wire.send(request)
            if answer.status == NO_RESPONDERS:
                raise Unavailable(f"{self._destination}: no stream takes its subjects any more: open it again")
            told = decoded(answer.body, Ack)
        except ERRORS as error:
            self._stream = None
            raise translate(error, self._destination, self._settings.secrets()) from error
        if told.error is not None:
            self._stream = None
            raise await self._refused(wire, told.error)
        expected = self._last_sequence + count
        if told.duplicate or told.stream != self._name or told.seq != expected:
            # "duplicate": the server remembers its id, which does not mean that the message is there.
            self._stream = None
            raise Unavailable(
                f"{self._destination}: the stream answered {answer.body[:200].decode(errors='replace')}, expected was "
                f"message {expected}: open it again"
            )
        self._last_sequence = expected

    async def _refused(self, wire: Wire, error: Failed) -> Exception:
        """Somebody else's message in between is for a person, and only looking tells."""
        translated = refusal(error, self._destination)
        if isinstance(translated, Unavailable):
            try:
                await self._position(wire, await streams.last_sequence(wire, self._name, self._destination))
            except Misconfigured as foreign:
                return foreign
            except (Unavailable, *ERRORS):
                pass  # the write's own error is the news
        return translated

    # Looking -------------------------------------------------------------------------------------------------------

    async def _found(self, wire: Wire, stream: Stream) -> Position | None:
        try:
            return await self._position(wire, await streams.last_sequence(wire, stream.name, self._destination))
        except ERRORS as error:
            self._stream = None
            raise translate(error, self._destination, self._settings.secrets()) from error

    async def _position(self, wire: Wire, last_sequence: int) -> Position | None:
        return await streams.position_at(wire, self._name, last_sequence, self._context, self._destination)

    def _at(self, offset: int) -> Position:
        return Position(offset, self._context.source_id, self._destination, str(self._last_sequence))

    def _opened(self) -> tuple[Wire, Stream]:
        if self._wire is None or self._stream is None:
            raise Unavailable(f"{self._destination}: it is not open; open it first")
        return self._wire, self._stream


def _shown(subject: str, context: SinkContext) -> str:
    """The template for people, what varies still in braces."""
    constants = {"source": token(context.source), "pipeline": token(context.pipeline)}
    return Template(subject, constants=constants).fill({"type": "{type}", "operation": "{operation}"})


def _permissions(settings: NatsSettings, context: SinkContext) -> list[str]:
    stream = stream_name(settings, context)
    api = [f"$JS.API.STREAM.INFO.{stream}", f"$JS.API.STREAM.MSG.GET.{stream}"]
    if settings.create:
        api.append(f"$JS.API.STREAM.CREATE.{stream}")
    publish = ", ".join([stream_subject(settings.subject, context), *api])
    return [f"publish: {publish}", f"subscribe: {settings.inbox_prefix}.>"]


plugin = SinkPlugin(
    kind="nats",
    summary="NATS JetStream, exactly once",
    settings=NatsSettings,
    traits=lambda _settings: SinkTraits(
        "exactly_once", True, False, events_max=EVENTS_MAX, bytes_max=BYTES_MAX, binary="ce-"
    ),
    build=NatsSink,
    permissions=_permissions,
    aside=lambda settings, name: {
        "stream": f"{settings.stream}_replay_{name}",
        "subject": f"replay.{name}.{settings.subject}",
        "create": True,
    },
    reader=NatsReader,
    reader_permissions=reader_permissions,
)
