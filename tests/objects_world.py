"""A world whose source is the emulator's own backend, in this process and in manual time: its log, and its objects."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import orjson

from oplogbridge.emulator import objects_api
from oplogbridge.emulator.backend import Backend
from oplogbridge.emulator.datamodel import DataModel, datamodel_of
from oplogbridge.emulator.page import Query, read_answer, render
from oplogbridge.emulator.parameters import listing_of_expression
from oplogbridge.source.answers import Answer
from oplogbridge.source.decode import PageDecoder
from oplogbridge.testing.clock import ManualClock
from oplogbridge.values import OFFSET_MAX, Page
from world import PipelineChoice, World

MODELS = ("asset", "task", "user")
MODEL: DataModel = datamodel_of({"models": {name: {"fields": {"name": "text"}} for name in MODELS}})


class ObjectsWorld(World):
    def __init__(self, *pipelines: PipelineChoice, seed: int, **options: Any) -> None:
        clock = ManualClock()
        self.random = random.Random(seed)
        self.backend = Backend(clock=clock, data="memory")
        self.backend.deploy(MODEL)
        self.asked: list[float] = []  # when
        self.objects_max = 1000  # in one answer
        super().__init__(*pipelines, clock=clock, make_client=lambda: BackendClient(self), **options)

    def write(self, count: int = 1) -> None:
        """Random creates, changes and deletes, each in the log."""
        objects, choose = self.backend.objects, self.random
        for _ in range(count):
            model = MODEL.models[choose.choice(MODELS)]
            known = [kept.id for kept in objects.all(model)]
            what = choose.random()
            with objects.writing():
                if not known or what < 0.4:
                    id_ = f"{choose.getrandbits(32):08x}-0000-4000-8000-000000000000"
                    if objects.find(model.name, id_) is None:
                        objects.create(model, {"name": f"new {choose.random()}"}, id_)
                elif what < 0.75:
                    objects.change(model, choose.choice(known), {"name": f"changed {choose.random()}"})
                else:
                    objects.delete(model, choose.choice(known))

    @property
    def there(self) -> dict[tuple[str, str], Any]:
        """Every object that exists, as the oplog shows it."""
        objects = self.backend.objects
        return {
            (name, kept.id): orjson.loads(orjson.dumps(objects.shown(kept)))
            for name in MODELS
            for kept in objects.all(MODEL.models[name])
        }

    def consumed(self, letters: str = "") -> dict[tuple[str, str], Any]:
        """What a consumer has who takes the destination's events in their order, and knows of nothing else."""
        have: dict[tuple[str, str], Any] = {}
        for event in self.at(letters=letters).log:
            data = orjson.loads(event.payload)["data"]
            object_ = data["object"]
            key = object_["type"], object_["id"]
            if data["operation"] == "delete":
                have.pop(key, None)
            else:
                object_.pop("display", None)  # which a list has besides
                have[key] = object_
        return have


class BackendClient:
    def __init__(self, world: ObjectsWorld) -> None:
        self._world = world
        self._decoder = PageDecoder()

    async def poll(self, offset: int) -> Page:
        return await self._polled(Query(offset, OFFSET_MAX, self._world.source.page_limit, False, True), offset)

    async def poll_tail(self) -> Page:
        return await self._polled(Query(0, OFFSET_MAX, 400, True, True), 0)

    async def ask(self, path: str, parameters: Any = None, *, body: Any = None, etag: str | None = None) -> Answer:
        world = self._world
        world.asked.append(world.clock.monotonic())
        await asyncio.sleep(0)
        backend = world.backend
        if path == "datamodel.json":
            shown: Any = {**backend.objects.datamodel.shown(), "datamodel_hash": backend.datamodel_hash}
            return Answer(200, orjson.dumps(shown), None, None)
        model = MODEL.models[path.removeprefix("objects/").removesuffix("/query.json")]
        body = body | {"limit": min(body["limit"], world.objects_max)}
        listed = objects_api._listed(backend, model, listing_of_expression(model, body))
        await asyncio.sleep(0)
        assert isinstance(listed.body, bytes)
        return Answer(200, listed.body, None, None)

    async def close(self) -> None: ...

    async def _polled(self, query: Query, offset: int) -> Page:
        world = self._world
        world.asked.append(world.clock.monotonic())
        await asyncio.sleep(0)
        switches = world.backend.switches
        answer = read_answer(world.backend.log, query, switches)
        body = render(answer, query, switches, world.backend.datamodel_hash, world.backend.objects.datamodel)
        return self._decoder.decode(body, offset)
