"""Entries of a page become events: key, type, time, headers, and the payload in the pipeline's format. Pure.

This is the hot path: one plain loop a page, one join an entry (docs/architecture.md, "What an entry costs").
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from urllib.parse import quote

from oplogbridge.codec.binary import AttributeHeaders, Prefix
from oplogbridge.codec.fields import FieldRules
from oplogbridge.codec.payloads import (
    CONTENT_TYPES,
    PAYLOADS,
    Format,
    Kind,
    behind_key,
    cloudevent_data,
    kind_of,
    time_of,
)
from oplogbridge.codec.subjects import Filter
from oplogbridge.templates import KEY_FIELDS, Template
from oplogbridge.values import Entry, Event, Headers, Malformed, Page

DEFAULT_KEY = "{type}/{id}"


class Codec:
    """What a pipeline makes of a page."""

    def __init__(
        self,
        *,
        source: str,
        format: Format,  # noqa: A002
        filter: Filter,  # noqa: A002
        key: str = DEFAULT_KEY,
        binary: Prefix | None = None,
        tombstones: bool = False,
        fields: Mapping[str, FieldRules] | None = None,
        replay: str | None = None,
    ) -> None:
        """`key` is a template over {source}, {type}, {id}, {operation}; `binary` says how CloudEvents' attributes are
        named in headers, None is structured mode; `fields` are by object type; `replay` marks what is delivered once
        more among what was delivered before."""
        self._filter = filter
        self._tombstones = tombstones
        self._fields = fields or {}
        self._source = quote(source, safe="")
        self._key = None if key == DEFAULT_KEY else Template(key, fields=KEY_FIELDS, constants={"source": source})
        self._payload = PAYLOADS[format]
        content_type = CONTENT_TYPES[format] if binary is None else b"application/json"
        self._constant_headers: Headers = (("content-type", content_type), ("Oplog-Source", self._source.encode()))
        self._replay = replay
        if replay is not None:
            self._constant_headers = (*self._constant_headers, ("Oplog-Replay", replay.encode()))
        self._binary: AttributeHeaders | None = None
        if binary is not None:
            self._payload = cloudevent_data
            self._binary = AttributeHeaders(
                binary, source=self._source, constant_headers=self._constant_headers, replay=replay
            )
        self._kinds: dict[tuple[str, str], Kind] = {}
        self._time = time_of(None)

    def accepts(self, object_type: str, operation: str) -> bool:
        """Whether the filter lets such entries pass."""
        return self._filter.passes_all or self._filter.accepts(object_type, operation)

    def events(self, page: Page) -> list[Event]:
        """The events of the entries that the filter lets pass, in the page's order."""
        accepts: Callable[[str, str], bool] | None = None if self._filter.passes_all else self._filter.accepts
        key_template, payload_of = self._key, self._payload
        kinds, constant_headers, time = self._kinds, self._constant_headers, self._time
        behind = behind_key(page.datamodel_hash)
        field_rules, tombstones, binary = self._fields, self._tombstones, self._binary
        own_headers: Headers = ()
        of_kinds: dict[str, Headers] = {}  # binary mode, by event type
        events: list[Event] = []
        for entry in page.entries:
            object_type, operation = entry.object_type, entry.operation
            if accepts is not None and not accepts(object_type, operation):
                continue
            kind = kinds.get((object_type, operation)) or self._kind_of(object_type, operation)
            if field_rules and (rules := field_rules.get(object_type)) is not None:
                entry = rules.applied_to(entry)
            if entry.updated_at != time.received:
                time = self._time = time_of(entry.updated_at)
            subject = f"{object_type}/{entry.object_id}"
            key = subject if key_template is None else self._key_of(key_template, entry)
            if binary is not None:
                constant_headers = of_kinds.get(kind.event_type) or of_kinds.setdefault(
                    kind.event_type, binary.of_kind(kind, page.datamodel_hash)
                )
                own_headers = binary.of_event(entry, subject, key, time)
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
                    own_headers if entry.place is None else (*own_headers, ("Oplog-Place", entry.place.encode())),
                    tombstones and kind.is_delete,
                    entry.place,
                )
            )
        return events

    def malformed(self, entry: Malformed) -> Malformed:
        """As it may be kept: where fields are treated, without its bytes, of which nobody knows what they hold."""
        if not self._fields:
            return entry
        return replace(entry, raw=b"", reason=f"{entry.reason} (its bytes are not kept, because of `fields`)")

    @staticmethod
    def _key_of(template: Template, entry: Entry) -> str:
        return template.fill({"type": entry.object_type, "id": entry.object_id, "operation": entry.operation})

    def _kind_of(self, object_type: str, operation: str) -> Kind:
        if len(self._kinds) >= Filter.KNOWN_MAX:
            self._kinds.clear()
        found = self._kinds[object_type, operation] = kind_of(self._source, object_type, operation, self._replay)
        return found
