"""Every block of docs/runbook.md and docs/replay.md is run, as it stands, by a shell, each in a world of its own."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import rig
from services import RedisServer

BLOCKS = {
    document: re.findall(r"```sh\n(.*?)```", (rig.ROOT / "docs" / document).read_text(), re.DOTALL)
    for document in ("runbook.md", "replay.md")
}
NUMBERED = [(document, number) for document, blocks in BLOCKS.items() for number in range(len(blocks))]


@pytest.fixture(scope="module")
def source() -> Iterator[rig.EmulatorProcess]:
    with rig.emulator("--entries", "600") as source:
        source.append([{"id": f"large{n}", "type": "user", "name": "x" * 50_000} for n in range(3)])
        yield source


def configure(source: rig.EmulatorProcess, folder: Path, redis: dict[str, Any], *, event_bytes_max: str) -> Path:
    """The pipelines that the documents name."""
    letters = {"kind": "file", "path": str(folder / "letters-{pipeline}.jsonl")}
    sinks = {name: {"kind": "file", "path": str(folder / f"{name}.jsonl")} for name in ("out", "shop-to-kafka")}
    refusing = {
        name: redis | {"stream": f"{redis['stream']}-{name}", "event_bytes_max": event_bytes_max}
        for name in ("letters", "shop-to-redis")
    }
    return rig.write_config(
        folder / "oplog-bridge.yaml",
        source,
        sinks | refusing,
        state=f"sqlite:///{folder / 'state.db'}",
        source_options={"id": "shop", "poll_interval": "10ms"},
        defaults={"on_rejected": "dead_letter", "dead_letter": letters},
    )


def shell(folder: Path, script: str) -> subprocess.CompletedProcess[str]:
    """`oplog-bridge` is the command itself; what names no configuration takes the one of this folder."""
    command = f'oplog-bridge() {{ case "$*" in *" -c "*) {sys.executable} -m oplogbridge "$@";; '
    command += f'*) {sys.executable} -m oplogbridge "$@" -c oplog-bridge.yaml;; esac; }}\nset -ex\n'
    return subprocess.run(
        ["bash", "-c", command + script],
        cwd=folder,
        env=rig.environment(),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize(("document", "number"), NUMBERED)
def test_the_commands_of_the_documents_do_what_they_say(
    document: str, number: int, source: rig.EmulatorProcess, redis_server: RedisServer, tmp_path: Path, unique: str
) -> None:
    redis = {"kind": "redis", "url": redis_server.url, "stream": unique}
    configure(source, tmp_path, redis, event_bytes_max="40KiB")
    done = rig.run_command("run", "--until-caught-up", "--admin", "off", "-c", "oplog-bridge.yaml", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    configure(source, tmp_path, redis, event_bytes_max="512MiB")  # the destination takes more now

    done = shell(tmp_path, BLOCKS[document][number])

    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stderr


def test_the_runbook_has_ten_situations() -> None:
    text = (rig.ROOT / "docs" / "runbook.md").read_text()
    assert len(re.findall(r"^## \d+\. ", text, re.MULTILINE)) == len(BLOCKS["runbook.md"]) == 10
