"""Personal data: what is dropped or hashed leaves no trace, and all else stays byte for byte as received."""

from __future__ import annotations

import hashlib
import hmac
import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from oplogbridge.codec.encode import Codec
from oplogbridge.codec.fields import FieldPaths, FieldRules
from oplogbridge.codec.payloads import Format
from oplogbridge.codec.subjects import Filter
from oplogbridge.handoff import parts_of
from oplogbridge.source.decode import PageDecoder
from oplogbridge.source.wire_v1 import read_v1
from oplogbridge.testing.memory import MemorySettings
from oplogbridge.testing.memory import plugin as memory
from oplogbridge.values import Event, Page
from pages import entry, page

SECRET = b"0123456789abcdef"


def hashed(value: object, secret: bytes = SECRET) -> str:
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return hmac.new(secret, text.encode(), hashlib.sha256).hexdigest()


def decoded(*objects: bytes, keep_raw: bool = False) -> Page:
    entries = [entry(str(n), object_=object_) for n, object_ in enumerate(objects, 1)]
    return PageDecoder(keep_raw=keep_raw).decode(page(*entries), 0)


def treated(text: bytes, *, drop: tuple[str, ...] = (), hash: tuple[str, ...] = ()) -> bytes:  # noqa: A002
    """The object `{"id":"7","type":"user", …}` with the members in `text` behind those two."""
    (received,) = decoded(b'{"id":"7","type":"user",' + text + b"}").entries
    object_ = bytes(FieldRules(FieldPaths(drop, hash), SECRET).applied_to(received).object)
    assert object_.startswith(b'{"id":"7","type":"user"')
    return object_.removeprefix(b'{"id":"7","type":"user"').removesuffix(b"}")


def event_of(text: bytes, format_: Format = "cloudevents", keys: FieldPaths | None = None) -> Event:
    rules = {"user": FieldRules(keys or FieldPaths(("email",)), SECRET)}
    codec = Codec(source="shop", format=format_, filter=Filter("shop"), fields=rules)
    (event,) = codec.events(PageDecoder(keep_raw=format_ == "raw").decode(page(text), 0))
    return event


# Dropping ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "left"),
    [
        (b'"email":"joe@x"', b""),
        (b'"email":"joe@x","n":1.50', b',"n":1.50'),
        (b'"n":1.50,"email":"joe@x"', b',"n":1.50'),
        (b'"a":1 , "email" : "joe@x" , "b" : 2 ', b',"a":1 , "b" : 2 '),
        (b'"email":{"work":["joe@x",{"}":"]"}]},"n":1', b',"n":1'),
        (b'"email":null', b""),
        (b'"em\\u0061il":"joe@x","n":1', b',"n":1'),
        (b'"\\u0065\\u006D\\u0061\\u0069\\u006c":"joe@x"', b""),
        (b'"email":"joe@x","n":1,"email":"joe@y","em\\u0061il":"joe@z"', b',"n":1'),
        (b'"email2":"a","e":"email","xemail":[],"Email":1', b',"email2":"a","e":"email","xemail":[],"Email":1'),
        (b'"note":"\\"email\\":\\"joe\\\\"', b',"note":"\\"email\\":\\"joe\\\\"'),
        (b'"inner":{"email":"of another path"}', b',"inner":{"email":"of another path"}'),
    ],
)
def test_a_dropped_field_is_gone_and_the_rest_is_as_received(text: bytes, left: bytes) -> None:
    assert treated(text, drop=("email",)) == left


def test_an_object_of_which_everything_but_its_name_is_dropped() -> None:
    (received,) = decoded(b'{ "email":1 , "id":"7", "a":2, "type":"user","b":3 , "a":4 }').entries

    rules = FieldRules(FieldPaths(("email", "a", "b")), SECRET)

    assert bytes(rules.applied_to(received).object) == b'{ "id":"7", "type":"user" }'


@pytest.mark.parametrize(
    ("text", "left"),
    [
        (b'"address":{"street":"High","zip":"1"}', b',"address":{"zip":"1"}'),
        (b'"address":{ "street":"High" }', b',"address":{  }'),
        (b'"address":[{"street":"a"},[{"street":"b","n":1}],"street"]', b',"address":[{},[{"n":1}],"street"]'),
        (
            b'"address":{"street":"a"},"\\u0061ddress":{"zip":1,"street":"b"}',
            b',"address":{},"\\u0061ddress":{"zip":1}',
        ),
        (b'"address":"High street","street":"kept"', b',"address":"High street","street":"kept"'),
        (b'"address":null', b',"address":null'),
    ],
)
def test_a_path_leads_into_objects_and_every_element_of_an_array(text: bytes, left: bytes) -> None:
    assert treated(text, drop=("address.street",)) == left


def test_arrays_as_deep_as_a_page_may_be_are_looked_into() -> None:
    depth = 900
    text = b'"address":' + b"[" * depth + b'{"street":"a"}' + b"]" * depth

    assert b"street" not in treated(text, drop=("address.street",))


# Hashing -----------------------------------------------------------------------------------------------------------


def test_a_hash_is_hmac_sha256_of_the_value_as_json_text() -> None:
    assert treated(b'"phone":"+45 1"', hash=("phone",)).decode() == f',"phone":"{hashed("+45 1")}"'


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (b'"Zo\xc3\xab"', b'"Zo\\u00eb"'),
        (b'"a/b"', b'"a\\/b"'),
        (b'{"a":[1,"x"]}', b' { "a" : [ 1 ,\t"\\u0078" ] } '),
        (b"1.50", b" 1.50 "),
    ],
)
def test_the_same_value_has_the_same_hash_however_it_is_spelled(one: bytes, other: bytes) -> None:
    assert json.loads(b"{" + treated(b'"phone":' + one, hash=("phone",))[1:] + b"}") == json.loads(
        b"{" + treated(b'"phone":' + other, hash=("phone",))[1:] + b"}"
    )


@pytest.mark.parametrize(("one", "other"), [(b'"1"', b"1"), (b"1", b"1.0"), (b'"a b"', b'"ab"'), (b'""', b"[]")])
def test_different_values_have_different_hashes(one: bytes, other: bytes) -> None:
    assert treated(b'"phone":' + one, hash=("phone",)) != treated(b'"phone":' + other, hash=("phone",))


def test_null_says_nothing_of_anybody_and_stays() -> None:
    assert treated(b'"phone": null ', hash=("phone",)) == b',"phone": null '


def test_without_the_secret_a_hash_cannot_be_looked_up() -> None:
    (received,) = decoded(b'{"id":"7","type":"user","phone":"+45 1"}').entries
    one, other = (FieldRules(FieldPaths(hash=("phone",)), secret).applied_to(received) for secret in (SECRET, b"other"))

    assert bytes(one.object) != bytes(other.object)
    assert SECRET.decode() not in repr(FieldRules(FieldPaths(hash=("phone",)), SECRET))


# Whole events ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("format_", ["cloudevents", "raw", "flat", "debezium"])
def test_no_format_shows_what_was_dropped(format_: Format) -> None:
    object_ = b'{"id":"7","type":"user","em\\u0061il":"joe@x","n":1.0,"email":"joe@y"}'

    event = event_of(entry("1", object_=object_), format_)

    assert b"joe@" not in event.payload
    assert b'"n":1.0' in event.payload
    json.loads(event.payload)


def test_raw_is_the_entry_as_received_but_for_the_fields() -> None:
    text = b'{ "sequence_id" : "42" , "email":"of the entry", "object": { "id":"7","type":"user","email":1 } ,"x":1.50}'

    event = event_of(text.replace(b'"object"', b'"operation":"update","object"'), "raw")

    assert event.payload == text.replace(b'"object"', b'"operation":"update","object"').replace(b',"email":1', b"")


def test_the_raw_entry_of_v1_has_its_fields_under_data() -> None:
    text = (
        b'[{"sequence":5,"operation":"update","timestamp":"2015-02-05T08:15:17Z","type":"user","id":"7",'
        b'"data":{"email":"joe@x","n":1}}]'
    )
    rules = {"user": FieldRules(FieldPaths(("email", "updated_at")), SECRET)}
    codec = Codec(source="shop", format="raw", filter=Filter("shop"), fields=rules)

    (event,) = codec.events(PageDecoder(keep_raw=True, read=read_v1).decode(text, 0))

    assert event.payload == b'{"sequence":5,"operation":"update","type":"user","id":"7","data":{"n":1}}'


def test_a_time_that_is_dropped_from_the_object_is_no_attribute_either() -> None:
    event = event_of(entry("1"), keys=FieldPaths(("updated_at",)))

    assert event.time is None
    assert b"2015" not in event.payload


def test_objects_without_rules_are_the_very_bytes_of_the_page() -> None:
    rules = FieldRules(FieldPaths(("email",)), SECRET)
    (untouched,) = decoded(b'{"id":"7","type":"user","n":1}').entries

    assert rules.applied_to(untouched) is untouched
    assert event_of(entry("1", object_=b'{"id":"7","type":"order","email":"kept"}')).payload.count(b'"email":"kept"')


def test_a_malformed_entry_is_kept_without_its_bytes_where_fields_are_treated() -> None:
    text = entry("1", object_=b'{"id":7,"type":"user","email":"joe@x"}')
    decoded_page = PageDecoder().decode(page(text), 0)
    traits = memory.traits(MemorySettings(name="unused"))
    rules = {"user": FieldRules(FieldPaths(("email",)), SECRET)}

    def malformed(fields: dict[str, FieldRules]) -> Any:
        codec = Codec(source="shop", format="cloudevents", filter=Filter("shop"), fields=fields)
        (kept,) = [part.malformed for part in parts_of(decoded_page, codec, traits) if part.malformed]
        return kept

    assert b"joe@x" in malformed({}).raw
    assert (malformed(rules).raw, malformed(rules).sequence) == (b"", 1)
    assert "joe@x" not in malformed(rules).reason
    assert "`fields`" in malformed(rules).reason


# Anything that JSON allows -----------------------------------------------------------------------------------------

NAMES = st.sampled_from(["email", "phone", "address", "street", "n", "", 'a"b', "\\", "ë😀", "e mail"])
SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=6)
)
DROP, HASH = "email", "phone"


class Pairs(list[tuple[str, Any]]):
    """An object with its members in order and twice where they stand twice."""


def values() -> st.SearchStrategy[Any]:
    return st.recursive(
        SCALARS,
        lambda inner: st.lists(inner, max_size=3) | st.lists(st.tuples(NAMES, inner), max_size=5).map(Pairs),
        max_leaves=12,
    )


@st.composite
def written(draw: st.DrawFn, value: Any) -> str:
    """The JSON text of a value with white space and escapes at will."""
    space = st.sampled_from(["", " ", "\n\t", "\r "])

    def text(one: str) -> str:
        characters = [
            "".join(f"\\u{unit:04x}" for unit in _utf16(c)) if draw(st.booleans()) else json.dumps(c)[1:-1] for c in one
        ]
        return '"' + "".join(characters) + '"'

    def spell(one: Any) -> str:
        if isinstance(one, Pairs):
            members = [f"{draw(space)}{text(n)}{draw(space)}:{draw(space)}{spell(v)}{draw(space)}" for n, v in one]
            return "{" + (",".join(members) or draw(space)) + "}"
        if isinstance(one, list):
            return "[" + (",".join(f"{draw(space)}{spell(v)}{draw(space)}" for v in one) or draw(space)) + "]"
        return text(one) if isinstance(one, str) else json.dumps(one)

    return spell(value)


def _utf16(character: str) -> list[int]:
    units = character.encode("utf-16-be", "surrogatepass")
    return [int.from_bytes(units[at : at + 2]) for at in range(0, len(units), 2)]


def as_it_should_be(value: Any, *, at_root: bool = True, in_address: bool = False) -> Any:
    """What must be left: `email` dropped and `phone` hashed at the root, `address.street` dropped below."""
    if isinstance(value, Pairs):
        left = Pairs()
        for name, inner in value:
            if (at_root and name == DROP) or (in_address and name == "street"):
                continue
            if at_root and name == HASH and inner is not None:
                left.append((name, "hashed"))
            elif at_root and name == "address":
                left.append((name, as_it_should_be(inner, at_root=False, in_address=True)))
            else:
                left.append((name, inner))
        return left
    if isinstance(value, list) and in_address:
        return [as_it_should_be(inner, at_root=False, in_address=True) for inner in value]
    return value


@given(st.data(), st.lists(st.tuples(NAMES, values()), max_size=6).map(Pairs))
def test_whatever_an_object_holds_just_the_fields_are_treated(data: st.DataObject, members: Pairs) -> None:
    members = Pairs([("id", "7"), ("type", "user"), *members])
    text = data.draw(written(members)).encode("utf-8", "surrogatepass")
    try:
        text.decode()
        (received,) = decoded(text).entries
    except (UnicodeDecodeError, ValueError):
        return  # half of a surrogate pair: no entry is made of such a page
    rules = FieldRules(FieldPaths((DROP, "address.street"), (HASH,)), SECRET)

    found = json.loads(bytes(rules.applied_to(received).object), object_pairs_hook=Pairs)

    hidden = Pairs([(n, "hashed" if n == HASH and v is not None else v) for n, v in found])
    assert hidden == as_it_should_be(json.loads(text, object_pairs_hook=Pairs))


@given(st.binary(max_size=40))
def test_what_is_no_json_is_an_error_and_never_passed_on(noise: bytes) -> None:
    (received,) = decoded(b'{"id":"7","type":"user"}').entries
    broken = msgspec.structs.replace(received, object=msgspec.Raw(b'{"a":' + noise + b',"email":"joe@x"'))

    with pytest.raises(ValueError):
        FieldRules(FieldPaths(("email",)), SECRET).applied_to(broken)
