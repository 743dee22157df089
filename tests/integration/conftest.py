"""The destinations that keep a position, each as an empty `place`, and worlds over it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from places import FilePlace, KafkaPlace, NatsPlace, Place, RedisPlace
from sink_worlds import MakeWorld, SinkWorld
from world import PipelineChoice

_DEFAULTS = PipelineChoice()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A destination in which an offset lives only with an event is not in the tests that need more of it."""
    if "place" in metafunc.fixturenames:
        needs_more = metafunc.definition.get_closest_marker("needs_bare_offset") is not None
        kinds = ["file", "redis", "kafka"] if needs_more else ["file", "redis", "kafka", "nats"]
        metafunc.parametrize("place", kinds, indirect=True)


@pytest.fixture
def place(request: pytest.FixtureRequest, tmp_path: Path, unique: str) -> Place:
    if request.param == "file":
        return FilePlace(unique, tmp_path)
    if request.param == "redis":
        return RedisPlace(unique, request.getfixturevalue("redis_server"))
    if request.param == "nats":
        return NatsPlace(unique, request.getfixturevalue("nats_server"))
    return KafkaPlace(unique, request.getfixturevalue("kafka_server"))


@pytest.fixture
async def make_world(place: Place) -> AsyncIterator[MakeWorld]:
    async with AsyncExitStack() as worlds:

        async def make(choice: PipelineChoice = _DEFAULTS, **changes: Any) -> SinkWorld:
            return await worlds.enter_async_context(SinkWorld(place, choice, **changes))

        yield make
