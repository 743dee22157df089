"""The floor of an idle fleet: aiohttp alone asks every source once a second, and does nothing with the answers.

`python benchmarks/bare_polls.py URL SOURCES` runs until it is ended.
"""

from __future__ import annotations

import asyncio
import random
import sys

import aiohttp
import yarl


async def _poll(session: aiohttp.ClientSession, url: yarl.URL) -> None:
    await asyncio.sleep(random.random())
    while True:
        async with session.get(url) as response:
            await response.read()
        await asyncio.sleep(1.0)


async def _run(root: str, sources: int) -> None:
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector) as session, asyncio.TaskGroup() as tasks:
        for number in range(sources):
            url = yarl.URL(f"{root}/api/v4/{number:024x}/oplog.json?start=0&limit=1000&sequence_ids=true")
            tasks.create_task(_poll(session, url))


if __name__ == "__main__":
    asyncio.run(_run(sys.argv[1], int(sys.argv[2])))
