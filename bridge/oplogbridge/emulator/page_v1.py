"""A page as API v1 shows it: a bare array, the fields of an object apart from its type, id and time. Pure."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import orjson

from oplogbridge.emulator.datamodel import ATTACHMENT_TYPES, DataModel, Field, Model
from oplogbridge.emulator.log import Row
from oplogbridge.emulator.representation import shown_value_v1
from oplogbridge.emulator.sequences import float_rounded
from oplogbridge.emulator.switches import Switches

_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_BESIDE_DATA = ("id", "type", "updated_at")
_NULL = msgspec.Raw(b"null")


def render_v1(rows: Sequence[Row], switches: Switches, datamodel: DataModel | None = None) -> bytes:
    """Numbers are numbers here: v1 has no sequences as text. A literal is served as it stands. Fields of the data model
    are shown as v1 does: bare keys of choices, the ids of attachments."""
    rounded = switches.sequence_numbers == "rounded"
    shown = [
        body if body[0] == 0x7B else _entry(float_rounded(sequence) if rounded else sequence, body, datamodel)
        for sequence, body in rows
    ]
    return b"[" + b",".join(shown) + b"]"


def _entry(sequence: int, body: bytes, datamodel: DataModel | None) -> bytes:
    entry = _members(b"{" + body)
    try:
        object_ = _members(entry["object"])
    except (KeyError, msgspec.ValidationError):  # loaded so
        return b'{"sequence":%d,%b' % (sequence, body)
    operation = b'"delete"' if bytes(entry["operation"]) == b'"delete"' else b'"update"'  # also of a new object
    model = None if datamodel is None else datamodel.models.get(bytes(object_.get("type", _NULL)).decode().strip('"'))
    data = b",".join(
        [
            b"%b:%b" % (orjson.dumps(name), value if model is None else _value(model.fields.get(name), value))
            for name, value in object_.items()
            if name not in _BESIDE_DATA and not (model is not None and _is_id_of_attachment(model, name))
        ]
    )
    parts = [b'{"sequence":%d,"operation":%b' % (sequence, operation)]
    if "updated_at" in object_:
        parts.append(b',"timestamp":%b' % object_["updated_at"])
    parts.append(b',"type":%b,"id":%b' % (object_.get("type", _NULL), object_.get("id", _NULL)))
    return b"".join([*parts, b',"data":{', data, b"}}"])


def _is_id_of_attachment(model: Model, name: str) -> bool:
    field = model.fields.get(name.removesuffix("_id")) if name.endswith("_id") else None
    return field is not None and field.type in ATTACHMENT_TYPES


def _value(field: Field | None, shown: msgspec.Raw) -> bytes:
    """From what v4 shows: `{key, display}`, lists of them, and attachments with their states."""
    raw = bytes(shown)
    if field is None or raw[:1] not in (b"{", b"[") or (field.options is None and field.type not in ATTACHMENT_TYPES):
        return raw
    value = orjson.loads(raw)
    name = "id" if field.type in ATTACHMENT_TYPES else "key"
    several = value if isinstance(value, list) else [value]
    if not all(isinstance(one, dict) and name in one for one in several):
        return raw  # loaded, and not as the model has it: played as it is
    bare = [one[name] for one in several]
    return orjson.dumps(shown_value_v1(field, bare if isinstance(value, list) else bare[0]))
