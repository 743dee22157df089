"""Real processes for fault and end-to-end tests: the emulator and the bridge, each started by its command.

Nothing sleeps: waits are for exit, for a line of output, for an answer of the admin server or of the emulator.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, Self

import yaml

from oplogbridge.testing.emulator import EmulatorControl
from planted import PASSWORD

COMMAND = [sys.executable, "-m", "oplogbridge"]
ROOT = Path(__file__).parent.parent
WITHIN_SECONDS = 60.0
ANSWER_SECONDS = 0.1
EARLY_SECONDS = 0.002  # a poll may seem so much early: the emulator's own loop


def environment(**extra: str) -> dict[str, str]:
    """The test's own environment, with the project importable even where it is not installed."""
    path = os.pathsep.join([str(ROOT / "bridge"), str(ROOT / "sinks"), os.environ.get("PYTHONPATH", "")])
    return os.environ | {"PYTHONPATH": path, "PYTHONUNBUFFERED": "1"} | extra


def run_command(*arguments: str, cwd: Path | None = None, **extra: str) -> subprocess.CompletedProcess[str]:
    """`oplog-bridge ARGUMENTS`, to its end."""
    return subprocess.run(
        [*COMMAND, *arguments],
        cwd=cwd,
        env=environment(**extra),
        capture_output=True,
        text=True,
        timeout=WITHIN_SECONDS,
    )


class EmulatorProcess(EmulatorControl):
    """`oplog-bridge emulator`, and what it knows: its log and the requests that it saw."""

    def __init__(self, *options: str) -> None:
        self.process = subprocess.Popen(
            [*COMMAND, "emulator", "--listen", "127.0.0.1:0", "--password", PASSWORD, *options],
            env=environment(),
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line.startswith("v4 "), f"the emulator did not start: {line!r}"
        super().__init__(line.split()[1])

    @property
    def authorization(self) -> str:
        return "Basic " + base64.b64encode(f"{self.deployment}:{PASSWORD}".encode()).decode()

    def entries(self) -> list[dict[str, Any]]:
        """The whole log, read page by page by a client of its own."""
        entries: list[dict[str, Any]] = []
        start = 0
        while True:
            page = self._get(f"{self.url}/oplog.json?start={start}&limit=1000&sequence_ids=true")
            if not page["entries"]:
                return entries
            entries += page["entries"]
            start = int(page["entries"][-1]["sequence_id"]) + 1

    def entries_v1(self) -> list[dict[str, Any]]:
        """The same as v1 tells it, in the shape of v4."""
        entries: list[dict[str, Any]] = []
        start = 0
        while page := self._get(f"{self.root}/api/v1/_oplog.json?start={start}&limit=1000"):
            for one in page:
                object_ = {"id": one["id"], "type": one["type"], "updated_at": one["timestamp"], **one["data"]}
                told = {"sequence_id": str(one["sequence"]), "operation": one["operation"], "object": object_}
                entries.append(told)
            start = page[-1]["sequence"] + 1
        return entries

    def polls(self) -> list[dict[str, Any]]:
        """What the emulator saw of the bridge, oldest first; `monotonic` is the moment of arrival."""
        return [request for request in self.requests() if "oplog.json" in request["path"]]

    def write(self, entries: int) -> int:
        """The workload writes so many more; the last one's sequence."""
        return self.written(entries)[-1]

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(WITHIN_SECONDS)
        if self.process.stdout is not None:
            self.process.stdout.close()

    def _get(self, url: str) -> Any:
        request = urllib.request.Request(url)
        request.add_header("Authorization", self.authorization)
        with urllib.request.urlopen(request, timeout=WITHIN_SECONDS) as answer:
            return json.load(answer)


class BridgeProcess:
    """`oplog-bridge run` on one configuration; started, killed, stopped and continued as often as a test wants."""

    admin_options: tuple[str, ...] = ("--admin", "off")

    def __init__(self, config: Path, log: Path, *options: str) -> None:
        self._arguments = [*COMMAND, "run", "-c", str(config), *self.admin_options, *options]
        self.log = log
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self._arguments, env=environment(), stdout=log, stderr=log, cwd=self.log.parent
            )

    def exited(self, within_seconds: float) -> int | None:
        """The exit code, or None when it still runs after that time."""
        assert self.process is not None, "started first"
        try:
            return self.process.wait(within_seconds)
        except subprocess.TimeoutExpired:
            return None

    def signal(self, number: signal.Signals) -> None:
        assert self.process is not None, "started first"
        self.process.send_signal(number)

    def kill(self) -> None:
        self.signal(signal.SIGKILL)
        assert self.process is not None
        self.process.wait(WITHIN_SECONDS)

    def logged(self, text: str, within_seconds: float = WITHIN_SECONDS) -> None:
        """Wait until `text` stands in the log."""
        self.until(lambda: text in self.log.read_text(errors="replace"), f"{text!r} in the log", within_seconds)

    def until(self, holds: Callable[[], bool], what: str, within_seconds: float = WITHIN_SECONDS) -> None:
        """Wait for a condition, and for the process's early end at the same time."""
        for _ in range(int(within_seconds / ANSWER_SECONDS)):
            if holds():
                return
            code = self.exited(ANSWER_SECONDS)
            if code is not None and not holds():
                raise AssertionError(f"the bridge ended with {code} before {what}:\n{self.tail()}")
        raise AssertionError(f"not within {within_seconds} s: {what}\n{self.tail()}")

    def tail(self) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-15:])

    def close(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.kill()


class BridgeWithAdmin(BridgeProcess):
    """With the admin server of its configuration (port 0: any); its address is in the log."""

    admin_options = ()

    @property
    def admin_url(self) -> str:
        self.logged("admin server listens")
        lines = [json.loads(line) for line in self.log.read_text().splitlines() if "admin server listens" in line]
        url: str = lines[-1]["url"]
        return url

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@contextlib.contextmanager
def emulator(*options: str) -> Iterator[EmulatorProcess]:
    process = EmulatorProcess(*options)
    try:
        yield process
    finally:
        process.stop()


@contextlib.contextmanager
def bridge(config: Path, log: Path, *options: str) -> Iterator[BridgeProcess]:
    process = BridgeProcess(config, log, *options)
    try:
        yield process
    finally:
        process.close()


def write_config(
    path: Path,
    source: EmulatorProcess,
    sinks: dict[str, dict[str, Any]],
    *,
    state: str,
    source_options: dict[str, Any] | None = None,
    defaults: dict[str, Any] | None = None,
    **top: Any,
) -> Path:
    """A configuration with one pipeline for each sink, all reading the one source `shop`."""
    settings = {
        "state": state,
        "sources": {
            "shop": {
                "url": source.url,
                "auth": {"username": source.deployment, "password": PASSWORD},
                "poll_interval": "20ms",
                **(source_options or {}),
            }
        },
        "pipelines": {name: {"source": "shop", "sink": sink} for name, sink in sinks.items()},
        "defaults": defaults or {},
        **top,
    }
    path.write_text(yaml.safe_dump(settings))
    return path


def early_polls(polls: list[dict[str, Any]], interval_seconds: float) -> list[float]:
    """The seconds between two polls wherever they are fewer than the interval, by the source's own log."""
    gaps = [later["monotonic"] - earlier["monotonic"] for earlier, later in pairwise(polls)]
    return [gap for gap in gaps if gap < interval_seconds - EARLY_SECONDS]


def get_text(url: str) -> str:
    with urllib.request.urlopen(url, timeout=WITHIN_SECONDS) as answer:
        text: str = answer.read().decode()
        return text


def get_json(url: str) -> Any:
    return json.loads(get_text(url))


def seeded(name: str) -> random.Random:
    """Random moments that can be repeated: the seed is printed, and taken from OPLOG_TEST_SEED when that is set."""
    seed = int(os.environ.get("OPLOG_TEST_SEED", "0")) or random.SystemRandom().randrange(1, 2**32)
    print(f"{name}: repeat with OPLOG_TEST_SEED={seed}")
    return random.Random(seed)
