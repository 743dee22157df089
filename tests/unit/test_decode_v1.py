"""API v1 brought to the shape of v4: the same entry, the same event, the bytes of its fields untouched."""

from __future__ import annotations

import json

import pytest

from oplogbridge.codec.encode import Codec
from oplogbridge.codec.subjects import Filter
from oplogbridge.errors import Misconfigured
from oplogbridge.source.decode import PageDecoder, PageUnreadable
from oplogbridge.source.wire_v1 import read_v1
from oplogbridge.values import SEQUENCE_MAX, Page

TIME = b'"2015-02-05T08:15:17Z"'


def v1(sequence: object, *, data: bytes = b'{"name":"Joe"}', operation: str = "update", rest: bytes = b"") -> bytes:
    text = json.dumps(sequence).encode()
    head = b'{"sequence":%b,"operation":"%b","timestamp":%b,"type":"user","id":"7"' % (text, operation.encode(), TIME)
    return head + b',"data":' + data + rest + b"}"


def decoded(*entries: bytes, keep_raw: bool = False, offset: int = 0) -> Page:
    body = b"[" + b", ".join(entries) + b"]"
    return PageDecoder(keep_raw=keep_raw, read=read_v1).decode(body, offset)


def test_the_object_is_made_of_the_entrys_own_bytes() -> None:
    data = b'{ "z":1.0,"n":1e400,"a":"\\u00e9\\/" , "photo":"f00d" }'

    (entry,) = decoded(v1(5, data=data)).entries

    assert bytes(entry.object) == (
        b'{"id":"7","type":"user","updated_at":"2015-02-05T08:15:17Z",'
        b'"z":1.0,"n":1e400,"a":"\\u00e9\\/" , "photo":"f00d"}'
    )
    assert (entry.sequence, entry.id, entry.operation) == (5, "5", "update")
    assert (entry.object_type, entry.object_id, entry.updated_at) == ("user", "7", "2015-02-05T08:15:17Z")


@pytest.mark.parametrize("data", [b"null", b"{}", b"{ \n}"])
def test_an_object_without_fields_is_its_name_and_its_time(data: bytes) -> None:
    (entry,) = decoded(v1(5, data=data, operation="delete")).entries

    assert bytes(entry.object) == b'{"id":"7","type":"user","updated_at":"2015-02-05T08:15:17Z"}'


def test_data_and_timestamp_may_be_missing() -> None:
    (entry,) = decoded(b'{"sequence":"5","operation":"delete","type":"user","id":"a\\"b"}').entries

    assert json.loads(bytes(entry.object)) == {"id": 'a"b', "type": "user"}
    assert (entry.object_id, entry.updated_at) == ('a"b', None)


def test_the_event_is_the_one_of_v4_without_what_v1_does_not_tell() -> None:
    page = decoded(v1(5))

    (event,) = Codec(source="shop", format="cloudevents", filter=Filter("shop")).events(page)

    assert json.loads(event.payload) == {
        "specversion": "1.0",
        "id": "5",
        "source": "/oplogs/shop",
        "type": "oplog.user.update",
        "subject": "user/7",
        "time": "2015-02-05T08:15:17Z",
        "datacontenttype": "application/json",
        "sequence": "5".zfill(19),
        "partitionkey": "user/7",
        "data": {
            "sequence": "5",
            "operation": "update",
            "object": {"id": "7", "type": "user", "updated_at": "2015-02-05T08:15:17Z", "name": "Joe"},
        },
    }


def test_fields_that_the_vendor_may_add_are_kept() -> None:
    (entry,) = decoded(v1(5, rest=b',"shard":[1.0]')).entries

    assert {name: bytes(raw) for name, raw in (entry.unknown or {}).items()} == {"shard": b"[1.0]"}
    assert json.loads(bytes(entry.object))["name"] == "Joe"


def test_the_bytes_of_an_entry_are_kept_for_the_format_raw() -> None:
    text = v1(5, data=b'{ "a":1 }')

    for page in (decoded(text, keep_raw=True), decoded(text, v1(6, rest=b',"new":1'), keep_raw=True)):
        assert bytes(page.entries[0].raw or b"") == text


@pytest.mark.parametrize("bad", [v1(5, data=b"[1]"), v1(5, data=b'"text"'), v1(5).replace(b'"id":"7"', b'"id":7')])
def test_a_malformed_entry_is_named_by_its_sequence_and_the_others_pass(bad: bytes) -> None:
    page = decoded(v1(4), bad, v1(6))

    assert [entry.sequence for entry in page.entries] == [4, 6]
    assert [(one.sequence, one.raw) for one in page.malformed] == [(5, bad)]


@pytest.mark.parametrize("sequence", [0, -1, SEQUENCE_MAX + 1, 1.5, "07", True, None])
def test_an_entry_without_a_usable_sequence_stops(sequence: object) -> None:
    with pytest.raises(Misconfigured, match="usable sequence"):
        decoded(v1(4), v1(sequence))


def test_only_an_empty_page_says_that_nothing_follows() -> None:
    some, none = decoded(v1(5), v1(SEQUENCE_MAX)), decoded(offset=9)

    assert (some.more, some.next_offset, some.datamodel_hash) == (True, SEQUENCE_MAX + 1, None)
    assert (none.more, none.next_offset) == (False, 9)


def test_sequences_that_went_through_a_float_are_noticed() -> None:
    with pytest.raises(Misconfigured, match="float"):
        decoded(*[v1(6112271540663878000 + n * 1000) for n in range(20)])


@pytest.mark.parametrize("body", [b"", b"{}", b'{"entries":[]}', b"[1]", b'[{"sequence":1', b"<oplog/>"])
def test_anything_else_is_no_page(body: bytes) -> None:
    with pytest.raises((PageUnreadable, Misconfigured)):
        PageDecoder(read=read_v1).decode(body, 0)
