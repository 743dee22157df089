"""SIGHUP on a real process: what is new begins, what is gone ends, what is the same is not touched."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import rig

ENTRIES = 300


def sequences(path: Path) -> list[int]:
    return [int(json.loads(line)["id"]) for line in path.read_bytes().splitlines()] if path.exists() else []


def events(log: Path, name: str) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]
    return [line for line in lines if line["event"] == name]


class Folder:
    """A configuration that is written again and again, and what came of it."""

    def __init__(self, path: Path, source: rig.EmulatorProcess) -> None:
        self.path = path
        self.source = source
        self.log = path / "bridge.log"
        self.expected = [int(entry["sequence_id"]) for entry in source.entries()]

    def write(self, *names: str, **top: Any) -> Path:
        sinks = {name: {"kind": "file", "path": str(self.path / f"{name}.jsonl")} for name in names}
        state = f"sqlite:///{self.path / 'state.db'}"
        return rig.write_config(self.path / "bridge.yaml", self.source, sinks, **{"state": state} | top)

    def has_all(self, name: str) -> bool:
        return sequences(self.path / f"{name}.jsonl") == self.expected

    def opened(self, pipeline: str) -> int:
        return [line["pipeline"] for line in events(self.log, "pipeline open")].count(pipeline)


def test_a_reload_starts_what_is_new_ends_what_is_gone_and_leaves_the_rest_alone(tmp_path: Path) -> None:
    with rig.emulator("--entries", str(ENTRIES)) as source:
        folder = Folder(tmp_path, source)
        with rig.bridge(folder.write("kept", "gone"), folder.log) as bridge:
            bridge.start()
            bridge.until(lambda: folder.has_all("kept") and folder.has_all("gone"), "both files are complete")

            folder.write("kept", "new")
            bridge.signal(signal.SIGHUP)
            bridge.until(lambda: folder.has_all("new"), "the new file is complete")

            (reloaded,) = events(folder.log, "configuration reloaded")
            assert (reloaded["added"], reloaded["removed"], reloaded["changed"]) == (["new"], ["gone"], [])
            assert (folder.opened("kept"), folder.opened("new")) == (1, 1)
            assert len(events(folder.log, "lease held")) == 1

            folder.write("kept", "new", source_options={"page_limit": 7})
            bridge.signal(signal.SIGHUP)
            bridge.until(lambda: folder.opened("kept") == 2 and folder.opened("new") == 2, "both opened again")

            bridge.signal(signal.SIGTERM)
            assert bridge.exited(rig.WITHIN_SECONDS) == 0
        assert len(events(folder.log, "lease held")) == 2  # another source is held by another lease
        assert folder.has_all("kept")
        assert folder.has_all("new")


def test_a_configuration_with_a_mistake_changes_nothing_and_is_said(tmp_path: Path) -> None:
    with rig.emulator("--entries", str(ENTRIES)) as source:
        folder = Folder(tmp_path, source)
        config = folder.write("one", admin={"listen": "127.0.0.1:0"})
        with rig.BridgeWithAdmin(config, folder.log) as bridge:
            bridge.until(lambda: folder.has_all("one"), "the file is complete")
            url = bridge.admin_url

            wrong = {
                "sources.shop.url": config.read_text().replace("http://", "ftp://"),
                "pipelines": "pipelines: {}\n",
                "state: is read at the start only": config.read_text().replace("state.db", "other.db"),
            }
            for refused, (named, text) in enumerate(wrong.items(), 1):
                config.write_text(text)
                bridge.signal(signal.SIGHUP)
                count = f'oplog_bridge_config_reloads_total{{result="refused"}} {refused}.0'
                bridge.until(lambda count=count: count in rig.get_text(f"{url}/metrics"), "it is refused")
                assert named in rig.get_json(f"{url}/api/status")["configuration"]["error"]

            folder.write("one", "two", admin={"listen": "127.0.0.1:0"})
            bridge.signal(signal.SIGHUP)
            bridge.until(lambda: folder.has_all("two"), "the mended one is taken")
            assert rig.get_json(f"{url}/api/status")["configuration"] == {"reloads": 1, "error": None}
            assert folder.opened("one") == 1


def test_kills_and_reloads_in_any_order_lose_nothing(tmp_path: Path) -> None:
    moments = rig.seeded("kills and reloads")
    with rig.emulator("--entries", "4000") as source:
        folder = Folder(tmp_path, source)
        slow = {"page_limit": 25}
        config = folder.write("one", "two", source_options=slow, instance="under-test")
        with rig.bridge(config, folder.log) as bridge:
            bridge.start()
            for number in range(12):
                bridge.exited(moments.uniform(0.05, 0.5))
                names = ["one", *moments.sample(["two", f"other{number}"], moments.randint(0, 2))]
                folder.write(*names, source_options=slow, instance="under-test")
                if moments.random() < 0.4:
                    bridge.kill()
                    bridge.start()
                else:
                    bridge.signal(signal.SIGHUP)
            folder.write("one", "two", source_options=slow, instance="under-test")
            bridge.kill()
            bridge.start()
            bridge.until(lambda: folder.has_all("one") and folder.has_all("two"), "both files are complete")
