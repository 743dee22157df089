"""Which event a payload is: what every format says of itself. Pure.

For readers of a destination that shows nothing but payloads, such as a file. An object's own fields may have any name,
so a format is known by what no object can put in its place: `flat` writes its fields last, and of two fields with one
name the last one counts.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec
from msgspec import UNSET, Raw, UnsetType

from oplogbridge.values import offset_of


class Identity(NamedTuple):
    """None where the payload does not say it."""

    sequence: int | None = None
    id: str | None = None
    key: bytes | None = None
    datamodel_hash: str | None = None


class _Source(msgspec.Struct):
    """Of `debezium`."""

    connector: Any = None
    sequence: Any = None


class _Payload(msgspec.Struct, rename={"flat_sequence": "__sequence"}):
    specversion: Any = None
    id: Any = None
    sequence: Any = None  # CloudEvents; `raw`, where the source writes numbers
    sequence_id: Any = None  # `raw`
    partitionkey: Any = None
    datamodelhash: Any = None
    source: Raw | UnsetType = UNSET
    flat_sequence: Any | UnsetType = UNSET


_decode = msgspec.json.Decoder(_Payload).decode
_decode_source = msgspec.json.Decoder(_Source).decode
_NOBODY = Identity()


def identity_of(payload: bytes) -> Identity:
    """Never raises: a payload that is none of ours is nobody's."""
    try:
        return _identity_of(_decode(payload))
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return _NOBODY


def _identity_of(found: _Payload) -> Identity:
    if found.flat_sequence is not UNSET:
        return _numbered(found.flat_sequence)
    if found.specversion is not None and isinstance(found.sequence, str):
        return _cloudevent(found)
    if found.source is not UNSET and bytes(found.source)[:1] == b"{":
        source = _decode_source(found.source)
        if source.connector == "oplog-bridge":
            return _numbered(source.sequence)
    return _numbered(found.sequence if found.sequence_id is None else found.sequence_id)


def _cloudevent(found: _Payload) -> Identity:
    plain = _numbered(found.sequence)
    return Identity(
        plain.sequence,
        found.id if isinstance(found.id, str) else plain.id,
        found.partitionkey.encode() if isinstance(found.partitionkey, str) else None,
        found.datamodelhash if isinstance(found.datamodelhash, str) else None,
    )


def _numbered(told: Any) -> Identity:
    sequence = offset_of(str(told) if isinstance(told, int) else told)
    return _NOBODY if sequence is None else Identity(sequence, str(sequence))
