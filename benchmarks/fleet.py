"""A thousand sources in one process, each polled once a second and idle: what that costs, beside aiohttp alone."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any

import aiohttp
import yaml
from child import Child, Failed, Meter, child, script

STATES = ("sqlite", "redis")
WARM_SECONDS, MEASURED_SECONDS = 5.0, 30.0
ALL_POLLED_WITHIN_SECONDS = 60.0
PACE_SECONDS_MIN = 0.999  # between two polls of a source, as it sees them: the interval, and its own clock's reading


@dataclass(frozen=True, slots=True)
class Idle:
    """`polls_a_second` and `shortest_seconds` are the sources' own count."""

    name: str
    sources: int
    core_percent: float
    rss_mib: float
    polls_a_second: float
    shortest_seconds: float
    started_seconds: float  # until each source had been polled
    ended_seconds: float | None  # from SIGTERM on

    @property
    def keeps_its_word(self) -> bool:
        return self.polls_a_second > 0.9 * self.sources and self.shortest_seconds >= PACE_SECONDS_MIN


async def measured(directory: Path, sources: int, redis_url: str) -> list[Idle]:
    """One after the other, each beside sources of its own."""
    found = []
    for name in (*STATES, "aiohttp alone"):
        async with child(f"idle-sources-{name}", script("idle_sources.py"), directory) as source:
            url = await source.line()
            command = script("bare_polls.py", url, str(sources))
            if name in STATES:
                state = redis_url if name == "redis" else f"sqlite:///{directory / 'fleet.db'}"
                config = _config(directory, url, sources, state)
                command = [sys.executable, "-m", "oplogbridge", "run", "-c", str(config), "--admin", "off"]
            found.append(await _measured(name, directory, command, url, sources, ends=name in STATES))
    return found


async def _measured(name: str, directory: Path, command: Sequence[str], url: str, sources: int, *, ends: bool) -> Idle:
    begun, ended_seconds = monotonic(), None
    async with child(f"fleet-{name}", command, directory) as process, aiohttp.ClientSession() as session:
        await _all_polled(process, session, url, sources)
        started_seconds = monotonic() - begun
        await asyncio.sleep(WARM_SECONDS)
        meter = Meter(process.pid)
        await _count(session, url)
        before, at = meter.read(), monotonic()
        await asyncio.sleep(MEASURED_SECONDS)
        after, seconds = meter.read(), monotonic() - at
        counted = await _count(session, url)
        if ends:
            told = monotonic()
            process.process.terminate()
            await process.ended_well()
            ended_seconds = monotonic() - told
    return Idle(
        name=name,
        sources=sources,
        core_percent=(after.cpu_seconds - before.cpu_seconds) / seconds * 100,
        rss_mib=after.rss_bytes / 2**20,
        polls_a_second=counted["polls"] / seconds,
        shortest_seconds=counted["shortest_seconds"],
        started_seconds=started_seconds,
        ended_seconds=ended_seconds,
    )


async def _all_polled(process: Child, session: aiohttp.ClientSession, url: str, sources: int) -> None:
    give_up = monotonic() + ALL_POLLED_WITHIN_SECONDS
    while (await _count(session, url))["deployments"] < sources:
        if process.process.returncode is not None:
            raise process.failed("ended early")
        if monotonic() > give_up:
            raise Failed(f"{process.name}: not all of {sources} sources were polled in {ALL_POLLED_WITHIN_SECONDS} s")
        await asyncio.sleep(0.2)


async def _count(session: aiohttp.ClientSession, url: str) -> dict[str, Any]:
    async with session.get(f"{url}/count") as response:
        counted: dict[str, Any] = json.loads(await response.read())
        return counted


def _config(directory: Path, url: str, sources: int, state: str) -> Path:
    """The cheapest of sinks: what is measured is that nothing happens."""
    names = [f"source-{number}" for number in range(sources)]
    settings = {
        "name": "fleet",
        "state": state,
        "log": {"level": "warning"},
        "sources": {name: {"url": f"{url}/api/v4/{number:024x}"} for number, name in enumerate(names)},
        "pipelines": {name: {"source": name, "sink": {"kind": "stdout"}} for name in names},
    }
    path = directory / "fleet.yaml"
    path.write_text(yaml.safe_dump(settings))
    return path
