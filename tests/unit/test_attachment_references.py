"""What in an entry is an attachment, and what its event says of it."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from oplogbridge.attachments.references import PENDING, Reference, Told, references_of, with_attachments
from oplogbridge.values import Entry

ID = "eacb4836-f1b9-11e1-9750-001cc01904e3"


def entry(operation: str = "update", **members: Any) -> Entry:
    object_ = msgspec.Raw(json.dumps({"id": "1", "type": "task"} | members).encode())
    nothing = msgspec.UNSET
    return Entry(7, "7", operation, object_, "task", "1", None, nothing, nothing, None, None)


def of(**members: Any) -> list[tuple[str, str, str | None, str | None]]:
    return [(one.field, one.id, one.state, one.url) for one in references_of(entry(**members), None)]


def test_an_attachment_has_a_state_and_its_id_within_or_beside_it() -> None:
    photo = {"id": ID, "state": "uploaded", "original": "https://host/x", "thumbnail": "https://host/y"}

    assert of(photo=photo) == [("photo", ID, "uploaded", "https://host/x")]
    assert of(photo={"state": "pending"}, photo_id=ID) == [("photo", ID, "pending", None)]
    assert of(photo=photo, sketch=photo | {"state": "missing"})[1][2] == "missing"


@pytest.mark.parametrize(
    "members",
    [
        {"photo": None},
        {"photo": ID},
        {"status": {"key": 1, "display": "Open"}, "state": "uploaded"},
        {"photo": {"state": "uploaded"}},
        {"photo": {"state": "uploaded", "id": 7}},
        {"photo": {"state": "uploaded", "id": "../../etc/passwd"}},
        {"photo": {"state": "uploaded", "id": ""}},
        {"photo": {"state": "of mind", "id": ID}},
        {"photo": {"state": ["uploaded"], "id": ID}},
    ],
)
def test_nothing_else_is_one(members: dict[str, Any]) -> None:
    assert of(**members) == []


def test_where_the_fields_are_named_bare_text_is_an_id() -> None:
    fields = {"task": ("photo", "sketch")}

    found = references_of(entry(photo=ID, sketch=None, name=ID), fields)

    assert found == [Reference(ID, "task", "1", "photo")]
    assert references_of(entry(photo=ID), {"user": ("photo",)}) == []


def test_a_delete_refers_to_nothing_and_hidden_fields_are_left_out() -> None:
    photo = {"id": ID, "state": "pending"}

    assert references_of(entry("delete", photo=photo), None) == []
    assert references_of(entry(photo=photo), None, {"photo"}) == []


def test_the_events_of_each_format_say_where_it_will_be() -> None:
    one = Reference(ID, "task", "1", "photo", "pending")
    before = entry(name="n")
    told = {"field": "photo", "id": ID, "url": "s3://b/x", "state": "pending"}

    cloudevents = with_attachments(before, [one], {ID: PENDING}, {ID: "s3://b/x"}, "cloudevents")
    flat = with_attachments(before, [one], {ID: Told("too_large")}, {ID: "s3://b/x"}, "flat")

    assert cloudevents.unknown is not None
    assert json.loads(bytes(cloudevents.unknown["attachments"])) == [told]
    assert bytes(cloudevents.object) == bytes(before.object)
    assert json.loads(bytes(flat.object)) == json.loads(bytes(before.object)) | {
        "__attachments": [told | {"state": "too_large"}]
    }
