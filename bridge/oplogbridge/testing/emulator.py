"""The emulator for your own tests: a pytest fixture, and a client of its control interface.

    # conftest.py
    from oplogbridge.testing.emulator import oplog_emulator  # noqa: F401

    def test_my_consumer_survives_an_outage(oplog_emulator):
        oplog_emulator.append([{"operation": "create", "object": {"id": "1", "type": "user", "name": "Zoë"}}])
        oplog_emulator.fault("503", count=2)
        my_consumer.read(oplog_emulator.url)

Calls block, so they serve tests of every kind; the emulator runs in a thread of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
import urllib.parse
import urllib.request
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import pytest

from oplogbridge.emulator import Emulator

WITHIN_SECONDS = 30.0


class EmulatorControl:
    """What `/_emulator/` offers, of an emulator that runs in any process on this machine (docs/emulator.md).

    `url` is the base URL that it printed, ending in `/api/v4/{deployment}`. Every call raises `urllib.error.URLError`
    when nobody answers, and `HTTPError` for what the emulator refuses.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.root, _, rest = url.partition("/api/")
        self.deployment = rest.rpartition("/")[2]

    def append(self, entries: Iterable[Mapping[str, Any]]) -> list[int]:
        """Play these as the log's next entries, as `--load` would; their sequences."""
        return self._sequences("entries", b"\n".join(json.dumps(entry).encode() for entry in entries))

    def written(self, entries: int) -> list[int]:
        """The workload writes so many more; their sequences."""
        return self._sequences(f"workload?entries={entries}", b"")

    def fault(self, kind: str, **fields: Any) -> None:
        """`fault("429", count=3, retry_after_seconds=2)`."""
        self._send("POST", "faults", json.dumps([{"kind": kind, **fields}]).encode())

    def faults_left(self) -> int:
        """How many of those that were ordered may still strike."""
        return len(self._read("faults"))

    def clear_faults(self) -> None:
        self._send("DELETE", "faults", b"")

    def switch(self, **changes: Any) -> None:
        """Another answer where the vendor's documentation is silent: `switch(tail_order="descending")`."""
        self._send("PATCH", "switches", json.dumps(changes).encode())

    def deploy(self, model: Mapping[str, Any]) -> str:
        """Another data model, by which all is shown from now on; its hash."""
        found: str = json.loads(self._send("PUT", "datamodel", json.dumps(model).encode()))["datamodel_hash"]
        return found

    def attach(self, id_: str, content: bytes = b"", *, state: str = "uploaded", filename: str = "attachment") -> None:
        """What becomes of an attachment that was pending."""
        query = urllib.parse.urlencode({"state": state, "filename": filename})
        self._send("PUT", f"attachments/{id_}?{query}", content)

    def requests(self, since: int = 0) -> list[dict[str, Any]]:
        """What it was asked, oldest first; `monotonic` is the moment of arrival."""
        found: list[dict[str, Any]] = self._read(f"requests?since={since}")["requests"]
        return found

    def state(self) -> dict[str, Any]:
        """How many entries, the oldest and newest sequence, the data model's hash, switches."""
        found: dict[str, Any] = self._read("state")
        return found

    def _sequences(self, path: str, body: bytes) -> list[int]:
        return [int(sequence) for sequence in json.loads(self._send("POST", path, body))["sequences"]]

    def _read(self, path: str) -> Any:
        return json.loads(self._send("GET", path, b""))

    def _send(self, method: str, path: str, body: bytes) -> bytes:
        headers = {"Content-Type": "application/json"}
        url = f"{self.root}/_emulator/{path}"
        request = urllib.request.Request(url, body or None, headers, method=method)  # noqa: S310 - ours
        with urllib.request.urlopen(request, timeout=WITHIN_SECONDS) as answer:  # noqa: S310
            content: bytes = answer.read()
        return content


@contextlib.contextmanager
def running_emulator(**settings: Any) -> Iterator[EmulatorControl]:
    """An emulator in a thread, at a free port. `settings` are those of `EmulatorSettings`: `password`, `entries`, …"""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="emulator", daemon=True)
    thread.start()
    emulator = Emulator(**settings)
    try:
        asyncio.run_coroutine_threadsafe(emulator.__aenter__(), loop).result(WITHIN_SECONDS)
        try:
            yield EmulatorControl(emulator.url)
        finally:
            asyncio.run_coroutine_threadsafe(emulator.__aexit__(None, None, None), loop).result(WITHIN_SECONDS)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


@pytest.fixture
def oplog_emulator() -> Iterator[EmulatorControl]:
    """An empty one that lets everybody in."""
    with running_emulator() as control:
        yield control
