"""Messages as they go over the wire, a page at a time. Pure.

An event's headers are those of `Event.headers`, `Oplog-Key`, and `Nats-Msg-Id`, by which a consumer (and for a while
the server) knows a copy. The last message of a batch also says where the pipeline stands behind it: the position.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from urllib.parse import quote

from oplogbridge.errors import Misconfigured, Rejected
from oplogbridge.sink import SinkContext
from oplogbridge.templates import Template, header_value, matches, token
from oplogbridge.values import Event, Headers

SUBJECT_BYTES_MAX = 3_840  # a server ends the connection on a command line over 4096 bytes: less an inbox and lengths
_SAFE_KEY = re.compile(rb"[!#$&-~]*")  # visible ASCII but `"` and `%`
_SAFE_CHARACTERS = "!#$&'()*+,-./:;<=>?@[\\]^_`{|}~"
_CONTROLS = re.compile(rb"[\x00-\x1f\x7f]")


class Frames:
    """Lays out the messages of one pipeline for a stream that takes `taken`, patterns of subjects.

    Raises, where an event is laid out:
        Rejected: No server takes its subject.
        Misconfigured: The stream does not take its subject. Sent nevertheless, it would be stored in another stream
            that does, and once more with each new attempt.
    """

    def __init__(self, subject: Template, context: SinkContext, destination: str, taken: Sequence[str]) -> None:
        self._subject = subject
        self._taken = taken
        self._shown_destination = destination
        self._subjects: dict[str, bytes] = {}
        self._id_prefix = f"Nats-Msg-Id: {header_value(context.source)}-".encode()
        self._position = (
            f"Oplog-Owner: {header_value(context.owner)}\r\n"
            f"Oplog-Source-Id: {header_value(context.source_id)}\r\n"
            f"Oplog-Destination: {header_value(destination)}\r\n"
        )

    def batch(self, events: Sequence[Event], batch_id: bytes) -> list[bytes]:
        """A command for each event. The first and the last are laid out again when the batch is written: they say what
        it expects and where it ends."""
        commands: list[bytes] = []
        destination, prefix, subjects = self._subject.destination, self._id_prefix, self._subjects
        shared: Headers = ()
        shared_text = b""
        for number, event in enumerate(events, 1):
            if event.constant_headers is not shared:
                shared, shared_text = event.constant_headers, _laid_out(event.constant_headers)
            key, event_id, payload = event.key, event.id.encode(), event.payload
            sequence = event_id if event.place is None else event.number
            if _SAFE_KEY.fullmatch(key) is None:
                key = _safe_key(key)
            subject = destination(event.object_type, event.operation)
            headers = (
                b"NATS/1.0\r\n%bOplog-Sequence: %b\r\n%bOplog-Key: %b\r\n%b%b\r\n"
                b"Nats-Batch-Id: %b\r\nNats-Batch-Sequence: %d\r\n\r\n"
                % (
                    shared_text,
                    sequence,
                    _laid_out(event.own_headers) if event.own_headers else b"",
                    key,
                    prefix,
                    event_id,
                    batch_id,
                    number,
                )
            )
            size = len(headers)
            commands.append(
                b"HPUB %b %d %d\r\n%b%b\r\n"
                % (
                    subjects.get(subject) or self._encoded(subject, event),
                    size,
                    size + len(payload),
                    headers,
                    payload,
                )
            )
        return commands

    def message(self, event: Event, more: bytes, inbox: bytes = b"") -> bytes:
        """One event with further headers, as a command; without an inbox nobody answers it."""
        headers = b"NATS/1.0\r\n%bOplog-Sequence: %b\r\n%bOplog-Key: %b\r\n%b%b\r\n%b\r\n" % (
            _laid_out(event.constant_headers),
            event.number,
            _laid_out(event.own_headers),
            _safe_key(event.key),
            self._id_prefix,
            event.id.encode(),
            more,
        )
        subject = self._encoded(self._subject.destination(event.object_type, event.operation), event)
        size = len(headers)
        return b"HPUB %b %b %d %d\r\n%b%b\r\n" % (
            subject,
            inbox,
            size,
            size + len(event.payload),
            headers,
            event.payload,
        )

    def position(self, next_offset: int) -> bytes:
        """Headers of the last message."""
        return f"Oplog-Offset: {next_offset}\r\n{self._position}".encode()

    def _encoded(self, subject: str, event: Event) -> bytes:
        known = self._subjects.get(subject)
        if known is not None:
            return known
        if not all(subject.split(".")):
            raise Rejected(event, f"its subject {subject!r} has an empty token, which no NATS server takes")
        if len(subject.encode()) > SUBJECT_BYTES_MAX:
            raise Rejected(event, f"its subject is longer than the {SUBJECT_BYTES_MAX} bytes that a NATS server takes")
        if not any(matches(pattern, subject) for pattern in self._taken):
            raise Misconfigured(
                f"{self._shown_destination}: the stream takes {', '.join(self._taken)}, which {subject} of sequence "
                f"{event.sequence} is not: add it to the stream's subjects, or change `subject`"
            )
        if len(self._subjects) >= Template.CACHE_ENTRIES_MAX:
            self._subjects.clear()
        found = self._subjects[subject] = subject.encode()
        return found


def batch_headers(batch_id: bytes, number: int) -> bytes:
    return b"Nats-Batch-Id: %b\r\nNats-Batch-Sequence: %d\r\n" % (batch_id, number)


def _safe_key(key: bytes) -> bytes:
    return quote(key, safe=_SAFE_CHARACTERS).encode()


def _laid_out(headers: Headers) -> bytes:
    """A line break in a value would begin another header."""
    return b"".join([b"%b: %b\r\n" % (name.encode(), _CONTROLS.sub(_encoded, value)) for name, value in headers])


def _encoded(found: re.Match[bytes]) -> bytes:
    return b"%%%02X" % found.group()[0]


def stream_subject(subject: str, context: SinkContext) -> str:
    """What a stream must have to take all events: a token with a field in it becomes `*`."""
    template = subject_template(subject, context)
    shown = template.fill({"type": "\0", "operation": "\0"})
    return ".".join(["*" if "%00" in one else one for one in shown.split(".")])


def subject_template(subject: str, context: SinkContext) -> Template:
    return Template(subject, constants={"source": context.source, "pipeline": context.pipeline}, escape=token)
