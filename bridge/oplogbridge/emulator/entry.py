"""Bodies of entries: made from an object, or taken from a line of JSON with the object's bytes as they are."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple
from uuid import NAMESPACE_URL, uuid5

import msgspec
import orjson

from oplogbridge.emulator.log import Body, Stamped
from oplogbridge.values import SEQUENCE_MAX

_NUMBER_FIRST = re.compile(rb'\s*\{\s*"(sequence|sequence_id)"\s*:\s*(?:[0-9]+|"[0-9]+")\s*,\s*')
_NUMBERS = ("sequence", "sequence_id")
_members = msgspec.json.Decoder(dict[str, msgspec.Raw])


class ReadLine(NamedTuple):
    sequence: int | None  # None: to be minted
    body: Body


def entry_body(operation: str, object_: Mapping[str, Any] | bytes, *, events: bytes = b"[]") -> Body:
    """A mapping without `updated_at` gets the second of its sequence; bytes are kept as they are."""
    if isinstance(object_, bytes):
        return _around(operation, events, object_)
    if "updated_at" in object_:
        return _around(operation, events, orjson.dumps(object_))
    named = {name: object_[name] for name in ("id", "type") if name in object_}
    rest = {name: value for name, value in object_.items() if name not in named}
    return _stamped(operation, events, [orjson.dumps(named)[1:-1], orjson.dumps(rest)[1:-1]])


def read_line(line: bytes, *, default_type: str, number: int) -> ReadLine:
    """One line of a data set. `default_type` and the line's number name an object that does not name itself.

    Raises ValueError (msgspec's) when the line is not a JSON object.
    """
    line = line.strip()
    members = _members.decode(line)
    if "object" in members and "operation" in members:
        return _read_entry(line, members)
    return ReadLine(None, _create_of(line, members, default_type, number))


def _read_entry(line: bytes, members: dict[str, msgspec.Raw]) -> ReadLine:
    """An entry is played as it is. One whose own number cannot order it is a literal, placed where it was found."""
    told = [_sequence(members[name]) for name in ("sequence_id", "sequence") if name in members]
    if None in told:
        return ReadLine(None, line)
    first = _NUMBER_FIRST.match(line)
    if first is not None and len(told) == 1:
        return ReadLine(told[0], line[first.end() :])
    if not told:
        return ReadLine(None, line[1:].lstrip())
    rest = [b"%b:%b" % (orjson.dumps(name), bytes(value)) for name, value in members.items() if name not in _NUMBERS]
    return ReadLine(told[0], b",".join(rest) + b"}")


def _sequence(raw: msgspec.Raw) -> int | None:
    text = bytes(raw).strip(b'"')
    if not text.isdigit() or len(text) > 19:
        return None
    sequence = int(text)
    return sequence if 0 < sequence <= SEQUENCE_MAX else None


def _create_of(line: bytes, members: dict[str, msgspec.Raw], default_type: str, number: int) -> Body:
    """The `create` of a plain object. What an oplog object needs and this one lacks is put before its own bytes."""
    named = {"id": members.get("id"), "type": members.get("type")}
    wrong = {name for name, raw in named.items() if raw is not None and bytes(raw)[:1] != b'"'}
    if wrong:  # ids that are numbers are common in data sets; the oplog's are text
        rest = [b"%b:%b" % (orjson.dumps(name), bytes(raw)) for name, raw in members.items() if name not in wrong]
        line = b"{%b}" % b",".join(rest)
    defaults = {"id": str(uuid5(NAMESPACE_URL, f"{default_type}/{number}")), "type": default_type}
    added = {
        name: defaults[name] if raw is None or bytes(raw) == b"null" else bytes(raw).decode()
        for name, raw in named.items()
        if raw is None or name in wrong
    }
    parts = [orjson.dumps(added)[1:-1], line[1:-1].strip()]
    if "updated_at" in members:
        return _around("create", b"[]", b"{%b}" % b",".join(part for part in parts if part))
    return _stamped("create", b"[]", parts)


def _around(operation: str, events: bytes, object_: bytes) -> bytes:
    return b'"operation":%b,"events":%b,"object":%b}' % (orjson.dumps(operation), events, object_)


def _stamped(operation: str, events: bytes, parts: list[bytes]) -> Stamped:
    """`parts` are members before and after `updated_at`; either may be empty."""
    before, after = parts
    opening = b'"operation":%b,"events":%b,"object":{' % (orjson.dumps(operation), events)
    return Stamped(
        opening + (before + b"," if before else b"") + b'"updated_at":"',
        b'"' + (b"," + after if after else b"") + b"}}",
    )
