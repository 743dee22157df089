"""The event that a dead letter is delivered as. Pure, and without a clock: delivered twice, it is the same bytes."""

from __future__ import annotations

import base64
from urllib.parse import quote

import msgspec

from oplogbridge.values import Event


class _Data(msgspec.Struct, frozen=True):
    sequence: str
    pipeline: str
    reason: str
    rejected: str  # base64: what was refused may be no JSON, which can be the very reason


class _DeadLetter(msgspec.Struct, frozen=True):
    specversion: str
    id: str
    source: str
    type: str
    subject: str
    datacontenttype: str
    sequence: str
    partitionkey: str
    data: _Data


def dead_letter_event(
    *,
    source: str,
    pipeline: str,
    sequence: int,
    key: bytes | None,
    rejected: bytes,
    reason: str,
    number: str | None = None,
    place: str | None = None,
) -> Event:
    """A CloudEvent of type `oplog.dead_letter`; `data.rejected` is base64 of the payload, or of the entry as received
    when it could not become an event. A malformed entry has no key; its sequence stands in.
    `number` and `place` are the event's, where they are not its sequence."""
    text = number or str(sequence)
    key_text = key.decode(errors="replace") if key is not None else f"malformed/{text}"
    payload = msgspec.json.encode(
        _DeadLetter(
            "1.0",
            place or text,
            f"/oplogs/{quote(source, safe='')}",
            "oplog.dead_letter",
            key_text,
            "application/json",
            text.zfill(19),
            key_text,
            _Data(text, pipeline, reason, base64.b64encode(rejected).decode()),
        )
    )
    headers = (
        ("content-type", b"application/cloudevents+json"),
        ("Oplog-Source", quote(source, safe="").encode()),
    )
    return Event(
        sequence,
        text,
        key_text.encode(),
        "oplog.dead_letter",
        None,
        payload,
        headers,
        "dead_letter",
        "reject",
        place=place,
    )
