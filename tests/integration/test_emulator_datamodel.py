"""The emulator's data model: what a person writes, what the API shows, and what a deploy does to history."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from emulated import MODEL, emulated
from oplogbridge.emulator import Emulator
from oplogbridge.emulator.datamodel import datamodel_of, load_datamodel
from oplogbridge.errors import ConfigError


async def test_the_data_model_is_shown_in_the_vendors_shape(tmp_path: Path) -> None:
    async with emulated(tmp_path) as api:
        shown = (await api.ask("GET", "datamodel.json")).json
        page = (await api.ask("GET", "oplog.json")).json

    assert shown.keys() == {"models", "app_user", "datamodel_hash"}
    assert shown["datamodel_hash"] == page["datamodel_hash"]
    assert shown["app_user"] == "user"
    task = shown["models"]["task"]
    assert (task["name"], task["label"], task["display"]) == ("task", "Job", "{name} ({status})")
    assert task["fields"]["status"] == {
        "name": "status",
        "label": "Status",
        "type": "single-choice-integer",
        "options": [{"key": 0, "display": "Open"}, {"key": 1, "display": "Closed"}],
    }
    assert shown["models"]["user"]["fields"]["name"]["subtype"] == "name"
    assert task["belongs_to"]["category"] == {"model": "category", "name": "category", "inverse_of": "tasks"}
    assert shown["models"]["category"]["has_many"]["tasks"] == {
        "model": "task",
        "name": "tasks",
        "inverse_of": "category",
    }
    assert shown["models"]["user"]["has_many"]["jobs"]["inverse_of"] == "owner"


async def test_its_etag_answers_304_until_another_is_deployed(tmp_path: Path) -> None:
    async with emulated(tmp_path) as api:
        tag = (await api.ask("GET", "datamodel.json")).headers["ETag"]
        again = await api.ask("GET", "datamodel.json", headers={"If-None-Match": tag})
        api.emulator.deploy(datamodel_of({"models": {"user": {"fields": {"name": "text"}}}}))
        after = await api.ask("GET", "datamodel.json", headers={"If-None-Match": tag})

    assert (again.status, again.body) == (304, b"")
    assert after.status == 200
    assert after.headers["ETag"] != tag


async def test_the_vendors_own_json_is_a_model_too(tmp_path: Path) -> None:
    async with emulated(tmp_path) as api:
        shown = (await api.ask("GET", "datamodel.json")).json
    del shown["datamodel_hash"]
    file = tmp_path / "vendor.json"
    file.write_text(json.dumps(shown))

    assert json.loads(json.dumps(load_datamodel(file).shown())) == shown


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "models: a mapping"),
        ("a: [", "is no YAML"),
        ("models: {a: {fields: {x: colour}}}", "models.a.fields.x: its type is one of"),
        ("models: {a: {fields: {type: text}}}", "type is a reserved name"),
        ("models: {a: {fields: {x: single-choice}}}", "models.a.fields.x: a choice needs options"),
        (
            "models: {a: {fields: {x: {type: single-choice, options: {1: One}}}}}",
            "the keys of a single-choice are text",
        ),
        ("models: {a: {belongs_to: {b: ship}}}", "means the model ship, which is not there"),
        ("models: {a: {}}\napp_user: b", "app_user: the model b is not there"),
    ],
)
def test_a_model_with_a_mistake_is_refused_with_its_place(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "model.yaml"
    file.write_text(text)

    with pytest.raises(ConfigError, match=said.replace("(", r"\(")):
        load_datamodel(file)


@pytest.mark.parametrize("data", ["memory", "file"])
async def test_history_is_shown_by_the_model_of_today(tmp_path: Path, data: str) -> None:
    where: Any = "memory" if data == "memory" else tmp_path / "log.db"
    async with emulated(tmp_path, data=where) as api:
        await api.made(
            "task", name="Paint", status=1, count=5, instructions="Twice", sport="chess", tags=["red", "blue"]
        )
        before = (await api.entries())[0]["object"]
        old_hash = (await api.ask("GET", "oplog.json")).json["datamodel_hash"]

        fields = {
            "name": "text",
            "title": "text",  # `instructions` was renamed: nothing is known under the new name
            "count": "text",  # another type
            "status": {"type": "single-choice-integer", "options": {0: "Open"}},  # an option is gone
            "sport": {"type": "single-choice", "options": {"chess": "Schach"}},  # another label
            "tags": "integer",  # what it holds is none
        }
        api.emulator.deploy(datamodel_of({"models": {"task": {"fields": fields}}}))
        page = (await api.ask("GET", "oplog.json")).json

        assert page["datamodel_hash"] != old_hash
        head = {name: before[name] for name in ("id", "type", "updated_at")}
        assert page["entries"][0]["object"] == {
            **head,
            "name": "Paint",
            "count": "5",
            "status": {"key": 1, "display": None},
            "sport": {"key": "chess", "display": "Schach"},
            "tags": None,
        }
        api.emulator.switch(unknown_option="null")
        api.emulator.deploy(datamodel_of({"models": {"task": {"fields": {"status": fields["status"]}}}}))
        assert (await api.entries())[0]["object"]["status"] is None


@pytest.mark.parametrize(("switch", "blue"), [("key", [{"key": "blue", "display": None}]), ("null", [])])
async def test_of_several_choices_only_the_one_without_an_option_is_lost(
    tmp_path: Path, switch: str, blue: list[Any]
) -> None:
    async with emulated(tmp_path) as api:
        await api.made("task", tags=["red", "blue"])
        api.emulator.switch(unknown_option=switch)
        tags = {"type": "multiple-choice", "options": {"red": "Rot"}}
        api.emulator.deploy(datamodel_of({"models": {"task": {"fields": {"tags": tags}}}}))

        assert (await api.entries())[0]["object"]["tags"] == [{"key": "red", "display": "Rot"}, *blue]
        assert (await api.ask("GET", "/api/v1/_oplog.json")).json[0]["data"]["tags"] == [0]


async def test_entries_of_a_model_that_was_removed_are_left_with_what_everybody_knows(tmp_path: Path) -> None:
    async with emulated(tmp_path) as api:
        made = await api.made("task", name="Paint")
        api.emulator.deploy(datamodel_of({"models": {"user": {}}}))

        assert (await api.entries())[0]["object"] == {name: made[name] for name in ("id", "type", "updated_at")}
        assert (await api.ask("GET", "objects/task.json")).status == 404


async def test_a_model_is_deployed_from_another_process(tmp_path: Path) -> None:
    async with emulated(tmp_path) as api:
        old = (await api.ask("GET", "oplog.json")).json["datamodel_hash"]
        text = MODEL.replace("Closed", "Done")
        reply = await api.ask("PUT", "/_emulator/datamodel", data=text.encode(), headers={"Content-Type": "text/yaml"})
        refused = await api.ask("PUT", "/_emulator/datamodel", data=b"models: 7", headers={"Content-Type": "text/yaml"})

        assert reply.json["datamodel_hash"] == (await api.ask("GET", "oplog.json")).json["datamodel_hash"] != old
        assert refused.status == 400


async def test_without_a_model_there_is_that_of_the_workload() -> None:
    async with Emulator(entries=400) as emulator:
        entries = [emulator.objects.datamodel.models[name] for name in ("user", "category", "asset", "task")]

    assert all(model.fields for model in entries)


async def test_info_and_indexes(tmp_path: Path) -> None:
    async with emulated(tmp_path) as api:
        info, indexes = (await api.ask("GET", "info.json")).json, (await api.ask("GET", "indexes.json")).json

    assert {"label", "app_label", "app_id", "org_id", "region", "environment", "last_deployed_at"} <= info.keys()
    assert indexes["models"].keys() == {"user", "category", "task"}
    assert indexes["models"]["task"]["indexes"][0]["status"] == "ready"
