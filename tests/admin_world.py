"""A bridge over a `World` with its admin server listening, and how to ask it.

async with running() as admin:             # it has delivered three entries
    answer = await admin.ask("/readyz")
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import aiohttp

from oplogbridge.admin.server import AdminServer
from oplogbridge.bridge import Bridge
from oplogbridge.spec import SourceSpec
from oplogbridge.state.memory import MemoryStateStore
from world import SOURCE, Instance, PipelineChoice, World


class Answer(NamedTuple):
    status: int
    headers: Any
    text: str
    json: Any


class Admin:
    """A bridge over a `World`, and its admin server."""

    def __init__(self, world: World, *, loopback: bool = True, token: str | None = None) -> None:
        self.world = world
        self.inside = Instance(world, "bridge")
        store = MemoryStateStore(world.clock, world.memory)
        source = SourceSpec(
            name=SOURCE,
            source_id=world.source_id,
            poll_interval_seconds=1.0,
            settle_seconds=0.0,
            make_client=lambda _check: self.inside._client(),
            pipelines=[self.inside._spec(choice) for choice in world.pipelines],
        )
        self.bridge = Bridge(
            [source],
            store=store,
            clock=world.clock,
            jitter=world.jitter,
            lease_ttl_seconds=10.0,
            shutdown_timeout_seconds=5.0,
            instance="bridge-1",
        )
        self.server = AdminServer(
            self.bridge, host="127.0.0.1", port=0, loopback=loopback, token=token, clock=world.clock
        )
        self.url = ""

    @property
    def pipeline(self) -> Any:
        return self.bridge.status.pipelines[self.world.pipelines[0].name]

    async def ask(self, path: str, method: str = "GET", **more: Any) -> Answer:
        async with aiohttp.ClientSession() as session, session.request(method, self.url + path, **more) as response:
            is_json = response.content_type == "application/json"
            text = await response.text()
            return Answer(response.status, response.headers, text, await response.json() if is_json else None)

    async def set_offset(self, offset: object, **more: Any) -> Answer:
        name = self.world.pipelines[0].name
        return await self.ask(f"/api/pipelines/{name}/offset", "PUT", json={"offset": offset}, **more)

    async def meanwhile(self, asking: Coroutine[Any, Any, Answer]) -> Answer:
        """Ask for what takes time."""
        task = asyncio.create_task(asking)
        async with asyncio.timeout(20):
            while not task.done():
                await self.world.run(0.1)
        return task.result()

    async def stopped(self) -> None:
        """Make the pipeline stop: its destination's position is gone."""
        self.world.at().lose_position()
        await self.world.until(lambda: self.pipeline.state == "stopped")


@asynccontextmanager
async def running(*pipelines: PipelineChoice, entries: int = 3, **changes: Any) -> AsyncIterator[Admin]:
    async with World(*pipelines) as world:
        world.source.append(entries)
        admin = Admin(world, **changes)
        admin.url = await admin.server.start()
        task = asyncio.create_task(admin.bridge.run(admin_url=admin.url))
        try:
            await world.until(lambda: admin.pipeline.offset == entries + 1)
            yield admin
        finally:
            admin.bridge.stop()
            await task
            await admin.server.close()
