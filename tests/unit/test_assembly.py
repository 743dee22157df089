"""What the configuration says of an event reaches the codec."""

from __future__ import annotations

from typing import Any

from oplogbridge.assembly import sources_of
from oplogbridge.codec.dead_letters import dead_letter_event
from oplogbridge.source.decode import PageDecoder
from oplogbridge.values import Event
from pages import entry, page
from unit.config_samples import settings, with_pipeline

KAFKA = {"kind": "kafka", "bootstrap_servers": "localhost:9092"}
WEBHOOK = {"kind": "webhook", "url": "https://hooks.example.com/"}
DELETE = entry("42", operation="delete", object_=b'{"id":"7","type":"user","email":"joe@x","phone":"1","n":1.0}')


def event_of(**pipeline: Any) -> Event:
    (source,) = sources_of(settings(with_pipeline(**pipeline)))
    (spec,) = source.pipelines
    (event,) = spec.codec.events(PageDecoder().decode(page(DELETE), 0))
    return event


def test_attributes_are_named_as_the_sink_wants_them() -> None:
    assert dict(event_of(sink=KAFKA, mode="binary").headers)["ce_id"] == b"42"
    assert dict(event_of(sink=WEBHOOK, mode="binary").headers)["ce-id"] == b"42"
    assert event_of(sink=KAFKA).own_headers == ()


def test_tombstones_follow_deletes_where_they_are_asked_for() -> None:
    assert event_of(sink=KAFKA, tombstones=True).tombstone
    assert not event_of(sink=KAFKA).tombstone


def test_neither_an_event_nor_its_dead_letter_holds_what_is_dropped() -> None:
    fields = {"user": {"drop": ["email"], "hash": ["phone"]}}

    event = event_of(fields=fields, fields_secret="a-secret-of-some-length")
    letter = dead_letter_event(
        source="shop", pipeline="out", sequence=42, key=event.key, rejected=event.payload, reason="too large"
    )

    assert event.payload.endswith(b',"n":1.0}}}')
    for shown in (event.payload, letter.payload, repr(event).encode()):
        assert b"joe@x" not in shown
        assert b'"phone":"1"' not in shown
