"""API v1 in the emulator: bare arrays and keys, partial PUT, errors that are a status alone."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from emulated import NO_SUCH_ID, Api, emulated


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Api]:
    async with emulated(tmp_path) as api:
        yield api


async def test_a_list_is_a_bare_array_and_choices_are_bare(api: Api) -> None:
    await api.made("task", name="Paint", status=1, sport="chess", tags=["blue"], levels=[2], urgent=True)

    (found,) = (await api.ask("GET", "/api/v1/tasks.json")).json

    assert (found["status"], found["sport"], found["tags"], found["levels"]) == (1, 1, [1], [2])


async def test_an_object_is_created_changed_in_part_and_deleted(api: Api) -> None:
    made = (await api.ask("POST", "/api/v1/task.json", {"task": {"name": "Paint", "sport": "Chess"}})).json
    path = f"/api/v1/task/{made['id']}.json"

    changed = (await api.ask("PUT", path, "task[sport]=soccer")).json
    assert (changed["name"], changed["sport"]) == ("Paint", 0)
    gone = await api.ask("DELETE", path)
    assert (gone.status, gone.body) == (200, b"")
    assert [one["operation"] for one in (await api.ask("GET", "/api/v1/_oplog.json")).json] == [
        "update",
        "update",
        "delete",
    ]


async def test_what_was_loaded_is_played_as_it_is_where_the_model_does_not_fit(api: Api) -> None:
    data = {"status": {"odd": 1}, "tags": ["bare", 7], "photo": {"url": "x"}, "sport": {"key": "chess", "display": "C"}}
    api.emulator.append("create", {"id": "1", "type": "task", **data})

    (entry,) = (await api.ask("GET", "/api/v1/_oplog.json")).json

    assert entry["data"] == {**data, "sport": 1}


async def test_an_array_creates_many(api: Api) -> None:
    reply = await api.ask("POST", "/api/v1/user.json", [{"name": "Ana"}, {"name": "Zoë"}])

    assert [one["name"] for one in reply.json] == ["Ana", "Zoë"]
    assert (await api.ask("GET", "/api/v1/user/count.json")).json == {"count": 2}


async def test_put_does_not_set_photos(api: Api) -> None:
    made = await api.made("task", name="Paint")

    changed = (await api.ask("PUT", f"/api/v1/task/{made['id']}.json", {"task": {"photo": {"id": NO_SUCH_ID}}})).json

    assert "photo" not in changed


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("GET", f"/api/v1/task/{NO_SUCH_ID}.json", None, 404),
        ("POST", "/api/v1/task.json", {"task": {"status": 9}}, 422),
        ("POST", "/api/v1/task.json", {"job": {}}, 400),
        ("GET", "/api/v1/ship.json", None, 404),
    ],
)
async def test_an_error_is_a_status_without_structure(api: Api, method: str, path: str, body: Any, status: int) -> None:
    reply = await api.ask(method, path, body)

    assert (reply.status, reply.body) == (status, b"")


async def test_the_data_model_speaks_of_objects_and_attributes(api: Api) -> None:
    shown = (await api.ask("GET", "/api/v1/_datamodel.json")).json["objects"]["task"]

    assert shown["attributes"]["status"]["type"] == "enum"
    assert shown["attributes"]["tags"]["type"] == "enum_set"
