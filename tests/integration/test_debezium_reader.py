"""Debezium's own serde and transformation, and Kafka Connect's JSON converter, read the format `debezium`."""

from __future__ import annotations

import json

from golden_files import FOLDER
from needed import needed
from oplogbridge.codec.encode import Codec
from oplogbridge.codec.subjects import Filter
from oplogbridge.source.decode import PageDecoder
from services.debezium_reader import read

ENTRIES = sorted(
    json.loads((FOLDER / "page-v4.json").read_text())["entries"], key=lambda entry: int(entry["sequence_id"])
)
OPERATIONS = {"create": "c", "update": "u", "delete": "d"}


def test_debeziums_own_classes_read_every_event() -> None:
    codec = Codec(source="my shop", format="debezium", filter=Filter("my shop"))
    events = codec.events(PageDecoder().decode((FOLDER / "page-v4.json").read_bytes(), 0))

    with needed():
        said = read([event.payload for event in events])

    assert len(said) == len(ENTRIES)
    for found, entry, event in zip(said, ENTRIES, events, strict=True):
        deleted = entry["operation"] == "delete"
        assert found["after"] == (None if deleted else entry["object"])
        assert found["envelope"] == json.loads(event.payload)
        assert found["envelope"]["op"] == OPERATIONS[entry["operation"]]
        if deleted:
            assert found["row"] is None
        else:
            shown = (found["row"], found["__op"], found["__source_sequence"])
            assert shown == (entry["object"]["id"], OPERATIONS[entry["operation"]], entry["sequence_id"])
