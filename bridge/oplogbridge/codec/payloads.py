"""What the payload of an event looks like in each format. Pure.

The same received bytes give the same payload, always: nothing in it knows a clock, a host or a run. A payload is joined
from what many entries share (`Kind`, `Time`, the page's data model) and the few parts that are an entry's own: half of
what encoding nested structs costs. Each part is JSON already: as received, or written by msgspec.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Literal, NamedTuple

import msgspec
from msgspec import UNSET, Raw

from oplogbridge.values import Entry

Format = Literal["cloudevents", "raw", "flat", "debezium"]
Mode = Literal["structured", "binary"]  # of `cloudevents`
CONTENT_TYPES: dict[Format, bytes] = {
    "cloudevents": b"application/cloudevents+json",
    "raw": b"application/json",
    "flat": b"application/json",
    "debezium": b"application/json",
}

# CloudEvents takes RFC 3339 only; anything else stays in the data and the attribute is left out.
_RFC3339 = re.compile(
    r"(\d{4}-\d\d-\d\dT\d\d:\d\d):(?:[0-5]\d|60)(?:\.\d+)?(Z|[+-](?:[01]\d|2[0-3]):[0-5]\d)", re.ASCII
)
_SECONDS_AT, _SECONDS_LENGTH = 17, 2
_DEBEZIUM_OPERATIONS = {
    "create": "c",
    "delete": "d",
    "snapshot": "r",
}  # all else changes what is there, or makes it: an upsert
_WHITE_SPACE = b" \t\r\n"
_encode = msgspec.json.Encoder().encode


class Kind(NamedTuple):
    """What all entries of one type and operation share."""

    object_type: str
    operation: str
    event_type: str
    is_delete: bool
    before_subject: bytes  # cloudevents
    operation_text: bytes  # cloudevents
    flat_operation: bytes
    debezium_operation: bytes
    debezium_source: bytes


class Time(NamedTuple):
    """What all entries with one `updated_at` share, and entries of one second do."""

    received: str | None
    attribute: str | None  # when it is a time in the form of RFC 3339
    behind_subject: bytes  # cloudevents
    unix_ms: bytes  # or null


PayloadOf = Callable[[Entry, str, str, Kind, Time, bytes], bytes]


def kind_of(source: str, object_type: str, operation: str, replay: str | None = None) -> Kind:
    """`source` is percent-encoded. `replay` names the replay that delivers them once more."""
    replay_id = b"" if replay is None else b',"replayid":%b' % _encode(replay)
    event_type, operation_text = f"oplog.{object_type}.{operation}", _encode(operation)
    return Kind(
        object_type,
        operation,
        event_type,
        operation == "delete",
        b'"%b,"source":"/oplogs/%b","type":%b,"subject":' % (replay_id, source.encode(), _encode(event_type)),
        b'","operation":%b' % operation_text,
        b'"__operation":%b,"__sequence":"' % operation_text,
        b',"op":"%b","source":{"connector":"oplog-bridge","name":"%b"'
        % (_DEBEZIUM_OPERATIONS.get(operation, "u").encode(), source.encode()),
        b',"snapshot":"%b","db":"%b","table":%b,"operation":%b,"sequence":"'
        % (
            b"true" if operation == "snapshot" else b"false",
            source.encode(),
            _encode(object_type),
            operation_text,
        ),
    )


def time_of(updated_at: str | None) -> Time:
    when = None if updated_at is None else _rfc3339(updated_at)
    time = updated_at if when is not None else None
    attribute = b"" if time is None else b',"time":%b' % _encode(time)
    return Time(
        updated_at,
        time,
        attribute + b',"datacontenttype":"application/json","sequence":"',
        b"null" if time is None or when is None else b"%d" % _unix_ms(time, when),
    )


def behind_key(datamodel_hash: str | None) -> bytes:
    """Of a CloudEvent: what all entries of a page have between the key and the data's sequence."""
    attribute = b"" if datamodel_hash is None else b',"datamodelhash":%b' % _encode(datamodel_hash)
    return attribute + b',"data":{"sequence":"'


def _cloudevent(entry: Entry, subject: str, key: str, kind: Kind, time: Time, behind_key: bytes) -> bytes:
    id_, subject_text = entry.id.encode(), _encode(subject)
    sequence = id_ if entry.place is None else number_of(entry)
    return b"".join(
        (
            b'{"specversion":"1.0","id":"',
            id_,
            kind.before_subject,
            subject_text,
            time.behind_subject,
            sequence.zfill(19),  # CloudEvents orders this attribute as text
            b'","partitionkey":',
            subject_text if key is subject else _encode(key),
            behind_key,
            sequence,
            kind.operation_text,
            *_rest_of_data(entry),
            b"}",
        )
    )


def cloudevent_data(entry: Entry, _subject: str, _key: str, kind: Kind, _time: Time, _behind_key: bytes) -> bytes:
    """A CloudEvent in binary mode: `data` alone, the attributes go into headers (`binary.py`)."""
    return b"".join((b'{"sequence":"', number_of(entry), kind.operation_text, *_rest_of_data(entry)))


def number_of(entry: Entry) -> bytes:
    """As `Event.number`."""
    return entry.id.encode() if entry.place is None else entry.id.partition("-")[0].encode()


def _rest_of_data(entry: Entry) -> Sequence[bytes | Raw]:
    """The end of a CloudEvent's `data`, whose fields keep the order and the bytes in which they came."""
    if entry.events is not UNSET and entry.app_id is UNSET and entry.unknown is None:
        return b',"events":', entry.events, b',"object":', entry.object, b"}"
    parts: list[bytes | Raw] = []
    if entry.events is not UNSET:
        parts += b',"events":', entry.events
    if entry.app_id is not UNSET:
        parts += b',"app_id":', entry.app_id
    parts += b',"object":', entry.object
    for name, value in (entry.unknown or {}).items():
        parts += b",%b:" % _encode(name), value
    return [*parts, b"}"]


def _raw(entry: Entry, *_: object) -> bytes:
    assert entry.raw is not None, "the decoder of a source with a raw pipeline keeps the bytes"
    return bytes(entry.raw)


def _flat(entry: Entry, _subject: str, _key: str, kind: Kind, _time: Time, _behind_key: bytes) -> bytes:
    """The object itself, and what was done to it."""
    members = bytes(entry.object)[1:-1].strip(_WHITE_SPACE)
    return b"".join(
        (
            b"{",
            members,
            b"," if members else b"",
            kind.flat_operation,
            number_of(entry),
            b'","__deleted":true}' if kind.is_delete else b'","__deleted":false}',
        )
    )


def _debezium(entry: Entry, _subject: str, _key: str, kind: Kind, time: Time, _behind_key: bytes) -> bytes:
    """Debezium's envelope without a schema. The oplog holds no state before a change; of a deleted object the key tells
    which it was."""
    return b"".join(
        (
            b'{"before":null,"after":',
            b"null" if kind.is_delete else entry.object,
            kind.debezium_operation,
            b',"ts_ms":',
            time.unix_ms,
            kind.debezium_source,
            number_of(entry),
            b'"},"ts_ms":',
            time.unix_ms,
            b"}",
        )
    )


PAYLOADS: dict[Format, PayloadOf] = {"cloudevents": _cloudevent, "raw": _raw, "flat": _flat, "debezium": _debezium}


def _rfc3339(text: str) -> datetime | None:
    """The minute that a time lies in; None when the text is no time of this form."""
    found = _RFC3339.fullmatch(text)
    if found is None:
        return None
    try:
        return datetime.fromisoformat(found[1] + found[2])  # 30 February has the form and is no day
    except ValueError:
        return None


def _unix_ms(text: str, minute: datetime) -> int:
    """Leap seconds count on into the next minute, as POSIX has it."""
    seconds, fraction = int(text[_SECONDS_AT : _SECONDS_AT + _SECONDS_LENGTH]), text[_SECONDS_AT + _SECONDS_LENGTH :]
    digits = re.match(r"\.(\d+)", fraction)
    return (int(minute.timestamp()) + seconds) * 1000 + (int(digits[1][:3].ljust(3, "0")) if digits else 0)
