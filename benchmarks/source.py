"""The source of every measurement: the emulator in a process of its own, its pages prepared, gzip off.

`python benchmarks/source.py --entries 400000` prints the base URL once it answers and serves until its stdin is closed,
so that it never outlives whoever started it. The rest of this file is for that one: what it asks of a running source.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from array import array
from bisect import bisect_right
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import msgspec

from oplogbridge.emulator import Emulator, EmulatorSettings, Switches
from oplogbridge.emulator.page import PreparedPages

PAGE_ENTRIES = 1000
PREPARED_BYTES_MAX = 4 << 30  # all pages: a source that renders while it is measured takes CPU from the bridge


class _Numbered(msgspec.Struct):
    sequence_id: str


class _Page(msgspec.Struct):
    entries: list[_Numbered]


_page = msgspec.json.Decoder(_Page)


@dataclass(frozen=True, slots=True)
class Served:
    """A page with entries, as the source's own record has it: from which sequence on, and when (CLOCK_MONOTONIC)."""

    start: int
    at: float


class Source:
    """A running source, asked over HTTP."""

    def __init__(self, url: str) -> None:
        self.url = url
        parts = urlsplit(url)
        self._control = f"{parts.scheme}://{parts.netloc}/_emulator"

    async def sequences(self) -> array[int]:
        """Every sequence, ascending. Asks as the bridge does, so that afterwards all its pages are prepared."""
        found = array("q")
        start = 0
        async with aiohttp.ClientSession() as session:
            while True:
                body = await self._page(session, {"start": start, "limit": PAGE_ENTRIES, "sequence_ids": "true"})
                entries = _page.decode(body).entries
                if not entries:
                    return found
                found.extend([int(entry.sequence_id) for entry in entries])
                start = found[-1] + 1

    async def prepare_for_peers(self, sequences: array[int]) -> None:
        """The same pages with the number as a number, which is how a peer that reads `/sequence` asks."""
        starts = [0, *(sequence + 1 for sequence in sequences[PAGE_ENTRIES - 1 :: PAGE_ENTRIES])]
        async with aiohttp.ClientSession() as session:
            for start in starts:
                await self._page(session, {"start": start, "limit": PAGE_ENTRIES})

    async def _page(self, session: aiohttp.ClientSession, parameters: dict[str, Any]) -> bytes:
        async with session.get(f"{self.url}/oplog.json", params=parameters) as response:
            response.raise_for_status()
            return await response.read()

    async def forget_requests(self) -> None:
        async with aiohttp.ClientSession() as session, session.delete(f"{self._control}/requests") as response:
            response.raise_for_status()

    async def served(self) -> list[Served]:
        """The polls that brought entries since `forget_requests`, in order."""
        async with aiohttp.ClientSession() as session, session.get(f"{self._control}/requests") as response:
            requests = msgspec.json.decode(await response.read())["requests"]
        polls = [request for request in requests if request["path"].endswith("/oplog.json")]
        return [Served(int(poll["start"] or 0), poll["monotonic"]) for poll in polls if poll["entries"]]


def served_at(polls: list[Served], sequence: int) -> float | None:
    """When the page that first held this sequence was served."""
    index = bisect_right(polls, sequence, key=lambda poll: poll.start)
    return polls[index - 1].at if index else None


async def _serve(arguments: argparse.Namespace) -> None:
    settings = EmulatorSettings(
        entries=arguments.entries,
        entry_bytes=arguments.entry_bytes,
        rate=arguments.rate,
        switches=Switches(gzip=False),
    )
    emulator = Emulator(settings)
    emulator.prepared = PreparedPages(PREPARED_BYTES_MAX if arguments.prepared else 0)
    async with emulator:
        print(emulator.url, flush=True)
        running = asyncio.create_task(emulator.run())
        owner_gone = asyncio.create_task(asyncio.to_thread(sys.stdin.read))
        await asyncio.wait([running, owner_gone], return_when=asyncio.FIRST_COMPLETED)
        running.cancel()


def main() -> None:
    parser = argparse.ArgumentParser(description="The emulator, for benchmarks.")
    parser.add_argument("--entries", type=int, default=0)
    parser.add_argument("--entry-bytes", type=int, default=500)
    parser.add_argument("--rate", type=float, default=0.0, help="writes a second from then on")
    parser.add_argument("--prepared", action="store_true", help="keep every page that was sent")
    asyncio.run(_serve(parser.parse_args()))


if __name__ == "__main__":
    main()
