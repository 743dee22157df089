"""The reference sink keeps the contract, with a position and without."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import ClassVar, Literal

import pytest

from oplogbridge.testing import MemoryDestination, MemorySettings, ReadBack, SinkContract, SinkRig, make_event
from oplogbridge.testing.memory import plugin

NAME = "contract"
EVENT_BYTES_MAX = 100_000


class MemoryRig(SinkRig):
    plugin = plugin
    rejected_bytes = EVENT_BYTES_MAX + 1

    def __init__(self, settings: MemorySettings) -> None:
        MemoryDestination.forget(NAME)
        self.settings = settings
        self.at = MemoryDestination.named(NAME)

    async def read_back(self) -> list[ReadBack]:
        return [ReadBack(event.payload, event.key, event.type, event.headers) for event in self.at.log]

    async def write_foreign(self) -> None:
        self.at.write_foreign(make_event(1))

    async def lose_writes(self) -> None:
        self.at.lose_writes(1)

    @asynccontextmanager
    async def down(self) -> AsyncIterator[None]:
        self.at.down()
        yield
        self.at.up()

    @asynccontextmanager
    async def cut(self, where: Literal["request", "reply"]) -> AsyncIterator[None]:
        if where == "request":
            self.at.refuse(1)
        else:
            self.at.lose_replies(1)
        yield


class TestMemorySink(SinkContract):
    waived: ClassVar = {"test_the_position_survives_the_destination_being_killed": "it lives and dies with the process"}

    @pytest.fixture(params=["goes back", "only forward"])
    def rig(self, request: pytest.FixtureRequest) -> MemoryRig:
        return MemoryRig(
            MemorySettings(name=NAME, event_bytes_max=EVENT_BYTES_MAX, goes_back=request.param == "goes back")
        )


class TestMemorySinkWithoutPosition(SinkContract):
    lacks: ClassVar = {"position", "bare offset", "lock", "expectation"}

    @pytest.fixture
    def rig(self) -> MemoryRig:
        return MemoryRig(MemorySettings(name=NAME, event_bytes_max=EVENT_BYTES_MAX, holds_position=False))
