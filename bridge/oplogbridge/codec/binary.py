"""CloudEvents in binary mode: the attributes as headers, named and encoded as the destination's binding says. Pure.

On Kafka `ce_id` holds UTF-8; on HTTP and NATS `ce-id` is percent-encoded. `datacontenttype` is the `content-type`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from oplogbridge.codec.payloads import Kind, Time, number_of
from oplogbridge.templates import header_value
from oplogbridge.values import Entry, Headers

Prefix = Literal["ce_", "ce-"]


class AttributeHeaders:
    """What all events of one type and operation on a page share is one object, which sinks lay out once."""

    def __init__(self, prefix: Prefix, *, source: str, constant_headers: Headers, replay: str | None = None) -> None:
        """`source` is percent-encoded. `constant_headers` are those that every event has. `replay` as `kind_of`."""
        self._value: Callable[[str], str] = str if prefix == "ce_" else header_value
        self._constant = (
            *constant_headers,
            (f"{prefix}specversion", b"1.0"),
            (f"{prefix}source", self._encoded(f"/oplogs/{source}")),
            *([] if replay is None else [(f"{prefix}replayid", self._encoded(replay))]),
        )
        self._type, self._hash = f"{prefix}type", f"{prefix}datamodelhash"
        self._id, self._subject, self._time = f"{prefix}id", f"{prefix}subject", f"{prefix}time"
        self._sequence, self._key = f"{prefix}sequence", f"{prefix}partitionkey"

    def of_kind(self, kind: Kind, datamodel_hash: str | None) -> Headers:
        headers = (*self._constant, (self._type, self._encoded(kind.event_type)))
        return headers if datamodel_hash is None else (*headers, (self._hash, self._encoded(datamodel_hash)))

    def of_event(self, entry: Entry, subject: str, key: str, time: Time) -> Headers:
        sequence, subject_text = number_of(entry), self._encoded(subject)
        headers = (
            (self._id, entry.id.encode()),
            (self._subject, subject_text),
            (self._sequence, sequence.zfill(19)),  # CloudEvents orders this attribute as text
            (self._key, subject_text if key is subject else self._encoded(key)),
        )
        return headers if time.attribute is None else (*headers, (self._time, time.attribute.encode()))

    def _encoded(self, value: str) -> bytes:
        return self._value(value).encode()
