"""A page as API v1 shows it: a bare array, the fields of an object apart from its type, id and time. Pure."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import orjson

from oplogbridge.emulator.log import Row
from oplogbridge.emulator.sequences import float_rounded
from oplogbridge.emulator.switches import Switches

_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_BESIDE_DATA = ("id", "type", "updated_at")
_NULL = msgspec.Raw(b"null")


def render_v1(rows: Sequence[Row], switches: Switches) -> bytes:
    """Numbers are numbers here: v1 has no sequences as text. A literal is served as it stands."""
    rounded = switches.sequence_numbers == "rounded"
    shown = [
        body if body[0] == 0x7B else _entry(float_rounded(sequence) if rounded else sequence, body)
        for sequence, body in rows
    ]
    return b"[" + b",".join(shown) + b"]"


def _entry(sequence: int, body: bytes) -> bytes:
    entry = _members(b"{" + body)
    object_ = _members(entry["object"])
    operation = b'"delete"' if bytes(entry["operation"]) == b'"delete"' else b'"update"'  # also of a new object
    data = b",".join(
        [b"%b:%b" % (orjson.dumps(name), value) for name, value in object_.items() if name not in _BESIDE_DATA]
    )
    parts = [b'{"sequence":%d,"operation":%b' % (sequence, operation)]
    if "updated_at" in object_:
        parts.append(b',"timestamp":%b' % object_["updated_at"])
    parts.append(b',"type":%b,"id":%b' % (object_.get("type", _NULL), object_.get("id", _NULL)))
    return b"".join([*parts, b',"data":{', data, b"}}"])
