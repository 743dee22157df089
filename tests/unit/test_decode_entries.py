"""What an entry says, which entries are malformed, and which cannot be passed by anybody."""

from __future__ import annotations

import msgspec
import pytest

from oplogbridge.errors import Misconfigured
from oplogbridge.source.decode import PageDecoder
from oplogbridge.values import Entry, Malformed
from pages import OBJECT, entry, page


def the_entry(text: bytes, *, keep_raw: bool = False) -> Entry:
    decoded = PageDecoder(keep_raw=keep_raw).decode(page(text, has_more=False), 0)
    assert decoded.malformed == []
    return decoded.entries[0]


def the_malformed(text: bytes) -> Malformed:
    decoded = PageDecoder().decode(page(entry("1"), text, entry("9"), has_more=False), 0)
    assert [one.sequence for one in decoded.entries] == [1, 9]
    return decoded.malformed[0]


def test_the_object_is_kept_byte_for_byte() -> None:
    object_ = b'{ "type":"user", "z":1.0,"n":1e400,"dup":1,"dup":2,"id":"7","a":"\\u00e9\\/\\ud83d\\ude00" }'

    found = the_entry(entry("1", object_=object_))

    assert bytes(found.object) == object_
    assert (found.object_type, found.object_id) == ("user", "7")


def test_app_id_events_and_unknown_fields_are_kept_as_they_are() -> None:
    found = the_entry(entry("1", app_id="533bda", shard={"n": 1.50}, note=None))

    assert bytes(found.events) == b"[]"
    assert bytes(found.app_id) == b'"533bda"'
    assert {name: bytes(raw) for name, raw in (found.unknown or {}).items()} == {
        "shard": b'{"n":1.5}',
        "note": b"null",
    }


def test_what_is_absent_is_unset_and_not_null() -> None:
    found = the_entry(b'{"sequence_id":"1","operation":"update","object":' + OBJECT + b"}")

    assert (found.events, found.app_id, found.unknown, found.raw) == (msgspec.UNSET, msgspec.UNSET, None, None)


def test_operations_and_types_that_nobody_knows_yet_pass() -> None:
    found = the_entry(entry("1", operation="merge", object_='{"id":"","type":"Ünïcode.>*"}'.encode()))

    assert (found.operation, found.object_type, found.object_id) == ("merge", "Ünïcode.>*", "")


@pytest.mark.parametrize("value", [b"12", b"null", b"true", b'{"x":[1]}', b"[[]]", b"1e999", b"-1e400"])
def test_a_field_called_updated_at_may_hold_anything(value: bytes) -> None:
    found = the_entry(entry("1", object_=b'{"id":"7","type":"user","updated_at":' + value + b"}"))

    assert found.updated_at is None
    assert value in bytes(found.object)


def test_the_entry_itself_is_kept_when_a_pipeline_wants_it_raw() -> None:
    text = entry("1", shard=1)

    assert bytes(the_entry(text, keep_raw=True).raw or b"") == text


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (entry("5", object_=b'{"type":"user"}'), "id"),
        (entry("5", object_=b'{"id":7,"type":"user"}'), "id"),
        (entry("5", object_=b'{"id":"7","type":null}'), "type"),
        (entry("5", object_=b"null"), "object"),
        (entry("5", object_=b"[]"), "object"),
        (b'{"sequence_id":"5","operation":"update"}', "object"),
        (b'{"sequence_id":"5","object":' + OBJECT + b"}", "operation"),
        (b'{"sequence_id":"5","operation":7,"object":' + OBJECT + b"}", "operation"),
        (b'{"sequence":"5","operation":"update","object":{}}', "type"),
        (entry("5", object_=b'{"id":"\\ud83d","type":"user"}'), "surrogate"),
        (entry("5", object_=b'{"id":"7","type":"user","name":"half \\udE00 of it"}'), "surrogate"),
    ],
)
def test_an_entry_with_a_sequence_that_cannot_become_an_event_is_malformed_alone(text: bytes, reason: str) -> None:
    found = the_malformed(text)

    assert (found.sequence, found.raw) == (5, text)
    assert reason in found.reason


def test_escapes_that_only_look_like_half_a_surrogate_pair_pass_beside_one_that_is() -> None:
    sound = entry("1", object_=b'{"id":"7","type":"user","a":"\\\\ud83d","b":"\\uD83D\\uDE00","c":"\\n\\ufffd"}')
    half = entry("2", object_=b'{"id":"7","type":"user","a":"\\\\\\ud83d"}')

    decoded = PageDecoder().decode(page(sound, half, sound.replace(b'"1"', b'"3"'), has_more=False), 0)

    assert [one.sequence for one in decoded.entries] == [1, 3]
    assert b'"a":"\\\\ud83d","b":"\\uD83D\\uDE00"' in bytes(decoded.entries[0].object)
    assert [(one.sequence, one.raw) for one in decoded.malformed] == [(2, half)]


@pytest.mark.parametrize(
    "number",
    [
        b'"sequence":0',
        b'"sequence":-1',
        b'"sequence":9223372036854775808',
        b'"sequence":18446744073709551616',
        b'"sequence":6.1e18',
        b'"sequence":5.0',
        b'"sequence":true',
        b'"sequence":null',
        b'"sequence":[5]',
        b'"sequence_id":""',
        b'"sequence_id":"0"',
        b'"sequence_id":"-5"',
        b'"sequence_id":"+5"',
        b'"sequence_id":" 5"',
        b'"sequence_id":"5.0"',
        b'"sequence_id":"6.1e18"',
        b'"sequence_id":"0x5"',
        b'"sequence_id":"007"',
        b'"sequence_id":"9223372036854775808"',
        b'"sequence_id":"' + b"9" * 5000 + b'"',
        '"sequence_id":"５"'.encode(),
        b'"sequence_id":null',
        b'"serial":5',
    ],
)
@pytest.mark.parametrize("keep_raw", [False, True])
def test_an_entry_without_a_usable_sequence_can_be_passed_by_nobody(number: bytes, keep_raw: bool) -> None:
    body = page(entry("1"), b"{" + number + b',"operation":"update","object":' + OBJECT + b"}", has_more=False)

    with pytest.raises(Misconfigured, match="without a usable sequence"):
        PageDecoder(keep_raw=keep_raw).decode(body, 0)


@pytest.mark.parametrize("text", [b"{}", b"7", b"null", b'"x"', b"[]"])
def test_an_entry_that_is_hardly_one_can_be_passed_by_nobody(text: bytes) -> None:
    with pytest.raises(Misconfigured, match="without a usable sequence"):
        PageDecoder().decode(page(text, has_more=False), 0)


def test_the_message_about_an_unusable_entry_is_short() -> None:
    body = page(b'{"name":"' + b"x" * 10_000 + b'"}', has_more=False)

    with pytest.raises(Misconfigured) as raised:
        PageDecoder().decode(body, 0)

    assert len(str(raised.value)) < 500
