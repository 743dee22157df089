"""SIGKILL of the bridge while photos come, some of them late: each ends in the store, byte for byte, and every event
stands once."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import random
import subprocess
import threading
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

import rig

KILLS = 20
OBJECTS = 120
MODEL = "models: {task: {fields: {name: text, photo: photo}}}"


class Photographers:
    """Objects with a photo each: some have it at once, the others get it later, in another order."""

    def __init__(self, emulator: rig.EmulatorProcess, chance: random.Random) -> None:
        self.photos: dict[str, bytes] = {}
        self._emulator = emulator
        self._chance = chance
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def ended(self) -> None:
        self._thread.join(rig.WITHIN_SECONDS)
        assert not self._thread.is_alive()

    @property
    def is_working(self) -> bool:
        return self._thread.is_alive()

    def _work(self) -> None:
        coming: list[str] = []
        pace = threading.Event()  # never set: the work lasts about as long as the kills
        for number in range(OBJECTS):
            photo = b"\x89PNG" + self._chance.randbytes(self._chance.randrange(1, 20_000))
            if self._chance.random() < 0.5:
                text = base64.b64encode(photo).decode()
                made = self._post({"name": f"n{number}", "photo": {"base64": text, "filename": "a.png"}})
                self.photos[made["photo"]["id"]] = photo
            else:
                id_ = f"{number:08x}-0000-4000-8000-000000000000"
                self._post({"name": f"n{number}", "photo_id": id_})
                self.photos[id_] = photo
                coming.append(id_)
            pace.wait(0.1)
            if coming and self._chance.random() < 0.4:
                self._upload(coming.pop(self._chance.randrange(len(coming))))
        for id_ in coming:
            self._upload(id_)

    def _upload(self, id_: str) -> None:
        url = f"{self._emulator.root}/_emulator/attachments/{id_}?state=uploaded&filename=a.png"
        self._send(urllib.request.Request(url, self.photos[id_], method="PUT"))

    def _post(self, fields: dict[str, Any]) -> dict[str, Any]:
        body = json.dumps({"task": fields}).encode()
        request = urllib.request.Request(f"{self._emulator.url}/objects/task.json", body, method="POST")
        made: dict[str, Any] = json.loads(self._send(request))
        return made

    def _send(self, request: urllib.request.Request) -> bytes:
        request.add_header("Authorization", self._emulator.authorization)
        request.add_header("Content-Type", "application/json")
        with urllib.request.urlopen(request, timeout=rig.WITHIN_SECONDS) as answer:
            body: bytes = answer.read()
            return body


def test_every_photo_lands_and_every_event_stands_once_wherever_the_bridge_is_killed(tmp_path: Path) -> None:
    chance = rig.seeded("photos and moments")
    model, kept, events = tmp_path / "model.yaml", tmp_path / "kept", tmp_path / "events.jsonl"
    model.write_text(MODEL)
    with rig.emulator("--model", str(model)) as emulator:
        config = rig.write_config(
            tmp_path / "bridge.yaml",
            emulator,
            {"photos": {"kind": "file", "path": str(events)}},
            state=f"sqlite:///{tmp_path / 'state.db'}",
            source_options={"id": "shop", "poll_interval": "10ms"},
            defaults={"attachments": {"store": str(kept)}},
            admin={"listen": "off"},
        )
        photographers = Photographers(emulator, random.Random(chance.random()))
        bridge = rig.BridgeProcess(config, tmp_path / "bridge.log")
        kills = 0
        while photographers.is_working or kills < KILLS:
            bridge.start()
            with contextlib.suppress(subprocess.TimeoutExpired):
                bridge.process.wait(0.5 + chance.uniform(0.0, 0.6))
            bridge.kill()
            kills += 1
        photographers.ended()
        bridge.start()
        bridge.until(lambda: landed(kept) >= photographers.photos.keys(), "every photo is in the store")
        written = [entry["sequence_id"] for entry in emulator.entries()]
        bridge.until(lambda: [event["id"] for event in lines(events)] == written, "every event is there, once")
        bridge.close()

    for id_, photo in photographers.photos.items():
        assert (kept / id_).read_bytes() == photo
        told = json.loads((kept / f"{id_}.json").read_bytes())
        assert (told["length"], told["sha256"]) == (len(photo), hashlib.sha256(photo).hexdigest())
    told_in_events = [one for event in lines(events) for one in event["data"]["attachments"]]
    assert {one["id"] for one in told_in_events} == photographers.photos.keys()
    for one in told_in_events:
        assert Path(urllib.parse.unquote(urllib.parse.urlsplit(one["url"]).path)) == kept / one["id"]
        if one["state"] == "uploaded":
            assert one["sha256"] == hashlib.sha256(photographers.photos[one["id"]]).hexdigest()


def landed(kept: Path) -> set[str]:
    return {path.stem for path in kept.glob("*.json")}


def lines(events: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in events.read_text().splitlines()]
