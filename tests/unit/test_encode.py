"""What an entry becomes: the CloudEvent of the design, byte for byte, and the entry itself in the format `raw`."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from oplogbridge.codec.encode import Codec
from oplogbridge.codec.payloads import Format
from oplogbridge.codec.subjects import Filter
from oplogbridge.source.decode import PageDecoder
from oplogbridge.values import Event
from pages import OBJECT, entry, page

SEQUENCE = 6112271540663877633
ATTRIBUTE = re.compile(r"[a-z0-9]{1,20}")  # CloudEvents' rule for names


def events_of(
    *entries: bytes,
    source: str = "shop",
    format_: Format = "cloudevents",
    key: str = "{type}/{id}",
    **fields: Any,
) -> list[Event]:
    decoded = PageDecoder(keep_raw=format_ == "raw").decode(page(*entries, **fields), 0)
    assert decoded.malformed == []
    return Codec(source=source, format=format_, filter=Filter(source), key=key).events(decoded)


def event_of(text: bytes, **options: Any) -> Event:
    (event,) = events_of(text, **options)
    return event


def test_an_entry_becomes_the_cloud_event_of_the_design() -> None:
    object_ = b'{"id":"33a1","type":"user","updated_at":"2015-02-05T08:15:17Z","name":"Joe"}'

    event = event_of(entry(str(SEQUENCE), object_=object_))

    assert event.payload == (
        b'{"specversion":"1.0","id":"6112271540663877633","source":"/oplogs/shop","type":"oplog.user.update",'
        b'"subject":"user/33a1","time":"2015-02-05T08:15:17Z","datacontenttype":"application/json",'
        b'"sequence":"6112271540663877633","partitionkey":"user/33a1","datamodelhash":"d9cca7",'
        b'"data":{"sequence":"6112271540663877633","operation":"update","events":[],"object":' + object_ + b"}}"
    )
    assert event == Event(
        SEQUENCE,
        str(SEQUENCE),
        b"user/33a1",
        "oplog.user.update",
        "2015-02-05T08:15:17Z",
        event.payload,
        (("content-type", b"application/cloudevents+json"), ("Oplog-Source", b"shop")),
        "user",
        "update",
    )
    assert event.headers == (
        ("content-type", b"application/cloudevents+json"),
        ("Oplog-Source", b"shop"),
        ("Oplog-Sequence", b"6112271540663877633"),
    )


def test_only_the_attribute_sequence_is_padded_so_that_text_orders_it() -> None:
    payload = json.loads(event_of(entry("42")).payload)

    assert payload["sequence"] == "42".zfill(19)
    assert (payload["id"], payload["data"]["sequence"]) == ("42", "42")


def test_what_the_entry_lacks_is_left_out_and_not_null() -> None:
    bare = b'{"sequence_id":"1","operation":"delete","object":{"type":"user","id":"7"}}'

    payload = json.loads(event_of(bare, datamodel_hash=None).payload)

    assert payload.keys() & {"time", "datamodelhash"} == set()
    assert payload["data"] == {"sequence": "1", "operation": "delete", "object": {"type": "user", "id": "7"}}


def test_app_id_and_unknown_fields_are_kept_in_data() -> None:
    event = event_of(entry("1", app_id=None, shard=[1.0], note="x"))

    assert b'"events":[],"app_id":null,"object":' + OBJECT + b',"shard":[1.0],"note":"x"}}' in event.payload


@pytest.mark.parametrize(
    "text",
    [
        "2015-02-05T08:15:17Z",
        "2015-02-05T08:15:17.123456789Z",
        "2015-02-05T08:15:17+02:00",
        "2016-12-31T23:59:60Z",
        "2016-02-29T00:00:00-23:59",
    ],
)
def test_a_time_in_the_form_of_rfc_3339_is_the_attribute(text: str) -> None:
    event = event_of(entry("1", object_=b'{"id":"7","type":"user","updated_at":"%b"}' % text.encode()))

    assert event.time == json.loads(event.payload)["time"] == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "yesterday",
        "2015-02-05",
        "2015-02-05 08:15:17Z",
        "2015-02-05T08:15:17",
        "2015-02-05T08:15Z",
        "2015-02-30T08:15:17Z",
        "2015-02-00T08:15:17Z",
        "2015-13-05T08:15:17Z",
        "2015-02-05T24:00:00Z",
        "2015-02-05T08:61:17Z",
        "2015-02-05T08:15:61Z",
        "2015-02-05T08:15:17+99:99",
        "2015-02-05T08:15:17Z\\n",
        "٢٠١٥-02-05T08:15:17Z",
    ],
)
def test_any_other_time_stays_in_the_data_and_is_no_attribute(text: str) -> None:
    event = event_of(entry("1", object_=b'{"id":"7","type":"user","updated_at":"%b"}' % text.encode()))

    assert event.time is None
    assert "time" not in json.loads(event.payload)
    assert text.encode() in event.payload


def test_the_time_of_one_entry_is_not_the_next_ones() -> None:
    times = ["2015-02-05T08:15:17Z", None, "2015-02-05T08:15:17Z", "x", "2015-02-05T08:15:18Z"]
    shown = [
        entry(str(n + 1), object_=json.dumps({"id": "7", "type": "user", "updated_at": time}).encode())
        for n, time in enumerate(times)
    ]

    assert [event.time for event in events_of(*shown)] == [times[0], None, times[2], None, times[4]]


def test_types_and_ids_stay_as_they_are_in_attributes_and_are_escaped_as_json() -> None:
    object_ = '{"id":"a\\"b/\\u0000é😀","type":"Über.*"}'.encode()

    event = event_of(entry("1", object_=object_, operation="up\\u000adate"))
    payload = json.loads(event.payload)

    assert event.key == 'Über.*/a"b/\0é😀'.encode()
    assert payload["subject"] == payload["partitionkey"] == 'Über.*/a"b/\0é😀'
    assert payload["type"] == event.type == "oplog.Über.*.up\ndate"


def test_the_name_of_the_source_is_a_uri_reference_and_a_safe_header() -> None:
    event = event_of(entry("1"), source="müller & co/№1")

    quoted = "m%C3%BCller%20%26%20co%2F%E2%84%961"
    assert json.loads(event.payload)["source"] == f"/oplogs/{quoted}"
    assert dict(event.headers)["Oplog-Source"] == quoted.encode()


@pytest.mark.parametrize("format_", ["cloudevents", "raw"])
def test_a_payload_is_one_line_of_valid_json_with_legal_attributes(format_: Format) -> None:
    event = event_of(entry("1", object_='{"id":"7","type":"é","a":"\\u2028\\n"}'.encode()), format_=format_)

    payload = json.loads(event.payload)
    assert payload["object" if format_ == "raw" else "data"]
    if format_ == "cloudevents":
        assert all(ATTRIBUTE.fullmatch(name) for name in payload)
        assert all(isinstance(value, str) and value for name, value in payload.items() if name != "data")


def test_the_format_raw_is_the_entry_as_received() -> None:
    text = b'{ "sequence" : 42 ,\n "operation":"update", "x":1.50,"object": ' + OBJECT + b" }"

    event = event_of(text, format_="raw")

    assert event.payload == text
    assert dict(event.headers)["content-type"] == b"application/json"
    assert (event.sequence, event.key) == (42, b"user/7")


@pytest.mark.parametrize(
    ("template", "key"),
    [
        ("{type}/{id}", b"user/7"),
        ("{id}", b"7"),
        ("{source}:{type}:{operation}", b"shop:user:update"),
        ("all", b"all"),
        ("{{{id}}}", b"{7}"),
    ],
)
def test_the_key_follows_its_template(template: str, key: bytes) -> None:
    event = event_of(entry("1"), key=template)

    assert event.key == key
    assert json.loads(event.payload)["partitionkey"] == key.decode()
    assert json.loads(event.payload)["subject"] == "user/7"


def test_the_same_bytes_in_give_the_same_bytes_out_whatever_came_before() -> None:
    one, other = entry("1", shard=1), entry("2", object_=b'{"id":"8","type":"order"}')
    fresh = [event_of(text) for text in (one, other)]

    assert events_of(one, other) == fresh


def test_the_cache_of_types_is_bounded() -> None:
    codec = Codec(source="shop", format="cloudevents", filter=Filter("shop"))
    for n in range(Filter.KNOWN_MAX + 10):
        body = page(entry("1", object_=b'{"id":"1","type":"t%d"}' % n))
        (event,) = codec.events(PageDecoder().decode(body, 0))
        assert event.type == f"oplog.t{n}.update"

    assert len(codec._kinds) <= Filter.KNOWN_MAX
