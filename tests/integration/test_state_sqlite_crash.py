"""SQLite's lease between real processes: killed, stopped, woken, many at once."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from oplogbridge.clock import SystemClock
from oplogbridge.errors import Unavailable
from oplogbridge.state import sqlite_file
from oplogbridge.state.sqlite import SqliteStateStore
from oplogbridge.testing.state_place import BOB, acquired, stored

_LONG_SECONDS = 3600.0
_SHORT_SECONDS = 0.5
_PATIENCE_SECONDS = 20.0

_HOLDER = """
import asyncio, sys
from pathlib import Path
from oplogbridge.clock import SystemClock
from oplogbridge.errors import BridgeError
from oplogbridge.state.sqlite import SqliteStateStore
from oplogbridge.testing.state_place import ALICE, stored

async def main() -> None:
    store = SqliteStateStore(Path(sys.argv[1]), name="oplog-bridge", clock=SystemClock())
    await store.open()
    token = await store.acquire("shop", ALICE, float(sys.argv[2]))
    await store.save("shop", token, "p", stored(1), replacing=None)
    print(token, flush=True)
    offset = 1
    for _ in sys.stdin:  # a line: save once more
        try:
            await store.save("shop", token, "p", stored(offset + 1), replacing=stored(offset))
            offset += 1
            print(offset, flush=True)
        except BridgeError as error:
            print(type(error).__name__, flush=True)

asyncio.run(main())
"""


class HolderProcess:
    """A process that took the lease of `shop` and saved offset 1."""

    def __init__(self, path: Path, ttl_seconds: float) -> None:
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
        command = [sys.executable, "-c", _HOLDER, str(path), str(ttl_seconds)]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=environment)
        self.token = self.answer()

    def save(self) -> str:
        self.ask_for_saves(1)
        return self.answer()

    def ask_for_saves(self, count: int) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write("save\n" * count)
        self._process.stdin.flush()

    def answer(self) -> str:
        """Of one save: the offset that was saved, or the name of the error."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline().strip()
        assert line, "the holder died"
        return line

    def stop(self) -> None:
        self._process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, self._process.pid, os.WSTOPPED | os.WNOWAIT)

    def wake(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def close(self) -> None:
        self.kill()
        for stream in (self._process.stdin, self._process.stdout):
            assert stream is not None
            stream.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state.db"


@pytest.fixture
def processes() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def holding(processes: ExitStack, path: Path, ttl_seconds: float) -> HolderProcess:
    process = HolderProcess(path, ttl_seconds)
    processes.callback(process.close)
    return process


async def opened(path: Path) -> SqliteStateStore:
    store = SqliteStateStore(path, name="oplog-bridge", clock=SystemClock())
    await store.open()
    return store


async def test_the_lease_of_a_killed_process_is_taken_at_once(processes: ExitStack, path: Path) -> None:
    holder = holding(processes, path, _LONG_SECONDS)
    store = await opened(path)
    assert await store.acquire("shop", BOB, _LONG_SECONDS) is None
    assert holder.save() == "2"

    holder.kill()

    token = await acquired(store, "shop", BOB)
    assert await store.load("shop", token, "p") == stored(2)
    await store.close()


async def test_the_lease_of_a_stopped_process_runs_out_and_its_save_is_fenced_when_it_wakes(
    processes: ExitStack, path: Path
) -> None:
    holder = holding(processes, path, _SHORT_SECONDS)
    store, third = await opened(path), await opened(path)
    holder.stop()

    async with asyncio.timeout(_PATIENCE_SECONDS):
        token = None
        while token is None:
            token = await store.acquire("shop", BOB, _LONG_SECONDS)
    await store.save("shop", token, "p", stored(7), replacing=stored(1))
    holder.wake()

    assert holder.save() == "Fenced"
    assert await store.load("shop", token, "p") == stored(7)
    # The woken process let go of the file lock, so the successor has it from its next renewal on.
    await store.renew("shop", token, _LONG_SECONDS)
    assert await third.acquire("shop", BOB, _LONG_SECONDS) is None
    await store.close()
    assert await third.acquire("shop", BOB, _LONG_SECONDS) is not None
    await third.close()


async def test_a_process_killed_while_it_saves_leaves_a_whole_offset(processes: ExitStack, path: Path) -> None:
    store = await opened(path)
    for _ in range(5):
        holder = holding(processes, path, _LONG_SECONDS)
        acknowledged = 1
        holder.ask_for_saves(400)
        while acknowledged < 20:
            acknowledged = int(holder.answer())
        holder.kill()

        found = await store.peek("p")
        assert found is not None
        assert found.offset >= acknowledged
        assert found == stored(found.offset)
        token = await acquired(store, "shop", BOB)
        await store.release("shop", token)
        await store.close()
        for file in path.parent.glob("state.db*"):
            file.unlink()
        await store.open()
    await store.close()


def test_a_file_that_another_process_creates_between_two_looks_is_not_a_strangers(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seen once in a run of the whole suite: its id was read before that was written, its tables after."""
    look, others = sqlite_file._pragma, [sqlite_file.SqliteFile(path, busy_seconds=5.0)]

    def looked(connection: sqlite3.Connection, name: str) -> int:
        found = look(connection, name)
        if others:
            other = others.pop()
            other.open()
            other.close()
        return found

    monkeypatch.setattr(sqlite_file, "_pragma", looked)
    file = sqlite_file.SqliteFile(path, busy_seconds=5.0)
    file.open()
    file.close()
    assert others == []


async def test_many_processes_that_create_one_file_at_once_all_open_it(path: Path) -> None:
    code = _HOLDER.replace('"shop"', 'f"shop-{sys.argv[3]}"').replace("for _ in sys.stdin", "for _ in ()")
    code = code.replace('"p"', 'f"p-{sys.argv[3]}"')
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    commands = [[sys.executable, "-c", code, str(path), "3600", str(number)] for number in range(4)]
    children = [await asyncio.create_subprocess_exec(*command, env=environment, stdout=-1) for command in commands]
    outputs = [await child.communicate() for child in children]
    assert [child.returncode for child in children] == [0] * 4
    assert all(out.startswith(b"1-") for out, _ in outputs)


async def test_a_process_stopped_in_the_middle_of_a_commit_makes_the_store_unavailable(
    processes: ExitStack, path: Path
) -> None:
    """What a lock of SQLite's own does is not a lease: nobody can write until the process goes on or dies."""
    code = (
        "import sqlite3, sys; c = sqlite3.connect(sys.argv[1], isolation_level=None);"
        "c.execute('BEGIN IMMEDIATE'); print('locked', flush=True); sys.stdin.read()"
    )
    store = SqliteStateStore(path, name="oplog-bridge", clock=SystemClock(), deadline_seconds=0.5)
    await store.open()
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", code, str(path)], stdin=pipe, stdout=pipe) as stopped:
        assert stopped.stdout is not None
        assert stopped.stdout.readline() == b"locked\n"
        stopped.send_signal(signal.SIGSTOP)
        try:
            with pytest.raises(Unavailable, match="locked by another process"):
                await store.acquire("shop", BOB, _LONG_SECONDS)
        finally:
            stopped.kill()
    assert await store.acquire("shop", BOB, _LONG_SECONDS) is not None
    await store.close()
