"""CloudEvents in binary mode: `data` is the payload, all else is in headers, named as a binding says."""

from __future__ import annotations

import json
from typing import Any, Literal
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_encode import event_of, events_of

from oplogbridge.codec.encode import Codec
from oplogbridge.codec.subjects import Filter
from oplogbridge.source.decode import PageDecoder
from oplogbridge.templates import header_value
from oplogbridge.values import Event
from pages import OBJECT, entry, page

Prefix = Literal["ce_", "ce-"]


def binary_events(*entries: bytes, prefix: Prefix = "ce_", key: str = "{type}/{id}", **fields: Any) -> list[Event]:
    codec = Codec(source="my shop", format="cloudevents", filter=Filter("my shop"), key=key, binary=prefix)
    return codec.events(PageDecoder().decode(page(*entries, **fields), 0))


def test_on_kafka_attributes_are_utf_8_behind_ce_() -> None:
    object_ = '{"id":"å 1","type":"user","updated_at":"2015-02-05T08:15:17Z"}'.encode()

    (event,) = binary_events(entry("42", object_=object_))

    assert dict(event.headers) == {
        "content-type": b"application/json",
        "Oplog-Source": b"my%20shop",
        "Oplog-Sequence": b"42",
        "ce_specversion": b"1.0",
        "ce_id": b"42",
        "ce_source": b"/oplogs/my%20shop",
        "ce_type": b"oplog.user.update",
        "ce_subject": "user/å 1".encode(),
        "ce_time": b"2015-02-05T08:15:17Z",
        "ce_sequence": b"42".zfill(19),
        "ce_partitionkey": "user/å 1".encode(),
        "ce_datamodelhash": b"d9cca7",
    }
    assert event.payload == b'{"sequence":"42","operation":"update","events":[],"object":' + object_ + b"}"


def test_on_http_attributes_are_percent_encoded_behind_ce() -> None:
    object_ = '{"id":"å 1%\\"\\n~","type":"user"}'.encode()

    (event,) = binary_events(entry("42", object_=object_), prefix="ce-")

    headers = dict(event.headers)
    assert headers["ce-subject"] == headers["ce-partitionkey"] == b"user/%C3%A5%201%25%22%0A~"
    assert "ce-time" not in headers
    assert len(headers) == len(event.headers)


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=20))
def test_a_header_value_is_visible_ascii_and_is_read_back(value: str) -> None:
    encoded = header_value(value)

    assert unquote(encoded) == value
    assert all(0x21 <= ord(c) <= 0x7E and c != '"' for c in encoded)


@pytest.mark.parametrize("key", ["{type}/{id}", "{source}:{operation}"])
@pytest.mark.parametrize("more", [{}, {"shard": [1.0], "app_id": None}])
@pytest.mark.parametrize("object_", [OBJECT, b'{"id":"7","type":"order","updated_at":"yesterday"}'])
def test_both_modes_say_the_same(key: str, more: dict[str, Any], object_: bytes) -> None:
    text = entry("42", object_=object_, **more)
    structured = json.loads(event_of(text, source="my shop", key=key).payload)

    (event,) = binary_events(text, key=key)

    attributes = {name[3:]: value.decode() for name, value in event.headers if name.startswith("ce_")}
    attributes["datacontenttype"] = dict(event.headers)["content-type"].decode()
    assert attributes | {"data": json.loads(event.payload)} == structured


def test_events_of_one_type_on_a_page_share_their_common_headers() -> None:
    texts = [
        entry(str(n), object_=b'{"id":"%d","type":"%b"}' % (n, b"order" if n % 3 else b"user")) for n in range(1, 9)
    ]

    events = binary_events(*texts)

    assert len({id(event.constant_headers) for event in events}) == 2
    assert [dict(event.headers)["ce_type"].decode() for event in events] == [event.type for event in events]


def test_only_deletes_are_followed_by_a_tombstone_and_only_if_asked_for() -> None:
    texts = [entry(str(n), operation=operation) for n, operation in enumerate(("create", "delete", "update"), 1)]
    codec = Codec(source="shop", format="raw", filter=Filter("shop"), tombstones=True)

    events = codec.events(PageDecoder(keep_raw=True).decode(page(*texts), 0))

    assert [event.tombstone for event in events] == [False, True, False]
    assert not any(event.tombstone for event in events_of(*texts))
