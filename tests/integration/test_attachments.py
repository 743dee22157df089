"""Photos and signatures through the bridge: fetched once into the store, told by reference, waited for where they come
late. The emulator is the source and the media host."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from emulated import MODEL, Api, emulated
from oplogbridge.attachments import attaching, waiting
from oplogbridge.attachments.spec import AttachmentsSpec
from oplogbridge.clock import SystemClock
from oplogbridge.emulator import Switches
from oplogbridge.source.client import APIS, OplogClient
from oplogbridge.testing.clock import ManualClock
from world import PipelineChoice, World

PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256))
ID = "eacb4836-f1b9-11e1-9750-001cc01904e3"


def uploaded(content: bytes = PNG) -> dict[str, str]:
    return {"base64": base64.b64encode(content).decode(), "filename": "photo 1.png"}


class Attaching(World):
    """One pipeline that follows an emulator, in real time, and keeps attachments in a folder."""

    def __init__(self, api: Api, folder: Path, *, version: str = "v4", **spec: Any) -> None:
        self.api = api
        self.folder = folder
        options: dict[str, Any] = {"types": frozenset(), "fields": None, "has_urls": version == "v4"} | spec
        attachments = AttachmentsSpec("orders", folder.as_uri(), allow_http=True, **options)
        format_ = options.get("format", "cloudevents")
        super().__init__(
            PipelineChoice(attachments=attachments, format=format_),
            clock=SystemClock(),
            poll_interval_seconds=0.01,
            lease_ttl_seconds=1.0,
            make_client=lambda: OplogClient(
                name="shop",
                url=api.emulator.url if version == "v4" else f"{api.emulator.root}/api/v1",
                credentials=None,
                api=APIS[version],
                page_limit=1000,
                page_bytes_max=2**26,
                request_timeout_seconds=10.0,
            ),
        )

    @property
    def told(self) -> list[dict[str, Any]]:
        """Of all events, in order."""
        payloads = [json.loads(event.payload) for event in self.at().log]
        return [one for payload in payloads for one in payload["data"].get("attachments", [])]

    def kept(self, id_: str) -> tuple[bytes | None, dict[str, Any] | None]:
        content, told = self.folder / id_, self.folder / f"{id_}.json"
        return (
            content.read_bytes() if content.exists() else None,
            json.loads(told.read_text()) if told.exists() else None,
        )

    @property
    def waits(self) -> set[str]:
        return set(self.memory.notes.get("attachments.orders", {}))

    def media(self) -> int:
        """Requests for files."""
        return sum(request.path.startswith("/media/") for request in self.api.emulator.requests)


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "ROUND_SECONDS", 0.02)


@contextlib.asynccontextmanager
async def attaching_to(
    folder: Path, *, world: dict[str, Any] | None = None, **emulator: Any
) -> AsyncIterator[Attaching]:
    # An upload is told by no entry, unless a test says so.
    emulator.setdefault("switches", Switches(attachment_entry=False))
    async with emulated(folder, **emulator) as api, Attaching(api, folder / "kept", **(world or {})) as made:
        yield made


def as_uploaded(content: bytes) -> dict[str, Any]:
    digest = hashlib.sha256(content).hexdigest()
    return {"state": "uploaded", "media_type": "image/png", "length": len(content), "sha256": digest}


async def test_what_is_uploaded_is_in_the_store_before_the_event_that_tells_of_it(tmp_path: Path) -> None:
    async with attaching_to(tmp_path) as world:
        made = await world.api.made("task", photo=uploaded())
        world.start()
        await world.eventually(lambda: len(world.sequences) == 1)

        id_ = made["photo"]["id"]
        url = (world.folder / id_).as_uri()
        assert world.told == [{"field": "photo", "id": id_, "url": url} | as_uploaded(PNG)]
        assert world.kept(id_) == (PNG, as_uploaded(PNG))
        assert world.waits == set()


@pytest.mark.parametrize("entry", [True, False], ids=["told by an entry", "told by nobody"])
async def test_a_late_upload_lands_under_the_url_that_was_told_before(tmp_path: Path, entry: bool) -> None:
    async with attaching_to(tmp_path, switches=Switches(attachment_entry=entry)) as world:
        await world.api.made("task", photo_id=ID)
        world.start()
        await world.eventually(lambda: len(world.sequences) == 1)
        assert world.told == [{"field": "photo", "id": ID, "url": (world.folder / ID).as_uri(), "state": "pending"}]
        assert (world.waits, world.kept(ID)) == ({ID}, (None, None))

        await world.api.ask("PUT", f"/_emulator/attachments/{ID}?state=uploaded&filename=a.png", data=PNG)
        await world.eventually(lambda: world.waits == set())

        assert world.kept(ID) == (PNG, as_uploaded(PNG))
        await world.eventually(lambda: len(world.sequences) == 1 + entry)
        assert [one["state"] for one in world.told] == ["pending", "uploaded"][: 1 + entry]


@pytest.mark.parametrize("state", ["missing", "untrusted"])
@pytest.mark.parametrize("late", [False, True])
async def test_what_will_never_come_is_told_in_the_event_or_beside_its_url(
    tmp_path: Path, state: str, late: bool
) -> None:
    async with attaching_to(tmp_path) as world:
        await world.api.made("task", photo_id=ID)
        if not late:
            await world.api.ask("PUT", f"/_emulator/attachments/{ID}?state={state}")
        world.start()
        await world.eventually(lambda: len(world.sequences) == 1)
        if late:
            await world.api.ask("PUT", f"/_emulator/attachments/{ID}?state={state}")
        await world.eventually(lambda: world.kept(ID) == (None, {"state": state}))

        assert world.told[0]["state"] == ("pending" if late else state)
        await world.eventually(lambda: world.waits == set())


async def test_what_is_too_large_is_told_and_not_kept(tmp_path: Path) -> None:
    async with attaching_to(tmp_path, world={"size_max": 100}) as world:
        large = await world.api.made("task", photo=uploaded())
        small = await world.api.made("task", photo=uploaded(PNG[:100]))
        world.start()
        await world.eventually(lambda: len(world.sequences) == 2)

        assert [one["state"] for one in world.told] == ["too_large", "uploaded"]
        assert world.kept(large["photo"]["id"]) == (None, {"state": "too_large"})
        assert world.kept(small["photo"]["id"])[0] == PNG[:100]


async def test_a_url_that_has_expired_is_asked_for_anew(tmp_path: Path) -> None:
    clock = ManualClock()
    async with attaching_to(tmp_path, clock=clock) as world:
        made = await world.api.made("task", photo=uploaded())
        attachments = world.api.emulator.objects.attachments
        attachments.url_seconds = -1.0
        world.start()
        await world.eventually(lambda: len(world.sequences) == 1)
        assert world.told[0]["state"] == "pending"
        attachments.url_seconds = 3600.0
        await world.eventually(lambda: world.waits == set())

        assert world.kept(made["photo"]["id"]) == (PNG, as_uploaded(PNG))


async def test_v1_is_asked_by_id_and_its_redirect_followed(tmp_path: Path) -> None:
    async with attaching_to(tmp_path, world={"version": "v1", "fields": {"task": ("photo", "sketch")}}) as world:
        made = await world.api.made("task", name=ID, photo=uploaded())
        await world.api.made("task", sketch=ID)
        world.start()
        await world.eventually(lambda: len(world.sequences) == 2)
        id_ = made["photo"]["id"]
        assert [(one["id"], one["state"]) for one in world.told] == [(id_, "uploaded"), (ID, "pending")]

        await world.api.ask("PUT", f"/_emulator/attachments/{ID}?state=uploaded&filename=a.png", data=PNG[:50])
        await world.eventually(lambda: world.waits == set())

        assert (world.kept(id_)[0], world.kept(ID)[0]) == (PNG, PNG[:50])


@pytest.mark.parametrize("fault", ["503", "reset", "cut", "html"])
async def test_a_broken_media_host_holds_nothing_back_and_is_tried_again(tmp_path: Path, fault: str) -> None:
    async with attaching_to(tmp_path) as world:
        world.api.emulator.faults.add(fault, on="media", count=None)
        made = [await world.api.made("task", photo=uploaded(PNG + bytes([n]))) for n in range(3)]
        world.start()
        await world.eventually(lambda: len(world.sequences) == 3)
        assert {one["state"] for one in world.told} == {"pending"}
        world.api.emulator.faults.clear()
        await world.eventually(lambda: world.waits == set())

        assert [world.kept(one["photo"]["id"])[0] for one in made] == [PNG + bytes([n]) for n in range(3)]


async def test_a_slow_media_host_holds_a_page_back_for_the_time_out_and_the_next_not_at_all(tmp_path: Path) -> None:
    async with attaching_to(tmp_path, world={"timeout_seconds": 0.2}) as world:
        world.api.emulator.faults.add("slow", on="media", count=None)  # until it is let go
        first = await world.api.made("task", photo=uploaded())
        one = world.start()
        began_at = world.clock.monotonic()
        await world.eventually(lambda: len(world.sequences) == 1)
        assert world.clock.monotonic() - began_at < 5.0
        await world.api.made("task", photo=uploaded(b"GIF8"))
        asked = world.media()
        await world.eventually(lambda: len(world.sequences) == 2)
        assert [told["state"] for told in world.told] == ["pending", "pending"]

        world.api.emulator.faults.clear()
        world.api.emulator.faults.release()
        await world.eventually(lambda: world.waits == set())
        assert world.kept(first["photo"]["id"])[0] == PNG
        assert one.pipeline().attachments_waiting == 0
        assert world.media() >= asked


async def test_an_attachment_is_fetched_once_whoever_refers_to_it(tmp_path: Path) -> None:
    async with attaching_to(tmp_path) as world:
        made = await world.api.made("task", photo=uploaded())
        for number in range(3):
            await world.api.ask("PATCH", f"objects/task/{made['id']}.json", {"task": {"name": f"n{number}"}})
        one = world.start()
        await world.eventually(lambda: len(world.sequences) == 4)
        one.kill()
        assert [told["state"] for told in world.told] == ["uploaded"] * 4
        assert world.media() == 1

        await world.api.ask("PATCH", f"objects/task/{made['id']}.json", {"task": {"name": "more"}})
        world.start()
        await world.eventually(lambda: len(world.sequences) == 5)
        assert world.media() == 1, "the store knows it"


async def test_what_still_had_to_come_comes_after_a_crash(tmp_path: Path) -> None:
    async with attaching_to(tmp_path) as world:
        await world.api.made("task", photo_id=ID)
        one = world.start()
        writing = one.gate.hold("sink.write")
        await writing.reached()
        assert world.waits == {ID}, "it is on the list before the event is written"
        one.kill()
        await world.api.ask("PUT", f"/_emulator/attachments/{ID}?state=uploaded&filename=a.png", data=PNG)
        two = world.start()
        await world.eventually(lambda: world.waits == set() and len(world.sequences) == 1)

        assert world.kept(ID)[0] == PNG
        assert two.pipeline().state in ("opening", "running")


async def test_at_the_deadline_it_is_given_up_and_that_stands_beside_its_url(tmp_path: Path) -> None:
    async with attaching_to(tmp_path, world={"deadline_seconds": 0.1}) as world:
        await world.api.made("task", photo_id=ID)
        one = world.start()
        await world.eventually(lambda: world.kept(ID) == (None, {"state": "expired"}))
        await world.eventually(lambda: world.waits == set())

        assert one.pipeline().attachments == {"pending": 1, "expired": 1}


async def test_of_too_many_that_wait_the_oldest_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "WAITING_MAX", 2)
    ids = [f"{n}{ID[1:]}" for n in range(4)]
    async with attaching_to(tmp_path) as world:
        world.start()
        for number, id_ in enumerate(ids):
            await world.api.made("task", photo_id=id_)
            await world.eventually(lambda number=number: len(world.sequences) == number + 1)  # type: ignore[misc]
        await world.eventually(lambda: world.waits == set(ids[2:]))

        assert [world.kept(id_)[1] for id_ in ids[:2]] == [{"state": "expired"}] * 2


async def test_an_object_that_is_gone_takes_its_attachment_along(tmp_path: Path) -> None:
    async with attaching_to(tmp_path) as world:
        made = await world.api.made("task", photo_id=ID)
        world.start()
        await world.eventually(lambda: world.waits == {ID})
        await world.api.ask("DELETE", f"objects/task/{made['id']}.json")
        await world.eventually(lambda: world.waits == set())

        assert world.kept(ID) == (None, {"state": "missing"})
        await world.eventually(lambda: len(world.sequences) == 2)
        assert len(world.told) == 1, "a delete tells of none"


async def test_fields_that_the_pipeline_hides_are_neither_fetched_nor_told(tmp_path: Path) -> None:
    async with attaching_to(tmp_path, world={"hidden": {"task": {"photo"}}}) as world:
        await world.api.made("task", photo=uploaded(), sketch=uploaded(b"<svg/>"))
        world.start()
        await world.eventually(lambda: len(world.sequences) == 1)

        assert [one["field"] for one in world.told] == ["sketch"]
        assert world.media() == 1


@pytest.mark.parametrize("format_", ["flat", "debezium"])
async def test_formats_without_data_tell_of_them_in_the_object(tmp_path: Path, format_: str) -> None:
    async with attaching_to(tmp_path, world={"format": format_}) as world:
        made = await world.api.made("task", photo=uploaded())
        world.start()
        await world.eventually(lambda: len(world.sequences) == 1)

        payload = json.loads(world.at().log[0].payload)
        object_ = payload if format_ == "flat" else payload["after"]
        assert [one["id"] for one in object_["__attachments"]] == [made["photo"]["id"]]


async def test_a_store_that_cannot_be_written_stops_the_pipeline_and_says_why(tmp_path: Path) -> None:
    (tmp_path / "kept").write_text("a file where the folder should be")
    async with attaching_to(tmp_path) as world:
        await world.api.made("task", photo=uploaded())
        one = world.start()
        await world.eventually(lambda: "orders" in one.status and one.pipeline().error is not None)

        assert "attachments' store" in (one.pipeline().error or "")
        assert world.sequences == []


def test_the_model_of_these_tests_has_both_kinds() -> None:
    assert "photo: photo" in MODEL
    assert attaching.AT_ONCE_MAX == 4
