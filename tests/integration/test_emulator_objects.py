"""The objects API of v4, as its documentation has it: every write is in the oplog."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from emulated import NO_SUCH_ID, Api, emulated
from oplogbridge.emulator import Switches

ID = "198c990e-f1bf-11e1-8d7d-001cc01904e3"


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Api]:
    async with emulated(tmp_path) as api:
        yield api


# Writing -----------------------------------------------------------------------------------------------------------


async def test_a_created_object_comes_back_with_id_type_time_and_display(api: Api) -> None:
    reply = await api.ask("POST", "objects/task.json", {"task": {"name": "Paint", "status": 1}})

    assert reply.status == 201
    made = reply.json
    assert made["type"] == "task"
    assert made["display"] == "Paint (Closed)"
    assert made["status"] == {"key": 1, "display": "Closed"}
    assert (await api.ask("GET", f"objects/task/{made['id']}.json")).json == made


async def test_each_write_is_one_entry_with_the_new_state(api: Api) -> None:
    made = await api.made("task", name="Paint", status=0)
    path = f"objects/tasks/{made['id']}.json"
    await api.ask("PATCH", path, {"task": {"status": 1}})
    await api.ask("PUT", path, {"task": {"name": "Sand"}})
    await api.ask("DELETE", path)

    entries = await api.entries()

    assert [entry["operation"] for entry in entries] == ["create", "update", "update", "delete"]
    head = {"id": made["id"], "type": "task", "updated_at": made["updated_at"]}
    assert [entry["object"] for entry in entries] == [
        {**head, "name": "Paint", "status": {"key": 0, "display": "Open"}},
        {**head, "name": "Paint", "status": {"key": 1, "display": "Closed"}},
        {**head, "name": "Sand"},
        head,
    ]
    sequences = [int(entry["sequence_id"]) for entry in entries]
    assert sequences == sorted(set(sequences))


async def test_patch_keeps_what_is_absent_and_clears_what_is_null(api: Api) -> None:
    made = await api.made("task", name="Paint", instructions="Twice")

    changed = (await api.ask("PATCH", f"objects/task/{made['id']}.json", {"task": {"instructions": None}})).json

    assert (changed["name"], changed["instructions"]) == ("Paint", None)


async def test_patch_of_what_is_not_there_is_an_error_and_put_creates_it(api: Api) -> None:
    path = f"objects/tasks/{ID}.json"

    refused = await api.ask("PATCH", path, {"task": {"name": "Paint"}})
    assert (refused.status, refused.json["type"]) == (404, "OBJECT_NOT_FOUND")
    assert refused.json["detail"] == f"No task found with ID: '{ID}'"

    assert (await api.ask("PUT", path, {"task": {"name": "Paint"}})).status == 200
    assert [entry["operation"] for entry in await api.entries()] == ["create"]


async def test_put_clears_the_fields_that_are_not_given(api: Api) -> None:
    made = await api.made("task", name="Paint", instructions="Twice", status=1)

    put = (await api.ask("PUT", f"objects/task/{made['id']}.json", {"task": {"status": 0}})).json

    assert {"name", "instructions"} & put.keys() == set()
    assert put["status"]["key"] == 0


async def test_deleting_again_is_an_error_and_the_id_may_come_back(api: Api) -> None:
    made = await api.made("task", name="Paint")
    path = f"objects/task/{made['id']}.json"

    assert (await api.ask("DELETE", path)).status == 200
    assert (await api.ask("DELETE", path)).json["type"] == "OBJECT_NOT_FOUND"
    assert (await api.ask("GET", path)).status == 404
    assert (await api.ask("PUT", path, {"task": {"name": "Again"}})).json["id"] == made["id"]


async def test_a_form_says_the_same_as_json_and_is_the_default(api: Api) -> None:
    form = "task[name]=Blue%20car&task[status]=1&task[urgent]=true&task[tags][]=red&task[tags][]=blue&task[count]=3"

    made = (await api.ask("POST", "objects/task.json", form)).json

    assert made["name"] == "Blue car"
    assert (made["status"]["key"], made["urgent"]["key"], made["count"]) == (1, True, 3)
    assert [one["key"] for one in made["tags"]] == ["red", "blue"]


@pytest.mark.parametrize(
    ("body", "status", "type_"),
    [
        ({"job": {"name": "x"}}, 400, "INVALID_API_REQUEST"),  # the key must be the model's name
        ("nothing=1", 400, "INVALID_API_REQUEST"),
        ({"task": {"status": 7}}, 422, "INVALID_VALUE"),
        ({"task": {"status": "test"}}, 422, "INVALID_VALUE"),
        ({"task": {"due": "tomorrow"}}, 422, "INVALID_VALUE"),
        ({"task": {"category_id": "no uuid"}}, 422, "INVALID_VALUE"),
        ({"task": {"id": "NO-UUID"}}, 422, "INVALID_VALUE"),
        ({"task": {"photo": {"base64": "////", "filename": "Bad/Name.PNG"}}}, 422, "INVALID_VALUE"),
        ({"task": {"photo": {"base64": "not base64!", "filename": "a.png"}}}, 422, "INVALID_VALUE"),
    ],
)
async def test_what_is_wrong_is_said_in_the_documented_shape_and_nothing_is_written(
    api: Api, body: Any, status: int, type_: str
) -> None:
    reply = await api.ask("POST", "objects/task.json", body)

    assert (reply.status, reply.json["type"]) == (status, type_)
    assert reply.json.keys() == {"type", "title", "detail", "see"}
    assert reply.json["see"].endswith(f"#{type_}")
    assert await api.entries() == []


async def test_the_documented_example_of_an_invalid_option(api: Api) -> None:
    reply = await api.ask("POST", "objects/task.json", {"task": {"status": "test"}})

    assert reply.json["title"] == "Invalid value specified."
    assert reply.json["detail"] == "Invalid option \"test\" for field 'status'."


async def test_json_that_is_none_is_an_invalid_request(api: Api) -> None:
    reply = await api.ask("POST", "objects/task.json", data=b"{", headers={"Content-Type": "application/json"})

    assert (reply.status, reply.json["type"]) == (400, "INVALID_API_REQUEST")


async def test_a_method_that_does_not_fit_and_an_unknown_model_are_no_route(api: Api) -> None:
    for method, path in [("PUT", "objects/task.json"), ("GET", "objects/ship.json"), ("POST", "datamodel.json")]:
        reply = await api.ask(method, path)
        assert (reply.status, reply.json["type"]) == (404, "ROUTE_ERROR"), path


async def test_fields_that_the_model_does_not_have_are_ignored_or_refused(api: Api) -> None:
    assert "colour" not in await api.made("task", name="Paint", colour="red")

    api.emulator.switch(unknown_field="reject")
    reply = await api.ask("POST", "objects/task.json", {"task": {"colour": "red"}})
    assert (reply.status, reply.json["type"]) == (422, "INVALID_VALUE")


async def test_a_patch_that_changes_nothing_is_logged_or_not(api: Api) -> None:
    made = await api.made("task", name="Paint")
    path = f"objects/task/{made['id']}.json"

    await api.ask("PATCH", path, {"task": {"name": "Paint"}})
    api.emulator.switch(no_op_update="nothing")
    await api.ask("PATCH", path, {"task": {"name": "Paint"}})

    assert len(await api.entries()) == 2


@pytest.mark.parametrize(
    ("shape", "keys"),
    [
        ("stamp", {"id", "type", "updated_at"}),
        ("id", {"id", "type"}),
        ("last_state", {"id", "type", "updated_at", "name"}),
    ],
)
async def test_what_a_delete_shows_is_a_switch(tmp_path: Path, shape: Any, keys: set[str]) -> None:
    async with emulated(tmp_path, switches=Switches(delete_object=shape)) as api:
        made = await api.made("task", name="Paint")
        await api.ask("DELETE", f"objects/task/{made['id']}.json")

        assert (await api.entries())[-1]["object"].keys() == keys


# Many at once ------------------------------------------------------------------------------------------------------


async def test_a_batch_is_applied_in_order_and_says_of_each_what_came_of_it(api: Api) -> None:
    operations = [
        {"method": "post", "object": {"type": "task", "id": ID, "name": "One"}},
        {"method": "post", "object": {"type": "task", "id": ID, "name": "Twice"}},
        {"method": "patch", "object": {"type": "task", "id": NO_SUCH_ID, "name": "None"}},
        {"method": "patch", "object": {"type": "task", "id": ID, "status": 1}},
        {"method": "put", "object": {"type": "user", "id": NO_SUCH_ID, "name": "Ana"}},
        {"method": "delete", "object": {"type": "task", "id": ID}},
        {"method": "post", "object": {"type": "ship"}},
    ]

    reply = await api.ask("POST", "batch.json", {"operations": operations})

    assert reply.status == 200
    done = reply.json["operations"]
    assert [one["success"] for one in done] == [True, False, False, True, True, True, False]
    assert done[2]["error"]["type"] == "OBJECT_NOT_FOUND"
    assert done[0] == {"method": "post", "object": {"type": "task", "id": ID}, "success": True}
    assert [entry["operation"] for entry in await api.entries()] == ["create", "update", "create", "delete"]


async def test_a_batch_stops_at_an_error_if_asked_to(api: Api) -> None:
    operations = [
        {"method": "post", "object": {"type": "task", "name": "One"}},
        {"method": "delete", "object": {"type": "task", "id": NO_SUCH_ID}},
        {"method": "post", "object": {"type": "task", "name": "Two"}},
    ]

    reply = await api.ask("POST", "batch.json", {"operations": operations, "stop_on_error": True})

    assert [one["success"] for one in reply.json["operations"]] == [True, False]
    assert len(await api.entries()) == 1


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"operations": {}},
        {"operations": [{"method": "post", "object": {"type": "task"}}, {"method": "get", "object": {"type": "task"}}]},
        {"operations": [{"method": "post", "object": {"type": "task"}}, {"method": "put", "object": {"type": "task"}}]},
        {"operations": [{"method": "post", "object": {"type": "task"}}] * 1001},
    ],
)
async def test_an_ill_formed_batch_applies_nothing(api: Api, body: Any) -> None:
    reply = await api.ask("POST", "batch.json", body)

    assert (reply.status, reply.json["type"]) == (400, "INVALID_API_REQUEST")
    assert await api.entries() == []


# Reading -----------------------------------------------------------------------------------------------------------


@pytest.fixture
async def shelf(api: Api) -> Api:
    """Five tasks."""
    for number, name in enumerate(["delta", "alpha", "Charlie", "bravo", "echo"]):
        status = None if name == "echo" else number % 2
        await api.made("task", name=name, count=number, status=status, due=f"2026-01-0{number + 1}")
    return api


@pytest.mark.parametrize(
    ("parameters", "found"),
    [
        ("", ["delta", "alpha", "Charlie", "bravo", "echo"]),
        ("limit=2", ["delta", "alpha"]),
        ("limit=2&skip=3", ["bravo", "echo"]),
        ("limit=&skip=&", ["delta", "alpha", "Charlie", "bravo", "echo"]),
        ("query[name]=alpha", ["alpha"]),
        ("q[name]=alpha", ["alpha"]),
        ("q[status]=1", ["alpha", "bravo"]),
        ("q[status]=1&q[count.gt]=1", ["bravo"]),
        ("q[name.ne]=alpha", ["delta", "Charlie", "bravo", "echo"]),
        ("q[count.lt]=2", ["delta", "alpha"]),
        ("q[count.lte]=2", ["delta", "alpha", "Charlie"]),
        ("q[count.gte]=3", ["bravo", "echo"]),
        ("q[due.gt]=2026-01-03", ["bravo", "echo"]),
        ("q[name.contains]=ar", ["Charlie"]),
        ("q[name.contains]=c", ["echo"]),  # it is case-sensitive
        ("q[status.null]=true", ["echo"]),
        ("q[status.null]=false", ["delta", "alpha", "Charlie", "bravo"]),
        ("q[_updated_at.gt]=2100-01-01T00:00:00Z", []),
        ("q[_updated_at.gt]=1970-01-01T00:00:00Z&limit=1", ["delta"]),
        ("sort[name]=asc", ["Charlie", "alpha", "bravo", "delta", "echo"]),
        ("sort[name]=-1", ["echo", "delta", "bravo", "alpha", "Charlie"]),
        ("sort[status]=desc&sort[count]=desc", ["bravo", "alpha", "Charlie", "delta", "echo"]),
        ("sort[$natural]=-1", ["echo", "bravo", "Charlie", "alpha", "delta"]),
    ],
)
async def test_lists_are_queried_sorted_and_paged(shelf: Api, parameters: str, found: list[str]) -> None:
    assert await shelf.listed(parameters) == found


async def test_a_list_says_how_many_there_are_and_that_more_follow(shelf: Api) -> None:
    first = (await shelf.ask("GET", "objects/tasks.json?limit=2")).json
    last = (await shelf.ask("GET", "objects/tasks.json?skip=4")).json

    assert (first["count"], first["total"], first["more"]) == (2, 5, True)
    assert (last["count"], last["total"], last["more"]) == (1, 5, False)


async def test_a_list_has_at_most_a_thousand(tmp_path: Path) -> None:
    async with emulated(tmp_path) as api:
        for _ in range(2):
            operations = [{"method": "post", "object": {"type": "user", "name": "n"}} for _ in range(600)]
            await api.ask("POST", "batch.json", {"operations": operations})

        reply = (await api.ask("GET", "objects/user.json?limit=5000")).json

        assert (reply["count"], reply["total"], reply["more"]) == (1000, 1200, True)


async def test_counting(shelf: Api) -> None:
    assert (await shelf.ask("GET", "objects/task/count.json")).json == {"count": 5}
    assert (await shelf.ask("GET", "objects/tasks/count.json?q[status]=0")).json == {"count": 2}


@pytest.mark.parametrize(
    ("body", "found"),
    [
        ({"expression": "name in ?", "arguments": [["alpha", "echo"]]}, ["alpha", "echo"]),
        ({"expression": "status = ? and count >= ?", "arguments": [1, 3]}, ["bravo"]),
        ({"expression": "name != ?", "arguments": ["alpha"], "limit": 1, "skip": 1}, ["Charlie"]),
        ({"expression": "name starts with ?", "arguments": ["a"]}, ["alpha"]),
        (
            {"expression": None, "sort": ["-name"], "limit": None, "skip": None},
            ["echo", "delta", "bravo", "alpha", "Charlie"],
        ),
    ],
)
async def test_query_json_takes_an_expression_with_arguments(shelf: Api, body: Any, found: list[str]) -> None:
    reply = await shelf.ask("POST", "objects/task/query.json", body)

    assert [one["name"] for one in reply.json["objects"]] == found


@pytest.mark.parametrize(
    "parameters", ["q[nothing]=1", "q[count.like]=1", "q[count]=x", "sort[name]=up", "limit=-1", "skip=x", "embed=name"]
)
async def test_a_query_that_cannot_be_meant_is_an_invalid_request(shelf: Api, parameters: str) -> None:
    reply = await shelf.ask("GET", f"objects/task.json?{parameters}")

    assert (reply.status, reply.json["type"]) == (400, "INVALID_API_REQUEST")


async def test_what_it_belongs_to_is_embedded_if_asked_for(api: Api) -> None:
    category = await api.made("category", name="Cleaning")
    task = await api.made("task", name="Paint", category_id=category["id"], owner_id=NO_SUCH_ID)

    found = (await api.ask("GET", f"objects/task/{task['id']}.json?embed=category,owner")).json

    assert found["category"] == category
    assert found["owner"] is None  # references dangle, as at the vendor
    assert found["owner_id"] == NO_SUCH_ID


# Field types -------------------------------------------------------------------------------------------------------

PLACE = {"latitude": -33.9, "longitude": 18.4, "altitude": None, "horizontal_accuracy": 5}


@pytest.mark.parametrize(
    ("name", "given", "shown"),
    [
        ("name", "Größe", "Größe"),
        ("count", 9007199254740993, 9007199254740993),
        ("weight", 1.25, 1.25),
        ("urgent", True, {"key": True, "display": "Yes"}),
        ("urgent", False, {"key": False, "display": "No"}),
        ("sport", "soccer", {"key": "soccer", "display": "Soccer"}),
        ("status", 1, {"key": 1, "display": "Closed"}),
        ("tags", ["red"], [{"key": "red", "display": "Red"}]),
        ("levels", [2, 1], [{"key": 2, "display": "Two"}, {"key": 1, "display": "One"}]),
        ("due", "2016-02-27T23:10:00+02:00", "2016-02-27"),
        ("seen_at", "2016-02-22T16:00:53.999+02:00", "2016-02-22T14:00:53Z"),
        ("place", PLACE, {**PLACE, "vertical_accuracy": None, "timestamp": None}),
        ("place", [1, 2, 3, 4, 5, "2016-02-22T14:00:53Z"], None),
        ("name", None, None),
    ],
)
async def test_each_type_of_field_is_shown_as_documented(api: Api, name: str, given: Any, shown: Any) -> None:
    if isinstance(given, list) and name == "place":
        keys = ["latitude", "longitude", "altitude", "horizontal_accuracy", "vertical_accuracy", "timestamp"]
        shown = dict(zip(keys, given, strict=True))

    made = await api.made("task", **{name: given})

    assert made[name] == shown
    assert (await api.entries())[-1]["object"][name] == shown


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("count", 1.5),
        ("count", True),
        ("count", 2**63),
        ("weight", "heavy"),
        ("urgent", "maybe"),
        ("tags", "red"),
        ("tags", ["green"]),
        ("due", 20260101),
        ("seen_at", "noon"),
        ("place", {"latitude": 91, "longitude": 0}),
        ("place", "here"),
        ("name", {"a": 1}),
        ("photo", 7),
        ("photo", {"id": "x"}),
    ],
)
async def test_a_value_that_does_not_fit_its_type_is_refused(api: Api, name: str, given: Any) -> None:
    reply = await api.ask("POST", "objects/task.json", {"task": {name: given}})

    assert (reply.status, reply.json["type"]) == (422, "INVALID_VALUE")


@pytest.mark.parametrize("data", ["memory", "file"])
async def test_what_cannot_be_kept_is_taken_back_whole(
    tmp_path: Path, data: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Objects, photos and log are one transaction: a full disk leaves none of them."""
    where: Any = "memory" if data == "memory" else tmp_path / "log.db"
    async with emulated(tmp_path, data=where) as api:
        made = await api.made("task", name="Paint")

        def full(*_: object) -> None:
            raise OSError("no space left on device")

        with monkeypatch.context() as patch:
            patch.setattr(api.emulator.objects, "_commit", full)
            photo = {"base64": "R0lGODlh", "filename": "a.gif"}
            reply = await api.ask(
                "PATCH", f"objects/task/{made['id']}.json", {"task": {"name": "Sand", "photo": photo}}
            )
            assert reply.status == 500

        assert (await api.ask("GET", f"objects/task/{made['id']}.json")).json == made
        assert len(api.emulator.objects.attachments) == 0
        assert len(await api.entries()) == 1
