"""Photos, signatures and attachments in the emulator: states, signed URLs that expire, uploads that come late."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path

import pytest

from emulated import Api, emulated
from oplogbridge.emulator import Switches
from oplogbridge.testing.clock import ManualClock

PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256))
ID = "eacb4836-f1b9-11e1-9750-001cc01904e3"


def uploaded(content: bytes = PNG, filename: str = "photo 1.png") -> dict[str, str]:
    return {"base64": base64.b64encode(content).decode(), "filename": filename}


async def test_an_uploaded_photo_is_shown_with_absolute_urls_that_give_its_bytes(tmp_path: Path) -> None:
    async with emulated(tmp_path) as api:
        made = await api.made("task", photo=uploaded())

        photo = made["photo"]
        assert photo.keys() == {"id", "state", "thumbnail", "fullscreen", "original"}
        assert (photo["state"], made["photo_id"]) == ("uploaded", photo["id"])
        media = await api.ask("GET", photo["original"])
        assert (media.status, media.body, media.headers["Content-Type"]) == (200, PNG, "image/png")
        assert (await api.entries())[0]["object"]["photo"]["id"] == photo["id"]


async def test_a_signature_has_an_svg_besides(tmp_path: Path) -> None:
    async with emulated(tmp_path) as api:
        made = await api.made("task", sketch=uploaded(b"<svg/>", "sketch.svg"))

        assert "svg" in made["sketch"]
        assert (await api.ask("GET", made["sketch"]["svg"])).headers["Content-Type"] == "image/svg+xml"


@pytest.mark.parametrize("entry", [True, False])
async def test_a_photo_that_is_uploaded_later_is_pending_until_then(tmp_path: Path, entry: bool) -> None:
    async with emulated(tmp_path, switches=Switches(attachment_entry=entry)) as api:
        made = await api.made("task", name="Paint", photo_id=ID)
        assert made["photo"] == {"id": ID, "state": "pending"}

        reply = await api.ask("PUT", f"/_emulator/attachments/{ID}?state=uploaded&filename=a.png", data=PNG)

        assert reply.status == 204
        entries = await api.entries()
        assert [one["operation"] for one in entries] == (["create", "update"] if entry else ["create"])
        # The old entry shows the state of today.
        assert entries[0]["object"]["photo"]["state"] == "uploaded"


@pytest.mark.parametrize("state", ["missing", "untrusted"])
async def test_other_states_are_shown_without_urls(tmp_path: Path, state: str) -> None:
    async with emulated(tmp_path) as api:
        await api.made("task", photo_id=ID)
        await api.ask("PUT", f"/_emulator/attachments/{ID}?state={state}")

        assert (await api.entries())[0]["object"]["photo"] == {"id": ID, "state": state}


async def test_a_url_is_signed_and_expires(tmp_path: Path) -> None:
    clock = ManualClock()
    async with emulated(tmp_path, clock=clock) as api:
        url = (await api.made("task", photo=uploaded()))["photo"]["original"]

        assert (await api.ask("GET", url[:-1] + ("0" if url[-1] != "0" else "1"))).status == 403
        clock.advance(3599)
        assert (await api.ask("GET", url)).status == 200
        clock.advance(2)
        assert (await api.ask("GET", url)).status == 403
        fresh = (await api.entries())[0]["object"]["photo"]["original"]  # asked again, it is signed anew
        assert (await api.ask("GET", fresh)).status == 200


async def test_v1_has_the_id_and_redirects_to_the_file(tmp_path: Path) -> None:
    async with emulated(tmp_path) as api:
        made = await api.made("task", name="Paint", photo=uploaded())
        entry = (await api.ask("GET", "/api/v1/_oplog.json")).json[0]

        assert entry["data"] == {"name": "Paint", "photo": made["photo"]["id"]}
        redirect = await api.ask("GET", f"/api/v1/_attachment/{entry['data']['photo']}")
        assert redirect.status == 302
        assert (await api.ask("GET", redirect.headers["Location"])).body == PNG
        assert (await api.ask("GET", f"/api/v1/_attachment/{ID}")).status == 404


async def test_photos_outlive_a_restart_in_a_file(tmp_path: Path) -> None:
    async with emulated(tmp_path, data=tmp_path / "log.db") as api:
        made = await api.made("task", photo=uploaded())

    async with emulated(tmp_path, data=tmp_path / "log.db") as api:
        found = (await api.ask("GET", f"objects/task/{made['id']}.json")).json
        assert (await api.ask("GET", found["photo"]["original"])).body == PNG


async def test_faults_strike_media_where_they_are_ordered_for_it(tmp_path: Path) -> None:
    async with emulated(tmp_path) as api:
        url = (await api.made("task", photo=uploaded()))["photo"]["original"]
        api.emulator.faults.add("503", on="media")

        assert (await api.ask("GET", "oplog.json")).status == 200
        assert (await api.ask("GET", url)).status == 503
        assert (await api.ask("GET", url)).status == 200


async def test_clearing_a_photo(tmp_path: Path) -> None:
    async with emulated(tmp_path) as api:
        made = await api.made("task", photo=uploaded())
        changed = await _patched(api, made["id"], photo=None)

        assert changed["photo"] is None


async def _patched(api: Api, id_: str, **fields: object) -> dict[str, object]:
    reply = await api.ask("PATCH", f"objects/task/{id_}.json", {"task": fields})
    assert reply.status == 200
    object_: dict[str, object] = reply.json
    return object_


async def test_an_id_that_is_known_may_be_written_again(tmp_path: Path) -> None:
    async with emulated(tmp_path) as api:
        for _ in range(2):
            made = await api.made("task", photo=ID)
            assert made["photo"] == {"id": ID, "state": "pending"}


async def test_only_objects_with_the_attachment_are_told_of_its_upload(tmp_path: Path) -> None:
    async with emulated(tmp_path) as api:
        await api.made("task", name=ID)
        await api.made("task", photo_id=ID)
        await api.ask("PUT", f"/_emulator/attachments/{ID}?filename=a.png", data=PNG)

        assert [one["operation"] for one in await api.entries()] == ["create", "create", "update"]


async def test_a_photo_of_some_megabytes_is_taken(tmp_path: Path) -> None:
    async with emulated(tmp_path) as api:
        body = io.BytesIO(json.dumps({"task": {"photo": uploaded(PNG * 10_000)}}).encode())
        reply = await api.ask("POST", "objects/task.json", data=body, headers={"Content-Type": "application/json"})
        made = reply.json

        assert (await api.ask("GET", made["photo"]["original"])).body == PNG * 10_000


async def test_nonsense_in_a_url_or_a_login_is_refused_and_no_error_of_the_server(tmp_path: Path) -> None:
    async with emulated(tmp_path, password="secret") as api:
        assert (await api.ask("GET", "/media/x/original?expires=%C2%B2&sha1=x")).status == 403
        for login in ("Basic é", "Token ÿ", "Basic !"):
            assert (await api.ask("GET", "oplog.json", headers={"Authorization": login})).status == 401, login
