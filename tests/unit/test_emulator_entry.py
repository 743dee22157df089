"""Lines of a data set as entries: what is kept, what is added, what is a literal."""

from __future__ import annotations

from uuid import NAMESPACE_URL, uuid5

import msgspec
import pytest

from oplogbridge.emulator.entry import ReadLine, entry_body, read_line
from oplogbridge.emulator.log import Stamped

SEQUENCE = 1423124117 << 32 | 1


def read(line: bytes, *, number: int = 1) -> ReadLine:
    return read_line(line, default_type="movie", number=number)


def text(line: ReadLine) -> bytes:
    return line.body if isinstance(line.body, bytes) else line.body.at(SEQUENCE)


def test_an_entry_keeps_its_sequence_and_all_bytes_after_it() -> None:
    line = (
        b'{"sequence":9223372036854775807,"operation":"update","events":[ ],"object":{"b":1.0, "a":"\\u00e9"},"x":1}\n'
    )

    assert read(line) == (9223372036854775807, line[32:-1])


def test_the_text_form_of_the_sequence_is_kept_too() -> None:
    assert read(b'{ "sequence_id": "12" , "operation":"delete","object":{}}') == (
        12,
        b'"operation":"delete","object":{}}',
    )


def test_a_sequence_that_is_not_the_first_member_is_taken_out() -> None:
    line = read(b'{"app_id":null,"operation":"create","object":{"id":"1",  "n":1e2},"sequence":5,"sequence_no":6}')

    assert line == (5, b'"app_id":null,"operation":"create","object":{"id":"1",  "n":1e2},"sequence_no":6}')


def test_the_exact_number_wins_over_one_that_went_through_a_double() -> None:
    line = b'{"sequence":6112271540663878000,"sequence_id":"6112271540663877633","operation":"update","object":{}}'

    assert read(line) == (6112271540663877633, b'"operation":"update","object":{}}')


def test_an_entry_without_a_number_gets_one_later() -> None:
    assert read(b'{"operation":"create","object":{}}') == (None, b'"operation":"create","object":{}}')


@pytest.mark.parametrize("number", [b"0", b"-1", b"9223372036854775808", b"1.5", b"1e3", b"null", b'"x"', b"[]"])
def test_an_entry_whose_number_cannot_order_it_is_a_literal(number: bytes) -> None:
    line = b'{"sequence":%b,"operation":"create","object":{}}' % number

    assert read(line) == (None, line)


def test_a_malformed_object_is_played_as_it_is() -> None:
    assert read(b'{"sequence":3,"operation":"update","object":7}') == (3, b'"operation":"update","object":7}')


def test_a_plain_object_becomes_a_create_and_keeps_its_bytes() -> None:
    line = read(b'{"id":"m1","type":"film","title":"Am\\u00e9lie",  "year":2001.0}')

    assert line.sequence is None
    assert text(line) == (
        b'"operation":"create","events":[],"object":{"updated_at":"2015-02-05T08:15:17Z",'
        b'"id":"m1","type":"film","title":"Am\\u00e9lie",  "year":2001.0}}'
    )


def test_an_object_that_has_a_time_is_not_touched_at_all() -> None:
    own = b'{"updated_at":"2001-04-25T00:00:00Z","type":"film", "id":"m1"}'

    assert text(read(own)) == b'"operation":"create","events":[],"object":' + own + b"}"


def test_what_an_object_lacks_is_put_before_its_own_bytes() -> None:
    made = msgspec.json.decode(b"{" + text(read(b'{ "title" : "x" }', number=7)))

    assert made["object"] == {
        "id": str(uuid5(NAMESPACE_URL, "movie/7")),
        "type": "movie",
        "updated_at": "2015-02-05T08:15:17Z",
        "title": "x",
    }


def test_the_minted_id_is_the_same_on_every_load_and_another_on_every_line() -> None:
    line = b'{"title":"x"}'

    assert text(read(line, number=7)) == text(read(line, number=7))
    assert text(read(line, number=7)) != text(read(line, number=8))


def test_an_id_that_is_a_number_becomes_text() -> None:
    made = msgspec.json.decode(b"{" + text(read(b'{"id":862,"type":null,"title":"Toy Story","votes":7.70}')))

    assert made["object"]["id"] == "862"
    assert made["object"]["type"] == "movie"
    assert b'"title":"Toy Story","votes":7.70}}' in text(read(b'{"id":862,"title":"Toy Story","votes":7.70}'))


def test_an_empty_object_is_an_object_too() -> None:
    made = msgspec.json.decode(b"{" + text(read(b"{}")))

    assert set(made["object"]) == {"id", "type", "updated_at"}


@pytest.mark.parametrize("line", [b"[1]", b"7", b"{", b"", b'{"a":}', b"null"])
def test_what_is_not_a_json_object_is_refused(line: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        read(line)


def test_a_mapping_gets_the_time_of_its_sequence() -> None:
    body = entry_body("create", {"name": "Zoë", "type": "user", "id": "1"})

    assert isinstance(body, Stamped)
    assert msgspec.json.decode(b"{" + body.at(SEQUENCE)) == {
        "operation": "create",
        "events": [],
        "object": {"id": "1", "type": "user", "updated_at": "2015-02-05T08:15:17Z", "name": "Zoë"},
    }
