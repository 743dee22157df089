"""The state-store contract over an SQLite file, and what only a file has: a lock, a disk, rights."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from oplogbridge.errors import Fenced, Misconfigured, Unavailable
from oplogbridge.state.sqlite import SqliteStateStore
from oplogbridge.state.sqlite_file import SqliteFile, translated
from oplogbridge.testing.clock import ManualClock
from oplogbridge.testing.state_contract import StateStoreContract
from oplogbridge.testing.state_place import ALICE, BOB, StatePlace, acquired, audit_record, stored


class SqlitePlace:
    ttl_seconds = 10.0

    def __init__(self, directory: Path) -> None:
        self.clock = ManualClock()
        self.path = directory / "state.db"
        self.opened: list[SqliteStateStore] = []

    async def store(self) -> SqliteStateStore:
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


# --- the file lock --------------------------------------------------------------------------------------------------
# In these tests a store that is closed without a release is a process that died: its lock is gone, its row is not.


async def test_the_lease_of_a_dead_process_is_taken_at_once(sqlite_place: SqlitePlace) -> None:
    one, two = await sqlite_place.store(), await sqlite_place.store()
    await acquired(one, "shop", ALICE)
    await one.close()
    assert await two.holder("shop") is None
    assert await two.acquire("shop", BOB, 10.0) is not None


async def test_a_stopped_process_keeps_its_lock_and_loses_its_lease_all_the_same(sqlite_place: SqlitePlace) -> None:
    stopped, successor, third = [await sqlite_place.store() for _ in range(3)]
    await acquired(stopped, "shop", ALICE, 10.0)
    sqlite_place.clock.advance(10.0)
    new = await acquired(successor, "shop", BOB, 10.0)
    assert await third.acquire("shop", ALICE, 10.0) is None

    # The stopped process dies, and its lock is free; but it is not the lock of the successor, who lives.
    await stopped.close()
    assert await third.acquire("shop", ALICE, 10.0) is None
    assert await third.holder("shop") == BOB

    # With its next renewal the successor has the lock, so its own death is noticed at once again.
    await successor.renew("shop", new, 10.0)
    await successor.close()
    assert await third.acquire("shop", ALICE, 10.0) is not None


@pytest.mark.parametrize("notices_by", ["renew", "load", "save", "acquire", "release"])
async def test_a_process_that_lost_its_lease_lets_go_of_the_lock(sqlite_place: SqlitePlace, notices_by: str) -> None:
    woken, successor, third = [await sqlite_place.store() for _ in range(3)]
    old = await acquired(woken, "shop", ALICE, 10.0)
    sqlite_place.clock.advance(10.0)
    new = await acquired(successor, "shop", BOB, 10.0)
    match notices_by:
        case "renew":
            with pytest.raises(Fenced):
                await woken.renew("shop", old, 10.0)
        case "load":
            with pytest.raises(Fenced):
                await woken.load("shop", old, "p")
        case "save":
            with pytest.raises(Fenced):
                await woken.save("shop", old, "p", stored(5), replacing=None)
        case "acquire":
            assert await woken.acquire("shop", ALICE, 10.0) is None
        case "release":
            await woken.release("shop", old)
    await successor.renew("shop", new, 10.0)
    await successor.close()
    assert await third.acquire("shop", ALICE, 10.0) is not None, "the successor had the lock, and died"


async def test_an_old_token_takes_nothing_from_the_newer_lease_of_the_same_store(sqlite_place: SqlitePlace) -> None:
    store, other = await sqlite_place.store(), await sqlite_place.store()
    old = await acquired(store, "shop", ALICE)
    await store.release("shop", old)
    new = await acquired(store, "shop", ALICE)
    with pytest.raises(Fenced):
        await store.save("shop", old, "p", stored(5), replacing=None)
    await store.release("shop", old)
    await store.renew("shop", new, 10.0)
    assert await other.acquire("shop", BOB, 10.0) is None


async def test_source_names_that_are_no_file_names_have_locks_too(sqlite_place: SqlitePlace) -> None:
    one, two = await sqlite_place.store(), await sqlite_place.store()
    sources = ["../escape/é", ".", "ü" * 200, "ü" * 201]
    for source in sources:
        await acquired(one, source, ALICE)
    await one.close()
    for source in sources:
        assert await two.acquire(source, BOB, 10.0) is not None
    beside = {path.parent for path in sqlite_place.path.parent.rglob("*.lock")}
    assert beside == {sqlite_place.path.parent}


# --- clocks ---------------------------------------------------------------------------------------------------------


async def test_a_lease_of_another_boot_is_free_when_its_lock_is(sqlite_place: SqlitePlace) -> None:
    """A reboot frees the lock; where it is held all the same, another machine shares the file, and its holder lives."""
    one, two = await sqlite_place.store(), await sqlite_place.store()
    token = await acquired(one, "shop", ALICE)
    sqlite_place.execute("UPDATE lease SET boot_id = 'another boot'")
    assert await two.acquire("shop", BOB, 10.0) is None
    with pytest.raises(Fenced):
        await one.renew("shop", token, 10.0)
    assert await two.acquire("shop", BOB, 10.0) is not None


async def test_a_lease_of_another_boot_without_a_lock_is_free(sqlite_place: SqlitePlace) -> None:
    one, two = await sqlite_place.store(), await sqlite_place.store()
    await acquired(one, "shop", ALICE)
    sqlite_place.execute("UPDATE lease SET boot_id = 'another boot', locked = 0")
    assert await two.holder("shop") is None
    assert await two.acquire("shop", BOB, 10.0) is not None


async def test_a_lease_further_in_the_future_than_its_ttl_is_of_a_clock_that_began_again(
    sqlite_place: SqlitePlace,
) -> None:
    one, two = await sqlite_place.store(), await sqlite_place.store()
    await acquired(one, "shop", ALICE, 10.0)
    sqlite_place.execute("UPDATE lease SET expires_at = expires_at + 1000000")
    assert await two.acquire("shop", BOB, 10.0) is not None


# --- the file -------------------------------------------------------------------------------------------------------


async def test_two_names_share_a_file_without_seeing_each_other(sqlite_place: SqlitePlace) -> None:
    ours = await sqlite_place.store()
    theirs = SqliteStateStore(sqlite_place.path, name="other", clock=sqlite_place.clock)
    await theirs.open()
    token = await acquired(ours, "shop", ALICE)
    their_token = await acquired(theirs, "shop", BOB)
    await ours.save("shop", token, "p", stored(5), replacing=None)
    await ours.record(audit_record(1))
    assert await theirs.load("shop", their_token, "p") is None
    assert await theirs.audit(10) == []
    with pytest.raises(Fenced):
        await theirs.load("shop", token, "p")
    await theirs.close()


async def test_a_file_that_another_process_locks_is_unavailable_and_the_loop_runs_on(tmp_path: Path) -> None:
    store = SqliteStateStore(tmp_path / "state.db", name="oplog-bridge", clock=ManualClock(), deadline_seconds=0.3)
    await store.open()
    token = await acquired(store, "shop", ALICE)
    other = sqlite3.connect(tmp_path / "state.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    renewal = asyncio.create_task(store.renew("shop", token, 10.0))
    turns = 0
    while not renewal.done():
        await asyncio.sleep(0)
        turns += 1
    with pytest.raises(Unavailable, match="locked by another process"):
        await renewal
    assert turns > 10
    other.execute("ROLLBACK")
    other.close()
    await store.renew("shop", token, 10.0)
    await store.close()


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"sequence,offset\n" * 100, "not a SQLite database"), (None, "another program's")],
)
async def test_a_file_that_is_not_ours_is_refused_and_left_as_it_is(
    tmp_path: Path, content: bytes | None, message: str
) -> None:
    path = tmp_path / "state.db"
    if content is None:
        other = sqlite3.connect(path)
        other.execute("CREATE TABLE customers (id)")
        other.close()
    else:
        path.write_bytes(content)
    before = path.read_bytes()
    store = SqliteStateStore(path, name="oplog-bridge", clock=ManualClock())
    with pytest.raises(Misconfigured, match=message):
        await store.open()
    await store.close()
    assert path.read_bytes() == before


async def test_a_directory_that_does_not_exist_is_misconfigured(tmp_path: Path) -> None:
    store = SqliteStateStore(tmp_path / "nowhere" / "state.db", name="oplog-bridge", clock=ManualClock())
    with pytest.raises(Misconfigured, match="directory must exist"):
        await store.open()


def test_a_full_disk_is_unavailable(tmp_path: Path) -> None:
    small = sqlite3.connect(tmp_path / "small.db")
    small.execute("PRAGMA max_page_count = 2")
    with pytest.raises(sqlite3.Error) as full:
        small.executescript("CREATE TABLE a (x); CREATE TABLE b (x); CREATE TABLE c (x)")
    small.close()
    error = translated(full.value, Path("state.db"))
    assert isinstance(error, Unavailable)
    assert "make room" in str(error)


def test_a_file_that_may_not_be_written_is_misconfigured(tmp_path: Path) -> None:
    sqlite3.connect(tmp_path / "state.db").close()
    readable = sqlite3.connect(f"file:{tmp_path / 'state.db'}?mode=ro", uri=True)
    with pytest.raises(sqlite3.Error) as denied:
        readable.execute("CREATE TABLE a (x)")
    readable.close()
    error = translated(denied.value, Path("state.db"))
    assert isinstance(error, Misconfigured)
    assert "right to write" in str(error)


def test_every_commit_is_synced(tmp_path: Path) -> None:
    """An offset must not come back older than it was acknowledged, a power cut included."""
    file = SqliteFile(tmp_path / "state.db", busy_seconds=1.0)
    with file.transaction() as sql:
        assert sql.execute("PRAGMA synchronous").fetchone() == (2,), "FULL"
        assert sql.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    file.close()
