"""SIGKILL of the emulator under a load of writes: what stands in its file agrees, and nothing that was said is gone."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import subprocess
import threading
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import rig

KILLS = 50


class Load:
    """Creates, changes and deletes in batches, until nobody answers."""

    def __init__(self, emulator: rig.EmulatorProcess, ids: list[str], number: int) -> None:
        self.acknowledged = 0
        self._url, self._ids = f"{emulator.url}/batch.json", ids
        self._headers = {"Content-Type": "application/json", "Authorization": emulator.authorization}
        self._number = number
        self._thread = threading.Thread(target=self._write, daemon=True)
        self._thread.start()

    def ended(self) -> None:
        self._thread.join(rig.WITHIN_SECONDS)
        assert not self._thread.is_alive()

    def _write(self) -> None:
        turn = 0
        while True:
            turn += 1
            methods = ["put", "patch", "put", "delete"]
            operations = [
                {
                    "method": methods[(turn + at) % 4],
                    "object": {"type": "user", "id": id_, "name": f"{self._number}/{turn}/{at}"},
                }
                for at, id_ in enumerate(self._ids)
            ]
            body = json.dumps({"operations": operations}).encode()
            request = urllib.request.Request(self._url, body, self._headers, method="POST")
            try:
                with urllib.request.urlopen(request, timeout=rig.WITHIN_SECONDS) as answer:
                    done = json.load(answer)["operations"]
            except (OSError, urllib.error.URLError, ValueError):
                return
            self.acknowledged += sum(one["success"] for one in done)


def replayed(entries: list[tuple[int, bytes]]) -> dict[str, dict[str, Any]]:
    """The state that a consumer of the oplog comes to."""
    state: dict[str, dict[str, Any]] = {}
    for _, body in entries:
        entry = json.loads(b"{" + body)
        if entry["operation"] == "delete":
            state.pop(entry["object"]["id"], None)
        else:
            state[entry["object"]["id"]] = entry["object"]
    return state


def test_objects_and_oplog_agree_after_every_kill_and_sequences_only_grow(tmp_path: Path) -> None:
    file = tmp_path / "emulator.db"
    moments = rig.seeded("moments")
    ids = [f"00000000-0000-4000-8000-{number:012}" for number in range(40)]
    before: list[int] = []
    acknowledged = 0
    for kill in range(KILLS):
        emulator = rig.EmulatorProcess("--data", str(file))
        load = Load(emulator, ids, kill)
        with contextlib.suppress(subprocess.TimeoutExpired):
            emulator.process.wait(moments.uniform(0.02, 0.25))
        emulator.process.kill()
        emulator.stop()
        load.ended()
        acknowledged += load.acknowledged

        with sqlite3.connect(file) as database:
            entries = database.execute("SELECT sequence, body FROM entries ORDER BY sequence").fetchall()
            kept = {
                id_: (updated_at, json.loads(state))
                for id_, updated_at, state in database.execute("SELECT id, updated_at, state FROM objects")
            }
        database.close()
        sequences = [sequence for sequence, _ in entries]
        assert sequences[: len(before)] == before, f"kill {kill}: what was there has changed"
        assert len(entries) >= acknowledged, f"kill {kill}: what was acknowledged is gone"
        shown = {id_: (one["updated_at"], {"name": one["name"]}) for id_, one in replayed(entries).items()}
        assert shown == kept, f"kill {kill}"
        before = sequences
    print(f"{len(before)} entries, {acknowledged} acknowledged, {KILLS} kills")
    assert acknowledged > KILLS
