"""What only a file does: torn tails, sidecars, locks, removal while open, full disks."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import resource
import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from pydantic import ValidationError

from oplogbridge import Misconfigured, Position, Sink, SinkContext, Unavailable
from oplogbridge.testing import make_batch, make_event
from oplogbridge_sinks.file import FileSettings, plugin
from oplogbridge_sinks.file import sink as file_sink

FIRST = (1423124097 << 32) + 1

# A process that writes three batches and dies by SIGKILL at the nth call of one of the steps, the kernel's buffers
# intact: what it leaves is what a crash of the process leaves.
VICTIM = """
import asyncio, os, signal, sys
from oplogbridge.testing import make_batch
from test_file_sink import sink_at
path, step, nth, first = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
real, calls = getattr(os, step), 0
def dying(*arguments, **named):
    global calls
    calls += 1
    if calls == nth and step == "write":
        real(arguments[0], bytes(arguments[1])[: len(arguments[1]) // 2])  # half of it reached the file
    if calls == nth:
        os.kill(os.getpid(), signal.SIGKILL)
    return real(*arguments, **named)
async def main():
    sink = sink_at(path)
    await sink.open()
    setattr(os, step, dying)
    for begin in range(first, first + 9, 3):
        await sink.write(make_batch(begin, begin + 1, begin + 2))
        print(begin, flush=True)
asyncio.run(main())
"""


def sink_at(path: Path | str, **context: str) -> Sink:
    named = {"owner": "bridge.orders", "pipeline": "orders", "source": "shop", "source_id": "https://example.com/1"}
    return plugin.build(FileSettings(path=str(path)), SinkContext(**named | context))


@asynccontextmanager
async def opened(path: Path) -> AsyncIterator[Sink]:
    sink = sink_at(path)
    try:
        await sink.open()
        yield sink
    finally:
        await sink.close()


async def opened_at_last(sink: Sink) -> Position | None:
    async with asyncio.timeout(20):
        while True:
            try:
                return await sink.open()
            except Unavailable:
                await sink.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "orders.jsonl"


def sidecar_of(path: Path) -> Path:
    return path.with_name(path.name + ".position")


def sequences_in(path: Path) -> list[int]:
    return [int(json.loads(line)["id"]) for line in path.read_bytes().splitlines()]


@pytest.mark.parametrize("nth", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("step", ["write", "fdatasync", "fsync", "replace"])
async def test_a_process_killed_at_any_step_loses_nothing_and_doubles_nothing(path: Path, step: str, nth: int) -> None:
    victim = subprocess.run(
        [sys.executable, "-c", VICTIM, str(path), step, str(nth), str(FIRST)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert victim.returncode in (0, -9), victim.stderr
    acknowledged = [int(line) for line in victim.stdout.split()]

    sink = sink_at(path)
    position = await sink.open()  # its lock died with it
    offset = position.offset if position else FIRST
    assert offset >= (acknowledged[-1] + 3 if acknowledged else FIRST)
    assert sequences_in(path) == list(range(FIRST, offset))
    if offset < FIRST + 9:
        await sink.write(make_batch(*range(offset, FIRST + 9)))
    await sink.close()

    assert sequences_in(path) == list(range(FIRST, FIRST + 9))


async def test_what_lies_beyond_the_sidecar_is_cut(path: Path) -> None:
    async with opened(path) as sink:
        await sink.write(make_batch(FIRST))
    whole = path.read_bytes()
    with path.open("ab") as file:
        file.write(b'{"id":"61122714547')

    async with opened(path) as sink:
        assert path.read_bytes() == whole
        await sink.write(make_batch(FIRST + 1))

    assert sequences_in(path) == [FIRST, FIRST + 1]


async def test_lines_without_a_sidecar_are_never_cut(path: Path) -> None:
    path.write_bytes(b'{"id":"1"}\n')
    sink = sink_at(path)

    with pytest.raises(Misconfigured, match="another path, or take it as it is with `oplog-bridge offsets set`"):
        await sink.open()
    await sink.close()

    assert path.read_bytes() == b'{"id":"1"}\n'


async def test_a_person_cannot_take_over_half_a_line(path: Path) -> None:
    path.write_bytes(b'{"id":"1"}\n{"id":')
    sink = sink_at(path)
    with pytest.raises(Misconfigured):
        await sink.open()

    with pytest.raises(Misconfigured, match="middle of a line"):
        await sink.move(FIRST)
    await sink.close()


async def test_the_sidecar_is_there_before_the_first_append(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_file: int, _data: bytes) -> int:
        assert json.loads(sidecar_of(path).read_bytes())["length"] == 0
        raise OSError(errno.ENOSPC, "full")

    async with opened(path) as sink:
        await sink.move(FIRST)
        with monkeypatch.context() as patched:
            patched.setattr(os, "write", full)
            with pytest.raises(Unavailable, match="room"):
                await sink.write(make_batch(FIRST))


async def test_the_lock_outlasts_a_write_that_was_cancelled_and_goes_on(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writing, goes_on = threading.Event(), threading.Event()
    real = os.write

    def slow(descriptor: int, data: bytes) -> int:
        writing.set()
        assert goes_on.wait(20)
        return real(descriptor, data)

    sink = sink_at(path)
    await sink.open()
    await sink.move(FIRST)
    monkeypatch.setattr(os, "write", slow)
    monkeypatch.setattr(file_sink, "CLOSE_SECONDS", 0)  # the disk hangs for longer than we wait
    write = asyncio.ensure_future(sink.write(make_batch(FIRST)))
    await asyncio.to_thread(writing.wait, 20)
    write.cancel()
    await sink.close()
    successor = sink_at(path)
    with pytest.raises(Unavailable, match="another process has it"):
        await successor.open()
    await successor.close()

    monkeypatch.undo()
    goes_on.set()
    position = await opened_at_last(successor)
    await successor.close()

    assert position is not None
    assert position.offset == FIRST + 1
    assert sequences_in(path) == [FIRST]


async def test_a_file_shorter_than_its_sidecar_stops_the_pipeline(path: Path) -> None:
    async with opened(path) as sink:
        await sink.write(make_batch(FIRST, FIRST + 1))
    path.write_bytes(b"")
    sink = sink_at(path)

    with pytest.raises(Misconfigured, match="0 bytes"):
        await sink.open()
    await sink.move(FIRST + 1)  # a person has kept the first event elsewhere
    await sink.close()
    async with opened(path) as sink:
        await sink.write(make_batch(FIRST + 1))

    assert sequences_in(path) == [FIRST + 1]


async def test_another_file_in_its_place_is_not_cut(path: Path) -> None:
    async with opened(path) as sink:
        await sink.write(make_batch(FIRST))
    other = b"somebody else's notes, longer than what was there\n" * 10
    path.write_bytes(other)
    sink = sink_at(path)

    with pytest.raises(Misconfigured, match="not the file"):
        await sink.open()
    await sink.close()

    assert path.read_bytes() == other


async def test_a_restored_copy_goes_on(path: Path) -> None:
    async with opened(path) as sink:
        await sink.write(make_batch(FIRST))
    copy = path.read_bytes()
    path.unlink()
    path.write_bytes(copy)  # another inode, the same bytes

    async with opened(path) as sink:
        await sink.write(make_batch(FIRST + 1))

    assert sequences_in(path) == [FIRST, FIRST + 1]


@pytest.mark.parametrize("replaced", [False, True])
async def test_a_file_removed_while_open_loses_nothing(path: Path, replaced: bool) -> None:
    sink = sink_at(path)
    await sink.open()
    await sink.write(make_batch(FIRST))
    kept = path.with_name("kept")
    path.rename(kept)
    if replaced:
        path.write_bytes(kept.read_bytes())

    with pytest.raises(Misconfigured, match="removed or replaced"):
        await sink.write(make_batch(FIRST + 1))
    await sink.close()
    kept.rename(path)
    async with opened(path) as sink:
        await sink.write(make_batch(FIRST + 1))

    assert sequences_in(path) == [FIRST, FIRST + 1]


async def test_a_file_removed_during_the_write_does_not_move_the_position(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sink = sink_at(path)
    await sink.open()
    await sink.write(make_batch(FIRST))
    kept = path.with_name("kept")
    real = os.write

    def removing(file: int, data: bytes) -> int:
        path.rename(kept)
        return real(file, data)

    with monkeypatch.context() as patched:
        patched.setattr(os, "write", removing)
        with pytest.raises(Misconfigured, match="removed or replaced"):
            await sink.write(make_batch(FIRST + 1))
    await sink.close()

    assert json.loads(sidecar_of(path).read_bytes())["offset"] == str(FIRST + 1)


async def test_a_file_cut_while_open_stops_the_pipeline(path: Path) -> None:
    async with opened(path) as sink:
        await sink.write(make_batch(FIRST))
        os.truncate(path, 3)

        with pytest.raises(Misconfigured, match="3 bytes instead of"):
            await sink.write(make_batch(FIRST + 1))


async def test_a_full_disk_tears_a_tail_that_is_cut_when_there_is_room(path: Path) -> None:
    # The largest size of a file stands in for a full disk: the kernel writes what fits, then refuses.
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    sink = sink_at(path)
    await sink.open()
    await sink.write(make_batch(FIRST))
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 10, hard))
    try:
        with pytest.raises((Unavailable, Misconfigured)):
            await sink.write(make_batch(FIRST + 1))
        with pytest.raises(Unavailable, match="open it again"):
            await sink.write(make_batch(FIRST + 1))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        await sink.close()
    assert path.read_bytes().count(b"\n") == 1
    assert not path.read_bytes().endswith(b"\n")

    async with opened(path) as sink:
        await sink.write(make_batch(FIRST + 1))

    assert sequences_in(path) == [FIRST, FIRST + 1]


@pytest.mark.parametrize("text", [b"", b"[]", b'{"v":1}', b'{"v":1,"offset":"x","length":0,"tail":0}', b"\xff"])
async def test_a_sidecar_that_cannot_be_read_stops_the_pipeline(path: Path, text: bytes) -> None:
    async with opened(path) as sink:
        await sink.write(make_batch(FIRST))
    sidecar_of(path).write_bytes(text)
    before = path.read_bytes()
    sink = sink_at(path)

    with pytest.raises(Misconfigured, match="cannot be read"):
        await sink.open()
    await sink.close()

    assert path.read_bytes() == before


async def test_a_newer_sidecar_is_refused_by_name(path: Path) -> None:
    async with opened(path) as sink:
        await sink.write(make_batch(FIRST))
    record = json.loads(sidecar_of(path).read_bytes())
    sidecar_of(path).write_text(json.dumps(record | {"v": 2}))
    sink = sink_at(path)

    with pytest.raises(Misconfigured, match="format 2, this version knows 1"):
        await sink.open()
    await sink.close()


@pytest.mark.parametrize("offset", [FIRST, 2**63])
async def test_the_sidecar_keeps_the_offset_as_text(path: Path, offset: int) -> None:
    async with opened(path) as sink:
        await sink.move(offset)

    assert json.loads(sidecar_of(path).read_bytes())["offset"] == str(offset)


async def test_a_sidecar_deleted_while_open_shows_in_the_position(path: Path) -> None:
    async with opened(path) as sink:
        await sink.write(make_batch(FIRST))
        sidecar_of(path).unlink()

        assert await sink.position() is None


async def test_a_missing_directory_is_not_made(tmp_path: Path) -> None:
    sink = sink_at(tmp_path / "missing" / "orders.jsonl")
    with pytest.raises(Misconfigured, match="make it"):
        await sink.open()
    await sink.close()
    assert not (tmp_path / "missing").exists()


async def test_a_pipe_is_no_file(path: Path) -> None:
    os.mkfifo(path)
    sink = sink_at(path)
    with pytest.raises(Misconfigured, match="no ordinary file"):
        await sink.open()
    with pytest.raises(Unavailable):
        await sink.move(FIRST)
    await sink.close()


async def test_names_cannot_leave_the_directory(tmp_path: Path) -> None:
    sink = sink_at(f"{tmp_path}/{{source}}/{{pipeline}}.jsonl", source="..", pipeline="../../etc/x")
    assert sink.destination == f"file:{tmp_path}/%2E%2E/..%2F..%2Fetc%2Fx.jsonl"


@pytest.mark.parametrize("path", ["", "out/", "{type}.jsonl", "{source"])
def test_a_path_that_names_no_file_is_refused_in_the_configuration(path: str) -> None:
    with pytest.raises(ValidationError):
        FileSettings(path=path)


async def test_newlines_become_spaces_in_every_event(path: Path) -> None:
    events = [
        make_event(FIRST, payload=b'{"id":\r\n"%d"}\n' % FIRST),
        make_event(FIRST + 1),
        make_event(FIRST + 2, payload=b'{\r"id":"%d"}' % (FIRST + 2)),
    ]
    async with opened(path) as sink:
        await sink.write(make_batch(*events))

    assert sequences_in(path) == [FIRST, FIRST + 1, FIRST + 2]
