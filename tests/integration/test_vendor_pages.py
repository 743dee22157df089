"""The vendor's four pages, statement by statement. docs/emulator.md lists them with their tests."""

from __future__ import annotations

import base64
import itertools
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from emulated import MODEL, NO_SUCH_ID, Api, emulated
from oplogbridge.emulator import Switches
from oplogbridge.testing.clock import ManualClock
from statements import states

DEPLOYMENT = "533bda53027894f69b001055"
PASSWORD = "7Ajj5htRY1uzw7b4w23V"  # of the vendor's own example
TOKEN = "mytokenhere"
# oplog v4, "Retrieve the 5 first writes": operation, model, id, time, fields.
EXAMPLES: list[tuple[str, str, str, int, dict[str, Any]]] = [
    (
        "update",
        "task",
        "42059e2e-d2a2-11e3-a9f3-001e6733fe3c",
        1_399_108_008,  # 2014-05-03T09:06:48Z
        {"name": "First Task", "instructions": "Update me", "status": None, "category_id": None},
    ),
    ("create", "user", "1e47acd2-ad0f-11e4-8513-001e6733fe3c", 1_423_124_117, {"name": "Joe Smith"}),
    ("update", "user", "1e47acd2-ad0f-11e4-8513-001e6733fe3c", 1_423_124_163, {"name": "Bruce Wayne"}),
    ("create", "user", "3e7e18b0-ad0f-11e4-9d6d-001e6733fe3c", 1_423_124_171, {"name": "Tony Stark"}),
    ("update", "category", "71fafc16-ba4f-11e3-8de0-001e6733fe3c", 1_423_124_203, {"name": "Cleaning"}),
]
PRINTED = """{"entries": [
{"sequence": 6009123137931706000, "operation": "update", "events": [], "object": {"id": "42059e2e-d2a2-11e3-a9f3-001e6733fe3c", "type": "task", "updated_at": "2014-05-03T09:06:48Z", "name": "First Task", "instructions": "Update me", "status": null, "category_id": null}},
{"sequence": 6112271540663878000, "operation": "create", "events": [], "object": {"id": "1e47acd2-ad0f-11e4-8513-001e6733fe3c", "type": "user", "updated_at": "2015-02-05T08:15:17Z", "name": "Joe Smith"}},
{"sequence": 6112271738232373000, "operation": "update", "events": [], "object": {"id": "1e47acd2-ad0f-11e4-8513-001e6733fe3c", "type": "user", "updated_at": "2015-02-05T08:16:03Z", "name": "Bruce Wayne"}},
{"sequence": 6112271772592112000, "operation": "create", "events": [], "object": {"id": "3e7e18b0-ad0f-11e4-9d6d-001e6733fe3c", "type": "user", "updated_at": "2015-02-05T08:16:11Z", "name": "Tony Stark"}},
{"sequence": 6112271910031065000, "operation": "update", "events": [], "object": {"id": "71fafc16-ba4f-11e3-8de0-001e6733fe3c", "type": "category", "updated_at": "2015-02-05T08:16:43Z", "name": "Cleaning"}}
], "datamodel_hash": "d9cca721a735dac4efe709e0f3518373"}"""  # noqa: E501


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Api]:
    async with emulated(tmp_path) as api:
        yield api


def basic(user: str, password: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


# Introduction ------------------------------------------------------------------------------------------------------


@states("introduction", "uses standard HTTP authentication; a Named Token is `Authorization: Bearer O:mytokenhere`")
async def test_both_kinds_of_credentials_let_in_and_nothing_else_does(tmp_path: Path) -> None:
    async with emulated(tmp_path, password=PASSWORD, tokens=(TOKEN,)) as api:
        good = [basic(DEPLOYMENT, PASSWORD), {"Authorization": f"Bearer O:{TOKEN}"}]
        bad = [{}, basic(DEPLOYMENT, "x"), {"Authorization": f"Bearer {TOKEN}"}, {"Authorization": "Bearer O:x"}]
        for path in ("oplog.json", "objects/task.json", "datamodel.json", "info.json"):
            assert [(await api.ask("GET", path, headers=one)).status for one in good] == [200, 200], path
            assert {(await api.ask("GET", path, headers=one)).status for one in bad} == {401}, path


@states("introduction", "parameters may be `application/json` or `application/x-www-form-urlencoded`")
async def test_json_and_forms_say_the_same(api: Api) -> None:
    as_json = await api.ask("POST", "objects/category.json", {"category": {"name": "123 South"}})
    as_form = await api.ask("POST", "objects/category.json", "category[name]=123%20South")

    assert as_json.json["name"] == as_form.json["name"] == "123 South"


@states("introduction", "the form is the default for POST and usually does not have to be specified")
async def test_a_post_without_a_content_type_is_a_form(api: Api) -> None:
    headers = {"Content-Type": ""}
    reply = await api.ask("POST", "objects/category.json", data=b"category[name]=South", headers=headers)

    assert reply.json["name"] == "South"


@states("introduction", "JSON is asked for by the header `Accept`, or by `.json` at the end of the URL")
async def test_the_ending_may_be_left_out(api: Api) -> None:
    made = await api.made("task", name="Paint")
    accept = {"Accept": "application/json"}

    for path in ("objects/task", "objects/tasks", f"objects/task/{made['id']}", "oplog", "datamodel"):
        with_ending, without = await api.ask("GET", f"{path}.json"), await api.ask("GET", path, headers=accept)
        assert (without.status, without.json) == (200, with_ending.json), path


@states("introduction", "2xx has completed successfully, 4xx is invalid input, 5xx an internal error of the server")
async def test_statuses_tell_who_is_wrong(api: Api) -> None:
    api.emulator.faults.add("500", on="objects")

    assert (await api.ask("GET", "objects/task.json")).status == 500
    assert (await api.ask("GET", "objects/task.json")).status == 200
    assert (await api.ask("GET", "objects/task.json?limit=x")).status == 400


@states("introduction", "3xx is a redirect, only for specific calls such as attachments")
async def test_only_attachments_redirect(api: Api) -> None:
    photo = {"base64": base64.b64encode(b"GIF89a").decode(), "filename": "a.gif"}
    made = await api.made("task", photo=photo)

    assert (await api.ask("GET", f"/api/v1/_attachment/{made['photo_id']}")).status == 302


@states("introduction", "clients must ignore unrecognized fields; new ones are no breaking change")
async def test_unknown_parameters_are_ignored_too(api: Api) -> None:
    assert (await api.ask("GET", "oplog.json?start=0&flavour=vanilla")).status == 200
    assert (await api.ask("GET", "objects/task.json?flavour=vanilla")).status == 200


@states("introduction", "an object is created by POST to `/api/v4/backend-deployment-id/objects/model.json`")
async def test_post_creates(api: Api) -> None:
    reply = await api.ask("POST", f"/api/v4/{DEPLOYMENT}/objects/task.json", {"task": {"name": "Paint"}})

    assert reply.status == 201


# Oplog v4 ----------------------------------------------------------------------------------------------------------


@states("oplog v4", "an ordered log of all create, update and delete operations")
async def test_every_kind_of_write_is_there_in_order(api: Api) -> None:
    made = await api.made("user", name="Ana")
    await api.ask("PATCH", f"objects/user/{made['id']}.json", {"user": {"name": "Zoë"}})
    await api.ask("DELETE", f"objects/user/{made['id']}.json")

    entries = await api.entries()
    assert [entry["operation"] for entry in entries] == ["create", "update", "delete"]


@pytest.fixture
async def ten(api: Api) -> Api:
    for number in range(10):
        await api.made("user", name=str(number))
    return api


async def sequences(api: Api, parameters: str) -> list[int]:
    return [entry["sequence"] for entry in await api.entries(parameters)]


@states("oplog v4", "all entries with start <= sequence_id < end are returned")
async def test_start_is_inclusive_and_end_exclusive(ten: Api) -> None:
    all_ = await sequences(ten, "start=0")

    assert await sequences(ten, f"start={all_[2]}&end={all_[6]}") == all_[2:6]


@states("oplog v4", "the default limit is 400, and the maximum is 1000 (subject to change)")
async def test_the_limit_has_a_default_and_a_maximum(tmp_path: Path) -> None:
    async with emulated(tmp_path) as api:
        for _ in range(2):
            operations = [{"method": "post", "object": {"type": "user", "name": "n"}} for _ in range(600)]
            await api.ask("POST", "batch.json", {"operations": operations})

        assert [len(await api.entries(more)) for more in ("start=0", "limit=1000", "limit=5000")] == [400, 1000, 1000]


@states("oplog v4", "no more entries than the limit; in an empty range an empty array")
async def test_a_page_is_no_longer_than_its_limit_and_may_be_empty(ten: Api) -> None:
    last = (await sequences(ten, "start=0"))[-1]

    assert len(await ten.entries("limit=3")) == 3
    assert await ten.entries(f"start={last + 1}") == []


@states("oplog v4", "sequence is a strictly incrementing ID, greater than 0 and less than 2^63")
async def test_sequences_grow_strictly(ten: Api) -> None:
    found = await sequences(ten, "start=0")

    assert all(one < other for one, other in itertools.pairwise(found))
    assert found[0] > 0
    assert found[-1] < 2**63


@states("oplog v4", "object is the new state; updated_at is the time that the write was made to the database")
async def test_an_entry_has_the_whole_new_state_and_its_time(tmp_path: Path) -> None:
    clock = ManualClock(unix_seconds=1_423_124_117.9)
    async with emulated(tmp_path, clock=clock) as api:
        made = await api.made("task", name="Paint", status=0)
        clock.advance(60)
        await api.ask("PATCH", f"objects/task/{made['id']}.json", {"task": {"status": 1}})

        object_ = (await api.entries())[-1]["object"]
        assert (object_["name"], object_["status"]["key"], object_["updated_at"]) == (
            "Paint",
            1,
            "2015-02-05T08:16:17Z",
        )


@states("oplog v4", "datamodel_hash matches the value from datamodel.json")
async def test_the_hash_is_that_of_the_data_model(api: Api) -> None:
    page, model = (await api.ask("GET", "oplog.json")).json, (await api.ask("GET", "datamodel.json")).json

    assert page["datamodel_hash"] == model["datamodel_hash"]


@states("oplog v4", "the hash is always that of the current model, and objects are returned by the current definition")
async def test_history_is_shown_by_the_model_of_today(ten: Api) -> None:
    before = (await ten.ask("GET", "oplog.json?limit=1")).json
    reply = await ten.ask("PUT", "/_emulator/datamodel", data=MODEL.replace("name: {type", "full_name: {type").encode())
    after = (await ten.ask("GET", "oplog.json?limit=1")).json

    assert reply.status == 200
    assert before["datamodel_hash"] != after["datamodel_hash"]
    assert "name" in before["entries"][0]["object"]
    assert "name" not in after["entries"][0]["object"]


@states("oplog v4", "polling: at most once per second, and the last sequence + 1 is the next start")
async def test_following_by_the_last_sequence_gives_each_entry_once(ten: Api) -> None:
    start, seen = 0, []
    while page := await sequences(ten, f"start={start}&limit=3"):
        seen += page
        start = page[-1] + 1

    assert seen == await sequences(ten, "start=0")


@states("oplog v4", "`?tail=true` returns the most recent operations (currently defaults to 400)")
async def test_the_tail_is_the_newest(tmp_path: Path) -> None:
    async with emulated(tmp_path) as api:
        operations = [{"method": "post", "object": {"type": "user", "name": "n"}} for _ in range(500)]
        await api.ask("POST", "batch.json", {"operations": operations})

        assert await sequences(api, "tail=true") == (await sequences(api, "limit=1000"))[-400:]


@states("oplog v4", "the five example entries, as they are printed")
async def test_the_examples_come_from_writes_through_the_objects_api(tmp_path: Path) -> None:
    clock = ManualClock(unix_seconds=1_390_000_000.0)
    switches = Switches(sequence_numbers="rounded")  # the page prints what a double makes of the numbers
    settings = {"switches": switches, "datamodel_hash": "d9cca721a735dac4efe709e0f3518373"}
    async with emulated(tmp_path, clock=clock, **settings) as api:
        for operation, model, id_, _, _ in EXAMPLES:  # what is updated was there before
            if operation == "update" and model != "user":
                await api.ask("PUT", f"objects/{model}/{id_}.json", {model: {"name": "earlier"}})
        first = (await sequences(api, "start=0"))[-1] + 1
        for _, model, id_, unix_seconds, fields in EXAMPLES:
            clock.unix_seconds = float(unix_seconds)
            await api.ask("PUT", f"objects/{model}/{id_}.json", {model: fields})

        page = (await api.ask("GET", f"oplog.json?limit=5&start={first + 2048}")).json
        v1 = (await api.ask("GET", f"/api/v1/_oplog.json?limit=5&start={first + 2048}")).json

    assert page == json.loads(PRINTED)
    assert [entry["data"] for entry in v1] == [fields for *_, fields in EXAMPLES]
    assert {entry["operation"] for entry in v1} == {"update"}


# Oplog v1 ----------------------------------------------------------------------------------------------------------


@states("oplog v1", "`/api/v1/_oplog.format?start=x&end=y&limit=z`, with start <= sequence_id < end")
async def test_v1_has_the_same_bounds(ten: Api) -> None:
    all_ = await sequences(ten, "start=0")
    found = (await ten.ask("GET", f"/api/v1/_oplog.json?start={all_[1]}&end={all_[9]}&limit=3")).json

    assert [entry["sequence"] for entry in found] == all_[1:4]


@states("oplog v1", "if there are no entries in the range, an empty array is returned")
async def test_v1_without_entries_is_an_empty_array(api: Api) -> None:
    assert (await api.ask("GET", "/api/v1/_oplog.json?start=5")).json == []


@states("oplog v1", "each entry has sequence, operation, timestamp, type, id and data")
async def test_a_v1_entry_has_these_fields(api: Api) -> None:
    made = await api.made("task", name="Paint", status=1, category_id=NO_SUCH_ID)
    (entry,) = (await api.ask("GET", "/api/v1/_oplog.json")).json

    assert entry.keys() == {"sequence", "operation", "timestamp", "type", "id", "data"}
    assert (entry["type"], entry["id"], entry["timestamp"]) == ("task", made["id"], made["updated_at"])
    assert entry["data"] == {"name": "Paint", "status": 1, "category_id": NO_SUCH_ID}  # attributes and relationships


@states("oplog v1", "operation is update (new or existing objects) or delete")
async def test_v1_knows_no_create(api: Api) -> None:
    made = await api.made("user", name="Ana")
    await api.ask("DELETE", f"objects/user/{made['id']}.json")

    assert [entry["operation"] for entry in (await api.ask("GET", "/api/v1/_oplog.json")).json] == ["update", "delete"]


@states("oplog v1", "the default limit is 400, and the maximum 1000")
async def test_v1_has_the_same_limits(tmp_path: Path) -> None:
    async with emulated(tmp_path, model="models: {reading: {}}", entries=1500, entry_bytes=300) as api:
        found = [len((await api.ask("GET", f"/api/v1/_oplog.json?{one}")).json) for one in ("start=0", "limit=2000")]

    assert found == [400, 1000]


@states("oplog v1", "`GET /api/v1/_attachment/attachment_id`: a redirect to directly download the image file")
async def test_v1_redirects_to_the_original(api: Api) -> None:
    photo = {"base64": base64.b64encode(b"GIF89a").decode(), "filename": "a.gif"}
    await api.made("task", photo=photo)
    (entry,) = (await api.ask("GET", "/api/v1/_oplog.json")).json  # there the attribute is the id

    redirect = await api.ask("GET", f"/api/v1/_attachment/{entry['data']['photo']}")
    assert (await api.ask("GET", redirect.headers["Location"])).body == b"GIF89a"


# Updating to v4 ----------------------------------------------------------------------------------------------------


@states("updating to v4", "the base path includes the App Instance ID, the same as the API username")
async def test_another_deployment_is_not_found(api: Api) -> None:
    reply = await api.ask("GET", "/api/v4/ffffffffffffffffffffffff/oplog.json")

    assert (reply.status, reply.json["type"]) == (404, "ACCOUNT_NOT_FOUND")
    assert api.emulator.username == DEPLOYMENT


@states("updating to v4", "objects are under `/objects`; datamodel and oplog have no underscore")
async def test_the_paths_of_both_versions(api: Api) -> None:
    for path in ("/api/v1/_datamodel.json", "/api/v1/_oplog.json", "/api/v1/task.json"):
        assert (await api.ask("GET", path)).status == 200, path
    for path in ("datamodel.json", "oplog.json", "objects/task.json"):
        assert (await api.ask("GET", path)).status == 200, path
    assert (await api.ask("GET", "task.json")).status == 404


@states("updating to v4", "several objects come under `objects`, with `count`, `total` and `more`")
async def test_the_envelope_of_a_list(ten: Api) -> None:
    found = (await ten.ask("GET", "objects/user.json")).json

    assert {name: found[name] for name in ("count", "total", "more")} == {"count": 10, "total": 10, "more": False}
    assert {"id", "display", "updated_at", "name"} <= found["objects"][0].keys()


@states(
    "updating to v4", "partial updates use PATCH; PUT replaces the object, and fields that are not present are cleared"
)
async def test_put_clears_and_patch_does_not(api: Api) -> None:
    made = await api.made("task", name="Paint", instructions="Twice")
    path = f"objects/tasks/{made['id']}.json"

    assert (await api.ask("PATCH", path, "task[status]=1")).json["name"] == "Paint"
    assert "name" not in (await api.ask("PUT", path, "task[status]=1")).json


@states("updating to v4", "v1's PUT is a partial update")
async def test_put_in_v1_is_partial(api: Api) -> None:
    made = await api.made("task", name="Paint")

    changed = (await api.ask("PUT", f"/api/v1/tasks/{made['id']}.json", "task[status]=1")).json
    assert (changed["name"], changed["status"]) == ("Paint", 1)


@states("updating to v4", "choices return the key and the display name; in v1 they are bare")
async def test_choices_in_both_versions(api: Api) -> None:
    made = await api.made("task", status=1)

    assert made["status"] == {"key": 1, "display": "Closed"}
    assert (await api.ask("GET", f"/api/v1/task/{made['id']}.json")).json["status"] == 1


@states("updating to v4", "photos are part of the fields, with absolute URLs and a state: pending or uploaded")
async def test_photos_in_both_versions(api: Api) -> None:
    photo = {"base64": base64.b64encode(b"GIF89a").decode(), "filename": "a.gif"}
    made = await api.made("task", photo=photo)
    pending = await api.made("task", photo_id=NO_SUCH_ID)
    v1 = (await api.ask("GET", f"/api/v1/task/{made['id']}.json")).json

    assert made["photo"]["state"] == "uploaded"
    assert all(made["photo"][one].startswith("http://") for one in ("thumbnail", "fullscreen", "original"))
    assert pending["photo"] == {"id": NO_SUCH_ID, "state": "pending"}
    assert v1["display_attachments"]["photo"]["original"].startswith("/media/")


@states("updating to v4", "the data model is `models` with fields, belongs_to and has_many")
async def test_the_shape_of_the_data_model(api: Api) -> None:
    task = (await api.ask("GET", "datamodel.json")).json["models"]["task"]

    assert {"name", "label", "display", "fields", "belongs_to", "has_many"} <= task.keys()
    assert task["fields"]["name"] == {"name": "name", "label": "Name", "type": "text"}


@states("updating to v4", "v4 supports JSON only")
async def test_v4_has_no_xml(api: Api) -> None:
    assert (await api.ask("GET", "oplog.xml")).status == 404


@states("updating to v4", "errors are structured: type, title, detail, see")
async def test_the_example_of_an_error(api: Api) -> None:
    reply = await api.ask("POST", "objects/task.json", {"task": {"status": "test"}})

    assert reply.json["type"] == "INVALID_VALUE"
    assert reply.json["title"] == "Invalid value specified."
    assert reply.json["detail"] == "Invalid option \"test\" for field 'status'."
    assert reply.json["see"].endswith("INVALID_VALUE")
