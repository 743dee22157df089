"""The state-store contract over an SQLite file, and what only a file has: a lock, a disk, rights."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from oplogbridge.state import StateStore
from oplogbridge.state.sqlite import SqliteStateStore
from oplogbridge.testing.clock import ManualClock
from oplogbridge.testing.state_contract import StatePlace, StateStoreContract


class SqlitePlace:
    ttl_seconds = 10.0

    def __init__(self, directory: Path) -> None:
        self.clock = ManualClock()
        self.path = directory / "state.db"
        self.opened: list[SqliteStateStore] = []

    async def store(self) -> StateStore:
        store = SqliteStateStore(self.path, name="oplog-bridge", clock=self.clock)
        await store.open()
        self.opened.append(store)
        return store

    async def let_time_pass(self, seconds: float) -> None:
        self.clock.advance(seconds)

    async def wipe(self) -> None:
        for suffix in ("", "-wal", "-shm"):
            self.path.with_name(self.path.name + suffix).unlink()

    async def claim_format(self, version: int) -> None:
        self.execute(f"PRAGMA user_version = {version}")

    async def put_stored(self, pipeline: str, text: str) -> None:
        self.execute("INSERT OR REPLACE INTO stored VALUES ('oplog-bridge', ?, ?)", pipeline, text)

    def execute(self, statement: str, *values: object) -> None:
        connection = sqlite3.connect(self.path, isolation_level=None)
        connection.execute(statement, values)
        connection.close()

    async def close(self) -> None:
        for store in self.opened:
            await store.close()


@pytest.fixture
async def sqlite_place(tmp_path: Path) -> AsyncIterator[SqlitePlace]:
    place = SqlitePlace(tmp_path)
    yield place
    await place.close()


class TestSqliteStateStore(StateStoreContract):
    @pytest.fixture
    def place(self, sqlite_place: SqlitePlace) -> StatePlace:
        return sqlite_place
