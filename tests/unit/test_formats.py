"""What an entry becomes in the formats `flat` and `debezium`, byte for byte; CloudEvents and raw are in test_encode."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_encode import event_of

from oplogbridge.codec.payloads import Format
from pages import entry

OBJECT = b'{ "id":"33a1","type":"user","updated_at":"2015-02-05T08:15:17Z","n":1.0,"name":"Zo\\u00eb" }'
MEMBERS = OBJECT[2:-2]


@pytest.mark.parametrize(
    ("operation", "deleted"), [("create", b"false"), ("update", b"false"), ("delete", b"true"), ("merge", b"false")]
)
def test_flat_is_the_object_and_what_was_done_to_it(operation: str, deleted: bytes) -> None:
    event = event_of(entry("6112271540663877633", object_=OBJECT, operation=operation), format_="flat")

    assert event.payload == (
        b"{" + MEMBERS + b',"__operation":"' + operation.encode() + b'","__sequence":"6112271540663877633",'
        b'"__deleted":' + deleted + b"}"
    )
    assert dict(event.headers)["content-type"] == b"application/json"


@pytest.mark.parametrize(("operation", "op"), [("create", "c"), ("update", "u"), ("merge", "u")])
def test_debezium_is_its_envelope_around_the_object(operation: str, op: str) -> None:
    event = event_of(entry("6112271540663877633", object_=OBJECT, operation=operation), format_="debezium")

    assert event.payload == (
        b'{"before":null,"after":' + OBJECT + b',"op":"' + op.encode() + b'",'
        b'"source":{"connector":"oplog-bridge","name":"shop","ts_ms":1423124117000,"snapshot":"false","db":"shop",'
        b'"table":"user","operation":"' + operation.encode() + b'","sequence":"6112271540663877633"},'
        b'"ts_ms":1423124117000}'
    )


def test_of_a_deleted_object_debezium_has_the_key_alone() -> None:
    event = event_of(entry("7", operation="delete"), format_="debezium")

    payload = json.loads(event.payload)
    assert (payload["before"], payload["after"], payload["op"]) == (None, None, "d")
    assert event.key == b"user/7"


@pytest.mark.parametrize("time", [b"null", b'"yesterday"', b"12"])
def test_an_entry_without_a_time_has_none_of_ours(time: bytes) -> None:
    event = event_of(entry("7", object_=b'{"id":"7","type":"user","updated_at":%b}' % time), format_="debezium")

    payload = json.loads(event.payload)
    assert payload["ts_ms"] is payload["source"]["ts_ms"] is None


@given(st.integers(-2_000_000_000_000, 7_000_000_000_000), st.integers(-23, 23))
def test_a_time_is_milliseconds_whatever_its_zone(unix_ms: int, hours: int) -> None:
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=unix_ms, hours=hours)
    text = f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond:06d}{hours:+03d}:00"
    object_ = b'{"id":"7","type":"user","updated_at":"%b"}' % text.encode()

    event = event_of(entry("7", object_=object_), format_="debezium")

    assert json.loads(event.payload)["ts_ms"] == unix_ms


NAMES = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)


@given(NAMES, NAMES, NAMES, st.sampled_from(["flat", "debezium", "cloudevents"]))
def test_whatever_a_type_an_id_or_an_operation_holds_the_event_is_json(
    object_type: str, object_id: str, operation: str, format_: Format
) -> None:
    object_ = json.dumps({"id": object_id, "type": object_type}).encode()
    text = b'{"sequence_id":"7","operation":%b,"object":%b}' % (json.dumps(operation).encode(), object_)

    payload = json.loads(event_of(text, format_=format_).payload)

    assert payload.keys() & {"before", "specversion", "__operation"}
