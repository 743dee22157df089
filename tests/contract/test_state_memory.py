"""The state-store contract over the store in memory."""

from __future__ import annotations

import pytest

from oplogbridge.state import StateStore
from oplogbridge.state.memory import Memory, MemoryStateStore
from oplogbridge.state.urls import state_store
from oplogbridge.testing.clock import ManualClock
from oplogbridge.testing.state_contract import StateStoreContract
from oplogbridge.testing.state_place import ALICE, StatePlace


class MemoryPlace:
    ttl_seconds = 10.0

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.memory = Memory()

    async def store(self) -> StateStore:
        store = MemoryStateStore(self.clock, self.memory)
        await store.open()
        return store

    async def let_time_pass(self, seconds: float) -> None:
        self.clock.advance(seconds)

    async def wipe(self) -> None:
        self.memory.wipe()

    async def claim_format(self, version: int) -> None:
        self.memory.format_version = version

    async def put_stored(self, pipeline: str, text: str) -> None:
        self.memory.offsets[pipeline] = text


class TestMemoryStateStore(StateStoreContract):
    @pytest.fixture
    def place(self) -> StatePlace:
        return MemoryPlace()


async def test_each_memory_url_is_a_state_of_its_own() -> None:
    clock = ManualClock()
    one, two = (state_store("memory:", name="oplog-bridge", clock=clock) for _ in range(2))
    await one.open()
    await two.open()
    assert await one.acquire("shop", ALICE, 10.0) is not None
    assert await two.acquire("shop", ALICE, 10.0) is not None
