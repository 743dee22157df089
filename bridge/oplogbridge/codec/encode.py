"""Entries of a page become events: key, type, time, headers, and the payload in the pipeline's format. Pure.

This is the hot path: one plain loop a page, one join an entry (docs/architecture.md, "What an entry costs").
"""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import quote

from oplogbridge.codec.payloads import CONTENT_TYPES, PAYLOADS, Format, Kind, behind_key, kind_of, time_of
from oplogbridge.codec.subjects import Filter
from oplogbridge.templates import KEY_FIELDS, Template
from oplogbridge.values import Entry, Event, Page

DEFAULT_KEY = "{type}/{id}"


class Codec:
    """What a pipeline makes of a page. `key` is a template over {source}, {type}, {id}, {operation}."""

    def __init__(self, *, source: str, format: Format, filter: Filter, key: str = DEFAULT_KEY) -> None:  # noqa: A002
        self._filter = filter
        self._source = quote(source, safe="")
        self._key = None if key == DEFAULT_KEY else Template(key, fields=KEY_FIELDS, constants={"source": source})
        self._payload = PAYLOADS[format]
        self._constant_headers = (("content-type", CONTENT_TYPES[format]), ("Oplog-Source", self._source.encode()))
        self._kinds: dict[tuple[str, str], Kind] = {}
        self._time = time_of(None)

    def events(self, page: Page) -> list[Event]:
        """The events of the entries that the filter lets pass, in the page's order."""
        accepts: Callable[[str, str], bool] | None = None if self._filter.passes_all else self._filter.accepts
        key_template, payload_of = self._key, self._payload
        kinds, constant_headers, time = self._kinds, self._constant_headers, self._time
        behind = behind_key(page.datamodel_hash)
        events: list[Event] = []
        for entry in page.entries:
            object_type, operation = entry.object_type, entry.operation
            if accepts is not None and not accepts(object_type, operation):
                continue
            kind = kinds.get((object_type, operation)) or self._kind_of(object_type, operation)
            if entry.updated_at != time.received:
                time = self._time = time_of(entry.updated_at)
            subject = f"{object_type}/{entry.object_id}"
            key = subject if key_template is None else self._key_of(key_template, entry)
            events.append(
                Event(
                    entry.sequence,
                    entry.id,
                    key.encode(),
                    kind.event_type,
                    time.attribute,
                    payload_of(entry, subject, key, kind, time, behind),
                    constant_headers,
                    kind.object_type,
                    kind.operation,
                )
            )
        return events

    @staticmethod
    def _key_of(template: Template, entry: Entry) -> str:
        return template.fill({"type": entry.object_type, "id": entry.object_id, "operation": entry.operation})

    def _kind_of(self, object_type: str, operation: str) -> Kind:
        if len(self._kinds) >= Filter.KNOWN_MAX:
            self._kinds.clear()
        found = self._kinds[object_type, operation] = kind_of(self._source, object_type, operation)
        return found
