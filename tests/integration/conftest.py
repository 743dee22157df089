"""The destinations that keep a position, each as an empty `place`, and worlds over it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from places import FilePlace, KafkaPlace, Place, RedisPlace
from sink_worlds import MakeWorld, SinkWorld
from world import PipelineChoice

_DEFAULTS = PipelineChoice()


@pytest.fixture(params=["file", "redis", "kafka"])
def place(request: pytest.FixtureRequest, tmp_path: Path, unique: str) -> Place:
    if request.param == "file":
        return FilePlace(unique, tmp_path)
    if request.param == "redis":
        return RedisPlace(unique, request.getfixturevalue("redis_server"))
    return KafkaPlace(unique, request.getfixturevalue("kafka_server"))


@pytest.fixture
async def make_world(place: Place) -> AsyncIterator[MakeWorld]:
    async with AsyncExitStack() as worlds:

        async def make(choice: PipelineChoice = _DEFAULTS, **changes: Any) -> SinkWorld:
            return await worlds.enter_async_context(SinkWorld(place, choice, **changes))

        yield make
