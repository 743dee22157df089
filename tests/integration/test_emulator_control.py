"""The emulator from a test of any kind: a fixture, and a client that blocks."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from typing import Any

import pytest

from oplogbridge.testing.emulator import EmulatorControl, oplog_emulator, running_emulator

__all__ = ["oplog_emulator"]  # the fixture is taken from where users take it
ID = "eacb4836-f1b9-11e1-9750-001cc01904e3"


def read(url: str) -> Any:
    with urllib.request.urlopen(url) as answer:
        return json.load(answer)


def page(emulator: EmulatorControl) -> Any:
    return read(f"{emulator.url}/oplog.json?sequence_ids=true")


def test_what_is_appended_and_written_is_served(oplog_emulator: EmulatorControl) -> None:
    one = oplog_emulator.append([{"operation": "create", "object": {"id": "1", "type": "user"}}])
    more = oplog_emulator.written(3)

    assert [int(entry["sequence_id"]) for entry in page(oplog_emulator)["entries"]] == [*one, *more]
    assert oplog_emulator.state()["entries"] == 4
    assert oplog_emulator.requests()[-1]["entries"] == 4


def test_faults_are_ordered_counted_and_taken_back(oplog_emulator: EmulatorControl) -> None:
    oplog_emulator.fault("503", count=2)
    with pytest.raises(urllib.error.HTTPError, match="503"):
        page(oplog_emulator)
    assert oplog_emulator.faults_left() == 1
    oplog_emulator.clear_faults()
    assert page(oplog_emulator)["entries"] == []


def test_switches_models_and_attachments(oplog_emulator: EmulatorControl) -> None:
    hash_ = oplog_emulator.deploy({"models": {"shop": {"fields": {"sign": "photo"}}}})
    oplog_emulator.switch(create_status=200, attachment_entry=False)
    body = json.dumps({"shop": {"sign_id": ID}}).encode()
    url = f"{oplog_emulator.url}/objects/shop.json"
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request) as answer:
        assert answer.status == 200
    oplog_emulator.attach(ID, b"GIF89a", filename="a.gif")

    found = page(oplog_emulator)
    assert found["datamodel_hash"] == hash_
    with urllib.request.urlopen(found["entries"][0]["object"]["sign"]["original"]) as answer:
        assert answer.read() == b"GIF89a"


def test_what_the_emulator_refuses_is_an_error(oplog_emulator: EmulatorControl) -> None:
    with pytest.raises(urllib.error.HTTPError, match="400"):
        oplog_emulator.fault("no such fault")


def test_settings_are_taken_and_nobody_is_left_behind() -> None:
    with running_emulator(entries=5, password="secret") as emulator:
        with pytest.raises(urllib.error.HTTPError, match="401"):
            page(emulator)
        assert emulator.state()["entries"] == 5

    with pytest.raises(urllib.error.URLError):
        emulator.state()
