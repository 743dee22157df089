"""Which attachments an entry refers to, and how its event tells of them. Pure.

API v4 shows an attachment as an object with a state, and with URLs once it is uploaded; its id stands in it or beside
it (`photo_id`). API v1 shows the bare id, which nothing tells from other text: there the configuration names fields.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import msgspec
from msgspec import Raw

from oplogbridge.codec.payloads import Format
from oplogbridge.status import AttachmentState
from oplogbridge.values import Entry

STATES = ("pending", "uploaded", "missing", "untrusted")
_ID = re.compile(r"[A-Za-z0-9-]{1,100}")  # it becomes the name of a file, and a part of a URL
_SIGN = b'"state"'
_encode = msgspec.json.Encoder().encode


class Reference(msgspec.Struct, frozen=True):
    """One attachment, as one field of one object refers to it."""

    id: str
    type: str
    object_id: str
    field: str
    state: str | None = None  # as the source says; v1 says nothing
    url: str | None = None  # signed, and good for a while


class Told(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is known of an attachment, here and beside its bytes in the store."""

    state: AttachmentState
    media_type: str | None = None
    length: int | None = None
    sha256: str | None = None  # hex


PENDING = Told("pending")


def references_of(
    entry: Entry, fields: Mapping[str, Collection[str]] | None, hidden: Collection[str] = ()
) -> list[Reference]:
    """`fields`, by object type, are all that may be attachments; None takes whatever looks like one, as v4 lets it.
    `hidden` are members that the pipeline drops or hashes."""
    named = None if fields is None else fields.get(entry.object_type, ())
    if entry.operation == "delete" or (named is not None and not named):
        return []
    if named is None and _SIGN not in bytes(entry.object):
        return []
    members: dict[str, Any] = msgspec.json.decode(entry.object)
    names = [name for name in (members if named is None else named) if name not in hidden]
    return references_in(members, entry.object_type, entry.object_id, names, bare_ids=named is not None)


def references_in(
    members: Mapping[str, Any], type_: str, object_id: str, names: Iterable[str], *, bare_ids: bool = False
) -> list[Reference]:
    """`bare_ids`: the fields are known to be attachments, so text in them is an id."""
    found: list[Reference] = []
    for name in names:
        value = members.get(name)
        if isinstance(value, Mapping) and value.get("state") in STATES:
            id_, state, url = value.get("id") or members.get(f"{name}_id"), value["state"], value.get("original")
        elif bare_ids:
            id_, state, url = value or members.get(f"{name}_id"), None, None
        else:
            continue
        if isinstance(id_, str) and _ID.fullmatch(id_):
            found.append(Reference(id_, type_, object_id, name, state, url if isinstance(url, str) else None))
    return found


def with_attachments(
    entry: Entry, references: Sequence[Reference], told: Mapping[str, Told], url_of: Mapping[str, str], format_: Format
) -> Entry:
    """The entry as the pipeline's format shows it, with what is known of its attachments: in CloudEvents' `data`, in
    the object where the format is little more than that."""
    shown = [
        {"field": one.field, "id": one.id, "url": url_of[one.id]} | msgspec.to_builtins(told[one.id])
        for one in references
    ]
    text = _encode(shown)
    if format_ == "cloudevents":
        return msgspec.structs.replace(entry, unknown={**(entry.unknown or {}), "attachments": Raw(text)})
    object_ = bytes(entry.object).rstrip()  # it has an id at least, so a comma is right
    return msgspec.structs.replace(entry, object=Raw(b'%b,"__attachments":%b}' % (object_[:-1], text)))
