"""A pipeline on a real destination, run and operated by real commands: for tests of what operators do."""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import rig
from oplogbridge.assembly import reader_of
from oplogbridge.config import from_data, load
from oplogbridge.sink import Delivered
from oplogbridge.values import OFFSET_MAX
from receiver import Post, Receiver

PIPELINE = "shop-out"


class Event(NamedTuple):
    """As it stands at a destination: `id` is its sequence or a place."""

    id: str
    operation: str
    replay: str | None


@contextlib.contextmanager
def receiving() -> Iterator[Receiver]:
    """A webhook receiver in a thread of its own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    receiver = Receiver()
    try:
        asyncio.run_coroutine_threadsafe(receiver.__aenter__(), loop).result(rig.WITHIN_SECONDS)
        try:
            yield receiver
        finally:
            asyncio.run_coroutine_threadsafe(receiver.__aexit__(None, None, None), loop).result(rig.WITHIN_SECONDS)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


class Operated:
    """One pipeline of one kind of sink. `kind` is as in a configuration."""

    def __init__(self, source: rig.EmulatorProcess, folder: Path, sink: dict[str, Any], **pipeline: Any) -> None:
        self.source = source
        self.folder = folder
        self.sink = sink
        self.receiver: Receiver | None = None
        self.config = rig.write_config(
            folder / "bridge.yaml",
            source,
            {PIPELINE: sink},
            state=f"sqlite:///{folder / 'state.db'}",
            source_options={"id": "shop", "poll_interval": "15ms", "page_limit": 100},
            defaults=pipeline,
            name=f"b{folder.name[-20:]}".replace("_", "-").strip("-."),
            lease_ttl="2s",
            admin={"listen": "127.0.0.1:0"},
        )

    def run(self, *arguments: str, code: int = 0) -> str:
        """A command, to its end; what it printed."""
        done = rig.run_command(*arguments, "-c", str(self.config), cwd=self.folder)
        assert done.returncode == code, (arguments, done.stdout, done.stderr)
        return done.stdout + done.stderr

    def deliver(self) -> None:
        self.run("run", "--until-caught-up", "--admin", "off")

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        """A command that goes on, to be killed. It says too little to fill the pipe."""
        return subprocess.Popen(
            [*rig.COMMAND, *arguments, "-c", str(self.config)],
            env=rig.environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=self.folder,
        )

    @contextlib.contextmanager
    def running(self) -> Iterator[rig.BridgeWithAdmin]:
        """`run`, with its admin server."""
        with rig.BridgeWithAdmin(self.config, self.folder / "run.log") as bridge:
            yield bridge

    def events(self, **changes: Any) -> list[Event]:
        """All that stands at the destination, or at one whose keys differ so, in its order."""
        if self.sink["kind"] == "webhook":
            assert self.receiver is not None
            return [event for post in self.receiver.acknowledged for event in _posted(post)]
        return asyncio.run(self._read(changes))

    async def _read(self, changes: dict[str, Any]) -> list[Event]:
        settings = load([self.config], rig.environment()).settings
        if changes:
            data = {
                "name": settings.name,
                "sources": {"shop": {"url": self.source.url, "id": "shop"}},
                "pipelines": {PIPELINE: {"source": "shop", "sink": self.sink | changes}},
            }
            settings = from_data(data).settings
        reader = reader_of(settings, PIPELINE)
        assert reader is not None
        found: list[Event] = []
        try:
            for lane in await reader.open():
                async for page in reader.pages(lane, 0, OFFSET_MAX):
                    found += [_event(one) for one in page]
        finally:
            await reader.close()
        return found


def _event(one: Delivered) -> Event:
    data = json.loads(one.payload or b"{}")
    return Event(data["id"], data["data"]["operation"], data.get("replayid"))


def _posted(post: Post) -> list[Event]:
    data = json.loads(post.body)
    several = data if isinstance(data, list) else [data]
    return [Event(one["id"], one["data"]["operation"], one.get("replayid")) for one in several]
