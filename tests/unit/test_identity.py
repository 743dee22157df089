"""Which event a payload says that it is, in every format and against objects that pretend."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from oplogbridge.codec.encode import Codec
from oplogbridge.codec.payloads import Format
from oplogbridge.codec.subjects import Filter
from oplogbridge.identity import Identity, identity_of
from oplogbridge.values import Entry, Page

SEQUENCE = 6112271540663877633
PRETENDS = (
    b'{"id":"7","type":"user","specversion":"1.0","sequence":"1","sequence_id":"2","__sequence":"3","data":4,'
    b'"source":{"connector":"oplog-bridge","sequence":"5"},"partitionkey":"6","datamodelhash":7}'
)


def payload_of(format: Format, object_: bytes) -> bytes:  # noqa: A002
    raw = msgspec.Raw(b'{"sequence_id":"%d","operation":"update","object":%b}' % (SEQUENCE, object_))
    entry = Entry(
        SEQUENCE,
        str(SEQUENCE),
        "update",
        msgspec.Raw(object_),
        "user",
        "7",
        None,
        msgspec.UNSET,
        msgspec.UNSET,
        None,
        raw,
    )
    page = Page(0, SEQUENCE + 1, [entry], [], False, "d9cca7", 0)
    return Codec(source="shop", format=format, filter=Filter("shop")).events(page)[0].payload


@pytest.mark.parametrize("object_", [b'{"id":"7","type":"user"}', PRETENDS, b"{}"])
@pytest.mark.parametrize("format", ["cloudevents", "raw", "flat", "debezium"])
def test_every_format_says_its_sequence_whatever_the_object_holds(format: Format, object_: bytes) -> None:  # noqa: A002
    found = identity_of(payload_of(format, object_))

    assert (found.sequence, found.id) == (SEQUENCE, str(SEQUENCE))


def test_a_cloudevent_says_its_key_and_its_data_model_too() -> None:
    assert identity_of(payload_of("cloudevents", b"{}")) == Identity(SEQUENCE, str(SEQUENCE), b"user/7", "d9cca7")


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"[]",
        b"null",
        b"\xff",
        b'{"sequence":1e3}',
        b'{"sequence":-1}',
        b'{"__sequence":{}}',
        b"[" * 100_000,
        b'{"source":{"connector":' + b"[" * 9_000,
    ],
)
def test_what_is_no_event_of_ours_is_nobodys(payload: bytes) -> None:
    assert identity_of(payload) == Identity()


@given(st.binary(max_size=40), st.integers(0, 80), st.integers(0, 40))
def test_no_payload_is_an_error(junk: bytes, at: int, cut: int) -> None:
    whole = (
        b'{"specversion":"1.0","id":"5","sequence":"5","partitionkey":"\\ud800","source":{"connector":"oplog-bridge"}}'
    )

    assert isinstance(identity_of(junk), Identity)
    assert isinstance(identity_of(whole[:at] + junk + whole[at + cut :]), Identity)
