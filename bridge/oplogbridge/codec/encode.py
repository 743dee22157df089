"""Entries of a page become events: key, type, time, headers, and the payload in the pipeline's format. Pure.

This is the hot path: one plain loop a page, one encode an entry (docs/architecture.md, "What an entry costs").
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime
from typing import Literal
from urllib.parse import quote

import msgspec
from msgspec import UNSET, Raw, UnsetType

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


class Codec:
    """What a pipeline makes of a page. `key` is a template over {source}, {type}, {id}, {operation}."""

    def __init__(self, *, source: str, format: Format, filter: Filter, key: str = DEFAULT_KEY) -> None:  # noqa: A002
        self._filter = filter
        self._source = f"/oplogs/{quote(source, safe='')}"
        self._key = None if key == DEFAULT_KEY else Template(key, fields=KEY_FIELDS, constants={"source": source})
        self._payload = self._cloudevent if format == "cloudevents" else self._raw
        self._content_type = ("content-type", CONTENT_TYPES[format])
        self._oplog_source = ("Oplog-Source", quote(source, safe="").encode())
        self._types: dict[tuple[str, str], str] = {}
        self._time: tuple[str | None, str | None] = (None, None)

    def events(self, page: Page) -> list[Event]:
        """The events of the entries that the filter lets pass, in the page's order."""
        accepts: Callable[[str, str], bool] | None = None if self._filter.passes_all else self._filter.accepts
        key_template, payload_of = self._key, self._payload
        content_type, oplog_source = self._content_type, self._oplog_source
        datamodel_hash = page.datamodel_hash if page.datamodel_hash is not None else UNSET
        events: list[Event] = []
        for entry in page.entries:
            object_type, operation = entry.object_type, entry.operation
            if accepts is not None and not accepts(object_type, operation):
                continue
            sequence = str(entry.sequence)
            subject = f"{object_type}/{entry.object_id}"
            key = subject if key_template is None else self._key_of(key_template, entry)
            event_type = self._types.get((object_type, operation)) or self._type_of(object_type, operation)
            time = self._time[1] if entry.updated_at == self._time[0] else self._time_of(entry.updated_at)
            events.append(
                Event(
                    entry.sequence,
                    sequence,
                    key.encode(),
                    event_type,
                    time,
                    payload_of(entry, sequence, subject, key, event_type, time, datamodel_hash),
                    (content_type, oplog_source, ("Oplog-Sequence", sequence.encode())),
                    object_type,
                    operation,
                )
            )
        return events

    def _cloudevent(
        self,
        entry: Entry,
        sequence: str,
        subject: str,
        key: str,
        event_type: str,
        time: str | None,
        datamodel_hash: str | UnsetType,
    ) -> bytes:
        data: _Data | dict[str, object]
        if entry.unknown is None:
            data = _Data(sequence, entry.operation, entry.events, entry.app_id, entry.object)
        else:
            data = _data_with_unknown(entry, sequence)
        return _encode(
            _CloudEvent(
                "1.0",
                sequence,
                self._source,
                event_type,
                subject,
                UNSET if time is None else time,
                "application/json",
                sequence.zfill(19),  # CloudEvents orders this attribute as text
                key,
                datamodel_hash,
                data,
            )
        )

    @staticmethod
    def _raw(entry: Entry, *_: object) -> bytes:
        assert entry.raw is not None, "the decoder of a source with a raw pipeline keeps the bytes"
        return bytes(entry.raw)

    @staticmethod
    def _key_of(template: Template, entry: Entry) -> str:
        return template.fill({"type": entry.object_type, "id": entry.object_id, "operation": entry.operation})

    def _type_of(self, object_type: str, operation: str) -> str:
        if len(self._types) >= Filter.KNOWN_MAX:
            self._types.clear()
        found = self._types[object_type, operation] = f"oplog.{object_type}.{operation}"
        return found

    def _time_of(self, updated_at: str | None) -> str | None:
        # Entries of one second share their text, so the last answer is nearly always the next one's.
        time = updated_at if updated_at is not None and _is_rfc3339(updated_at) else None
        self._time = (updated_at, time)
        return time


def _is_rfc3339(text: str) -> bool:
    found = _RFC3339.fullmatch(text)
    if found is None:
        return False
    try:
        datetime.fromisoformat(found[1])  # 30 February has the form and is no day
    except ValueError:
        return False
    return True


class _Data(msgspec.Struct, frozen=True, gc=False):
    sequence: str
    operation: str
    events: Raw | UnsetType
    app_id: Raw | UnsetType
    object: Raw


class _CloudEvent(msgspec.Struct, frozen=True, gc=False):
    specversion: str
    id: str
    source: str
    type: str
    subject: str
    time: str | UnsetType
    datacontenttype: str
    sequence: str
    partitionkey: str
    datamodelhash: str | UnsetType
    data: _Data | dict[str, object]


_encode = msgspec.json.Encoder().encode


def _data_with_unknown(entry: Entry, sequence: str) -> dict[str, object]:
    data: dict[str, object] = {"sequence": sequence, "operation": entry.operation}
    if entry.events is not UNSET:
        data["events"] = entry.events
    if entry.app_id is not UNSET:
        data["app_id"] = entry.app_id
    data["object"] = entry.object
    data.update(entry.unknown or {})
    return data
