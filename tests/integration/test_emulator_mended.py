"""What the emulator once got wrong: each of these was a 500, a leftover, or taken where it should not be."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from emulated import NO_SUCH_ID, emulated
from oplogbridge.emulator.datamodel import datamodel_of
from oplogbridge.testing.clock import ManualClock
from services import free_port

PHOTO = {"base64": base64.b64encode(b"GIF8").decode(), "filename": "a.gif"}
DEEP = "[" * 400 + "]" * 400


async def test_a_failed_operation_of_a_batch_leaves_no_upload_behind(tmp_path: Path) -> None:
    async with emulated(tmp_path) as api:
        bad = {"method": "post", "object": {"type": "task", "photo": PHOTO, "count": "no number"}}
        good = {"method": "post", "object": {"type": "task", "photo": PHOTO, "name": "stays"}}
        reply = await api.ask("POST", "batch.json", {"operations": [bad, good, bad]})

        assert [one["success"] for one in reply.json["operations"]] == [False, True, False]
        assert len(api.emulator.objects.attachments) == 1
        assert await api.listed() == ["stays"]


async def test_a_delete_that_is_taken_back_leaves_objects_in_the_order_in_which_they_were_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with emulated(tmp_path) as api:
        made = [await api.made("task", name=name) for name in ("a", "b", "c")]

        def refuse(*_: object) -> None:
            raise OSError("the disk is full")

        with monkeypatch.context() as broken:
            broken.setattr(api.emulator.log, "append", refuse)
            assert (await api.ask("DELETE", f"objects/task/{made[0]['id']}.json")).status == 500

        assert await api.listed() == ["a", "b", "c"]


@pytest.mark.parametrize("cut", ["retention_cut", "rewind"])
async def test_no_sequence_comes_twice_after_a_cut_in_the_same_second(tmp_path: Path, cut: str) -> None:
    async with emulated(tmp_path, clock=ManualClock()) as api:
        before = api.emulator.write(5)
        api.emulator.faults.add(cut, entries=5)
        assert await api.entries() == []

        assert min(api.emulator.write(5)) > max(before)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("objects/task.json?" + "a" + "[b]" * 500 + "=1", None),
        ("objects/task.json?a[][x]=1&a[]=2", None),
        ("objects/task.json?q[]=1", None),
        ("objects/task/query.json", f'{{"expression":"name = ?","arguments":[{DEEP}]}}'),
        ("objects/task.json", f'{{"task":{{"name":{DEEP}}}}}'),
        ("objects/task.json", f'{{"task":{{"place":{DEEP}}}}}'),
    ],
)
async def test_nonsense_is_refused_in_the_vendors_shape(tmp_path: Path, path: str, body: str | None) -> None:
    async with emulated(tmp_path) as api:
        more: dict[str, Any] = {} if body is None else {"data": body, "headers": {"Content-Type": "application/json"}}
        reply = await api.ask("GET" if body is None else "POST", path, **more)

        assert reply.status in (200, 400, 422)
        assert reply.status == 200 or reply.json["type"] in ("INVALID_API_REQUEST", "INVALID_VALUE")


async def test_a_track_that_is_nested_too_deeply_is_refused(tmp_path: Path) -> None:
    async with emulated(tmp_path, model="models: {run: {fields: {path: track}}}") as api:
        reply = await api.ask(
            "POST",
            "objects/run.json",
            data=f'{{"run":{{"path":{DEEP}}}}}',
            headers={"Content-Type": "application/json"},
        )

        assert (reply.status, reply.json["type"]) == (400, "INVALID_API_REQUEST")


async def test_a_list_among_conditions_is_one_over_get_as_well(tmp_path: Path) -> None:
    async with emulated(tmp_path) as api:
        for name in ("a", "b", "c"):
            await api.made("task", name=name)

        assert await api.listed("q[name.in][]=a&q[name.in][]=c") == ["a", "c"]


@pytest.mark.parametrize(
    ("expression", "arguments"),
    [("name = ? and", ["a"]), ("name = ?", ["a", "b"]), ("", ["a"]), ("name = ? name = ?", ["a", "b"])],
)
async def test_an_expression_says_all_of_its_arguments_and_ends(
    tmp_path: Path, expression: str, arguments: list[str]
) -> None:
    async with emulated(tmp_path) as api:
        reply = await api.ask("POST", "objects/task/query.json", {"expression": expression, "arguments": arguments})

        assert (reply.status, reply.json["type"]) == (400, "INVALID_API_REQUEST")


async def test_what_v1_shows_of_choices_it_takes_back(tmp_path: Path) -> None:
    async with emulated(tmp_path) as api:
        made = await api.made("task", tags=["blue", "red"], sport="chess")
        path = f"/api/v1/task/{made['id']}.json"
        shown = (await api.ask("GET", path)).json
        assert (shown["tags"], shown["sport"]) == ([1, 0], 1)

        await api.ask("PUT", path, {"task": {"tags": [0], "sport": 0}})
        assert (await api.ask("GET", path)).json["tags"] == [0]
        await api.ask("PUT", path, "task[tags][]=1&task[sport]=1")
        again = (await api.ask("GET", path)).json
        assert (again["tags"], again["sport"]) == ([1], 1)


async def test_an_empty_photo_in_a_form_is_none(tmp_path: Path) -> None:
    async with emulated(tmp_path) as api:
        reply = await api.ask("POST", "objects/task.json", "task[name]=n&task[photo_id]=")

        assert (reply.status, reply.json["photo"]) == (201, None)


async def test_times_before_the_year_1000_keep_their_four_digits(tmp_path: Path) -> None:
    async with emulated(tmp_path) as api:
        assert (await api.made("task", seen_at="0999-01-02T03:04:05Z"))["seen_at"] == "0999-01-02T03:04:05Z"


async def test_an_svg_is_served_so_that_it_cannot_run(tmp_path: Path) -> None:
    async with emulated(tmp_path) as api:
        sketch = {"base64": base64.b64encode(b"<svg/>").decode(), "filename": "a.svg"}
        url = (await api.made("task", sketch=sketch))["sketch"]["svg"]
        headers = (await api.ask("GET", url)).headers

        assert headers["Content-Security-Policy"].startswith("sandbox")
        assert headers["X-Content-Type-Options"] == "nosniff"


async def test_an_entry_whose_object_is_none_is_shown_by_v1_as_it_stands(tmp_path: Path) -> None:
    async with emulated(tmp_path) as api:
        api.emulator.append_raw('{"operation":"update","object":null}')

        assert (await api.ask("GET", "/api/v1/_oplog.json")).status == 200


async def test_a_field_that_became_a_photo_shows_what_it_held_as_missing(tmp_path: Path) -> None:
    async with emulated(tmp_path) as api:
        await api.made("task", tags=["red"])
        model = {"models": {"task": {"fields": {"tags": "photo", "name": "text"}}}}
        api.emulator.deploy(datamodel_of(model))

        assert (await api.ask("GET", "objects/task.json")).status == 200
        assert (await api.ask("GET", "/api/v1/task.json")).status == 200
        assert (await api.ask("GET", f"objects/task/{NO_SUCH_ID}.json")).status == 404


async def test_a_host_that_is_none_gets_the_document_all_the_same(tmp_path: Path) -> None:
    async with emulated(tmp_path) as api:
        reply = await api.ask("GET", "/openapi.json", headers={"Host": "[nonsense"})

        assert reply.status in (200, 400)


async def test_where_it_listens_everywhere_its_urls_are_those_that_it_was_told_to_give(tmp_path: Path) -> None:
    port = free_port()
    origin = f"http://localhost:{port}"
    async with emulated(tmp_path, listen=f"0.0.0.0:{port}", origin=f"{origin}/") as api:
        made = await api.made("task", photo=PHOTO)

        assert made["photo"]["original"].startswith(f"{origin}/media/")
        assert (await api.ask("GET", made["photo"]["original"])).status == 200
        assert api.emulator.url.startswith(f"{origin}/api/v4/")


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ({"fields": []}, "models.a.fields: must be a mapping"),
        ({"display": 7}, "models.a.display: must be text"),
        ({"label": ["x"]}, "models.a.label: must be text"),
        ({"fields": {"x": {"type": ["text"]}}}, "models.a.fields.x: its type is one of"),
        ({"fields": {"x": {"type": "text", "label": 7}}}, "models.a.fields.x.label: must be text"),
        ({"fields": {"x": {"type": "text", "options": {"a": "A"}}}}, "a field of type text has none"),
        ({"belongs_to": {"one": "a", "two": "a"}}, "give it an `inverse_of` of its own"),
        ({"belongs_to": {"one": {"model": "a", "inverse_of": 7}}}, "inverse_of: must be text"),
        (7, "models.a: must be a mapping"),
    ],
)
def test_a_data_model_of_another_shape_is_refused_where_it_is_given(model: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said.replace("(", r"\(")):
        datamodel_of(json.loads(json.dumps({"models": {"a": model}})))
