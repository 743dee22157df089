"""Entries of a page become events: key, type, time, headers, and the payload in the pipeline's format. Pure.

This is the hot path: one plain loop a page, one join an entry (docs/architecture.md, "What an entry costs").
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Literal, NamedTuple
from urllib.parse import quote

import msgspec
from msgspec import UNSET, Raw

from oplogbridge.codec.subjects import Filter
from oplogbridge.templates import KEY_FIELDS, Template
from oplogbridge.values import Entry, Event, Page

Format = Literal["cloudevents", "raw"]
DEFAULT_KEY = "{type}/{id}"
CONTENT_TYPES: dict[Format, bytes] = {"cloudevents": b"application/cloudevents+json", "raw": b"application/json"}

# CloudEvents takes RFC 3339 only; anything else stays in the data and the attribute is left out.
_RFC3339 = re.compile(
    r"(\d{4}-\d\d-\d\dT\d\d:\d\d):(?:[0-5]\d|60)(?:\.\d+)?(Z|[+-](?:[01]\d|2[0-3]):[0-5]\d)", re.ASCII
)


class _Kind(NamedTuple):
    """What all entries of one type and operation share."""

    object_type: str
    operation: str
    event_type: str
    before_subject: bytes  # of the payload
    operation_text: bytes


class _Time(NamedTuple):
    """What all entries with one `updated_at` share, and entries of one second do."""

    received: str | None
    attribute: str | None
    behind_subject: bytes


class Codec:
    """What a pipeline makes of a page. `key` is a template over {source}, {type}, {id}, {operation}."""

    def __init__(self, *, source: str, format: Format, filter: Filter, key: str = DEFAULT_KEY) -> None:  # noqa: A002
        self._filter = filter
        self._source = quote(source, safe="")
        self._key = None if key == DEFAULT_KEY else Template(key, fields=KEY_FIELDS, constants={"source": source})
        self._payload = self._cloudevent if format == "cloudevents" else self._raw
        self._constant_headers = (("content-type", CONTENT_TYPES[format]), ("Oplog-Source", self._source.encode()))
        self._kinds: dict[tuple[str, str], _Kind] = {}
        self._time = _time_of(None)

    def events(self, page: Page) -> list[Event]:
        """The events of the entries that the filter lets pass, in the page's order."""
        accepts: Callable[[str, str], bool] | None = None if self._filter.passes_all else self._filter.accepts
        key_template, payload_of = self._key, self._payload
        kinds, constant_headers, time = self._kinds, self._constant_headers, self._time
        behind_key = _behind_key(page.datamodel_hash)
        events: list[Event] = []
        for entry in page.entries:
            object_type, operation = entry.object_type, entry.operation
            if accepts is not None and not accepts(object_type, operation):
                continue
            kind = kinds.get((object_type, operation)) or self._kind_of(object_type, operation)
            if entry.updated_at != time.received:
                time = self._time = _time_of(entry.updated_at)
            subject = f"{object_type}/{entry.object_id}"
            key = subject if key_template is None else self._key_of(key_template, entry)
            events.append(
                Event(
                    entry.sequence,
                    entry.id,
                    key.encode(),
                    kind.event_type,
                    time.attribute,
                    payload_of(entry, subject, key, kind, time, behind_key),
                    constant_headers,
                    kind.object_type,
                    kind.operation,
                )
            )
        return events

    @staticmethod
    def _cloudevent(entry: Entry, subject: str, key: str, kind: _Kind, time: _Time, behind_key: bytes) -> bytes:
        """Joined from what many entries share and the few parts that are an entry's own: half of what encoding nested
        structs costs. Each part is JSON already: as received, or written by msgspec."""
        sequence, subject_text = entry.id.encode(), _encode(subject)
        return b"".join(
            (
                b'{"specversion":"1.0","id":"',
                sequence,
                kind.before_subject,
                subject_text,
                time.behind_subject,
                sequence.zfill(19),  # CloudEvents orders this attribute as text
                b'","partitionkey":',
                subject_text if key is subject else _encode(key),
                behind_key,
                sequence,
                kind.operation_text,
                *_rest_of(entry),
            )
        )

    @staticmethod
    def _raw(entry: Entry, *_: object) -> bytes:
        assert entry.raw is not None, "the decoder of a source with a raw pipeline keeps the bytes"
        return bytes(entry.raw)

    @staticmethod
    def _key_of(template: Template, entry: Entry) -> str:
        return template.fill({"type": entry.object_type, "id": entry.object_id, "operation": entry.operation})

    def _kind_of(self, object_type: str, operation: str) -> _Kind:
        if len(self._kinds) >= Filter.KNOWN_MAX:
            self._kinds.clear()
        event_type = f"oplog.{object_type}.{operation}"
        found = self._kinds[object_type, operation] = _Kind(
            object_type,
            operation,
            event_type,
            b'","source":"/oplogs/%b","type":%b,"subject":' % (self._source.encode(), _encode(event_type)),
            b'","operation":%b' % _encode(operation),
        )
        return found


def _time_of(updated_at: str | None) -> _Time:
    time = updated_at if updated_at is not None and _is_rfc3339(updated_at) else None
    attribute = b"" if time is None else b',"time":%b' % _encode(time)
    return _Time(updated_at, time, attribute + b',"datacontenttype":"application/json","sequence":"')


def _behind_key(datamodel_hash: str | None) -> bytes:
    attribute = b"" if datamodel_hash is None else b',"datamodelhash":%b' % _encode(datamodel_hash)
    return attribute + b',"data":{"sequence":"'


def _rest_of(entry: Entry) -> Sequence[bytes | Raw]:
    """The end of `data`, whose fields keep the order and the bytes in which they came."""
    if entry.events is not UNSET and entry.app_id is UNSET and entry.unknown is None:
        return b',"events":', entry.events, b',"object":', entry.object, b"}}"
    parts: list[bytes | Raw] = []
    if entry.events is not UNSET:
        parts += b',"events":', entry.events
    if entry.app_id is not UNSET:
        parts += b',"app_id":', entry.app_id
    parts += b',"object":', entry.object
    for name, value in (entry.unknown or {}).items():
        parts += b",%b:" % _encode(name), value
    return [*parts, b"}}"]


def _is_rfc3339(text: str) -> bool:
    found = _RFC3339.fullmatch(text)
    if found is None:
        return False
    try:
        datetime.fromisoformat(found[1])  # 30 February has the form and is no day
    except ValueError:
        return False
    return True


_encode = msgspec.json.Encoder().encode
