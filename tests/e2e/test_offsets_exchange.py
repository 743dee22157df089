"""`offsets export` and `import`: pipelines move to another state store, and go on exactly where they were."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import rig
from auditor import EXACT, audit, read_file, read_redis
from services import RedisServer


class Move:
    """A file and a Redis stream, each filled by a pipeline whose offset lives in one store after the other."""

    def __init__(self, folder: Path, source: rig.EmulatorProcess, redis: RedisServer, name: str) -> None:
        self.folder, self.source, self.redis, self.name = folder, source, redis, name
        self.sinks: dict[str, dict[str, Any]] = {
            "to-file": {"kind": "file", "path": str(folder / "events.jsonl")},
            "to-redis": {"kind": "redis", "url": redis.url, "stream": name},
        }

    def config(self, name: str, state: str) -> Path:
        return rig.write_config(self.folder / f"{name}.yaml", self.source, self.sinks, state=state, name=self.name)

    def deliver(self, config: Path, entries: int) -> None:
        if entries:
            last = self.source.entries()[-1]
            first = int(last["sequence_id"]) + 1
            self.source.append([last | {"sequence_id": str(first + number)} for number in range(entries)])
        done = rig.run_command("run", "-c", str(config), "--until-caught-up", "--admin", "off")
        assert done.returncode == 0, done.stderr

    def export(self, config: Path) -> Path:
        done = rig.run_command("offsets", "export", "-c", str(config))
        assert done.returncode == 0, done.stderr
        file = self.folder / "offsets.jsonl"
        file.write_text(done.stdout)
        return file


@pytest.fixture
def move(tmp_path: Path, redis_server: RedisServer, unique: str) -> Any:
    with rig.emulator("--entries", "500") as source:
        yield Move(tmp_path, source, redis_server, unique)


def test_pipelines_go_on_exactly_where_they_were_in_one_store_after_the_other(move: Move) -> None:
    first = move.config("first", f"sqlite:///{move.folder / 'first.db'}")
    second = move.config("second", move.redis.url)
    third = move.config("third", f"sqlite:///{move.folder / 'third.db'}")
    move.deliver(first, 0)

    for old, new in ((first, second), (second, third)):
        done = rig.run_command("offsets", "import", str(move.export(old)), "-c", str(new))
        assert done.returncode == 0, done.stderr
        assert "to-file: none -> " in done.stdout
        move.deliver(new, 100)

    entries = move.source.entries()
    assert len(entries) == 700
    assert audit(entries, read_file(move.folder / "events.jsonl")) == EXACT
    assert audit(entries, read_redis(move.redis.url, move.name)) == EXACT


def test_nothing_is_imported_over_another_offset_unless_it_is_forced(move: Move) -> None:
    old = move.config("old", f"sqlite:///{move.folder / 'old.db'}")
    new = move.config("new", f"sqlite:///{move.folder / 'new.db'}")
    move.deliver(old, 0)
    file = move.export(old)
    assert rig.run_command("offsets", "import", str(file), "-c", str(new)).returncode == 0
    again = rig.run_command("offsets", "import", str(file), "-c", str(new))  # what is there already is no mistake
    move.deliver(new, 5)
    before = rig.run_command("offsets", "list", "-c", str(new), "--json").stdout

    refused = rig.run_command("offsets", "import", str(file), "-c", str(new))
    unchanged = rig.run_command("offsets", "list", "-c", str(new), "--json").stdout
    forced = rig.run_command("offsets", "import", str(file), "-c", str(new), "--force")

    assert (again.returncode, refused.returncode, forced.returncode) == (0, 3, 0)
    assert "to-file, to-redis: nothing was imported" in refused.stderr
    assert unchanged == before
    stored = json.loads(file.read_text().splitlines()[0])["stored"]["offset"]
    assert json.loads(rig.run_command("offsets", "list", "-c", str(new), "--json").stdout)[0]["offset"] == stored


def test_neither_is_done_under_an_instance_that_runs(move: Move) -> None:
    config = move.config("c", f"sqlite:///{move.folder / 'state.db'}")
    move.deliver(config, 0)
    file = move.export(config)

    with rig.bridge(config, move.folder / "bridge.log") as bridge:
        bridge.start()
        bridge.logged("lease held")
        exporting = rig.run_command("offsets", "export", "-c", str(config))
        importing = rig.run_command("offsets", "import", str(file), "-c", str(config))

    assert (exporting.returncode, importing.returncode) == (3, 3)
    assert "stop it first" in exporting.stderr
    assert "stop it first" in importing.stderr


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{}\n", "line 1"),
        ("no json\n", "line 1"),
        ('{"pipeline":"other","stored":STORED}\n', "other: no such pipeline"),
        ('{"pipeline":"to-file","stored":{"v":99}}\n', "upgrade oplog-bridge"),
        ('{"pipeline":"to-file","stored":STORED,"more":1}\n', "line 1"),
    ],
)
def test_a_file_that_is_no_export_stores_nothing(move: Move, text: str, said: str) -> None:
    config = move.config("c", f"sqlite:///{move.folder / 'state.db'}")
    stored = '{"v":1,"offset":"5","mark":null,"source":"s","destination":"d"}'
    file = move.folder / "wrong.jsonl"
    file.write_text(text.replace("STORED", stored))

    done = rig.run_command("offsets", "import", str(file), "-c", str(config))

    assert done.returncode == 2
    assert said in done.stderr
    assert rig.run_command("offsets", "export", "-c", str(config)).stdout == ""
