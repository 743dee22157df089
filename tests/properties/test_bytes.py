"""The object's bytes reach the event as received: number text, key order, escapes, duplicates. Any JSON object does."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from oplogbridge.codec.encode import Codec
from oplogbridge.codec.subjects import Filter
from oplogbridge.source.decode import PageDecoder, PageUnreadable
from oplogbridge.values import Event
from pages import page

NUMBERS = st.one_of(
    st.integers().map(str),
    st.from_regex(r"-?(0|[1-9][0-9]{0,30})(\.[0-9]{1,20})?([eE][+-]?[0-9]{1,4})?", fullmatch=True),
).filter(lambda text: text.isascii())
PLAIN = st.text(st.characters(exclude_categories=["Cs"], exclude_characters='"\\', min_codepoint=0x20), max_size=8)
ESCAPES = st.sampled_from(['\\"', "\\\\", "\\/", "\\n", "\\u0000", "\\u00E9", "\\uD83D\\ude00", "\\u2028", "\\uffff"])
STRINGS = st.lists(PLAIN | ESCAPES, max_size=4).map(lambda parts: '"' + "".join(parts) + '"')
SPACE = st.sampled_from(["", " ", "\n", "\t ", "\r\n"])


def _array(items: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.tuples(SPACE, st.lists(items, max_size=4)).map(lambda made: "[" + made[0] + ",".join(made[1]) + "]")


def _object(values: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    member = st.tuples(SPACE, STRINGS, SPACE, values).map(lambda made: f"{made[0]}{made[1]}{made[2]}:{made[3]}")
    return st.lists(member, max_size=4).map(lambda members: "{" + ",".join(members) + "}")


VALUES = st.recursive(
    NUMBERS | STRINGS | st.sampled_from(["null", "true", "false"]),
    lambda inner: _array(inner) | _object(inner),
    max_leaves=12,
)
NAMES = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
OBJECTS = st.tuples(
    st.lists(st.tuples(STRINGS.map(lambda name: '"x' + name[1:]), VALUES), max_size=5), NAMES, NAMES, SPACE
)


def _text_of(members: list[tuple[str, str]], type_: str, id_: str, space: str) -> str:
    shown = [f"{name}{space}:{value}" for name, value in members]
    shown.insert(len(shown) // 2, f'"type":{json.dumps(type_, ensure_ascii=False)}')
    shown.append(f'"id":{json.dumps(id_)}')
    return "{" + space + f",{space}".join(shown) + "}"


def _events(body: bytes, **options: Any) -> list[Event]:
    decoded = PageDecoder(keep_raw=options.get("format") == "raw").decode(body, 0)
    assert decoded.malformed == []
    return Codec(source="shop", filter=Filter("shop"), **{"format": "cloudevents", **options}).events(decoded)


@given(OBJECTS)
def test_the_object_is_in_the_event_byte_for_byte_and_the_event_is_json(
    made: tuple[list[tuple[str, str]], str, str, str],
) -> None:
    object_ = _text_of(*made).encode()
    body = page(b'{"sequence_id":"7","operation":"update","object":' + object_ + b"}")

    (event,) = _events(body)

    assert event.payload.endswith(b'"object":' + object_ + b"}}")
    parsed = json.loads(event.payload)
    assert parsed["subject"] == f"{made[1]}/{made[2]}"
    assert _events(body) == [event]


@given(OBJECTS, OBJECTS)
def test_unknown_fields_and_events_are_in_the_event_byte_for_byte(
    made: tuple[list[tuple[str, str]], str, str, str], extra: tuple[list[tuple[str, str]], str, str, str]
) -> None:
    object_, more = _text_of(*made).encode(), _text_of(*extra).encode()
    text = b'{"sequence_id":"7","events":[%b],"new":%b,"operation":"update","object":%b}' % (more, more, object_)

    (event,) = _events(page(text))
    (raw,) = _events(page(text), format="raw")

    assert event.payload.endswith(b'"events":[%b],"object":%b,"new":%b}}' % (more, object_, more))
    assert json.loads(event.payload)["data"]["sequence"] == "7"
    assert raw.payload == text


@given(st.binary(max_size=200))
def test_no_bytes_whatever_are_a_page_by_accident_or_an_error_of_ours(noise: bytes) -> None:
    try:
        found = PageDecoder().decode(noise, 0)
    except PageUnreadable:
        return
    assert json.loads(noise)["entries"] == found.entries == []
