"""JSON Lines in a local file: exactly once, in order, one event a line.

A write appends the batch and syncs it, then replaces the *sidecar* `<path>.position`, which holds the offset and the
length that belong together. So after any crash the sidecar tells how much of the file counts: what lies beyond it is a
torn tail, and is cut when the file is opened. What the sidecar does not explain (lines without one, a file shorter than
it says, other bytes at its end) is never touched: the pipeline stops, and a person decides.

The file is locked (`flock`) for as long as it is open. A predecessor that lives keeps it, a killed one frees it, so
opening here is refused where other destinations fence. One file belongs to one pipeline; it is not rotated.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import json
import os
import stat
import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import BaseModel, field_validator

from oplogbridge.errors import BridgeError, Misconfigured, Unavailable
from oplogbridge.sink import SinkContext, SinkPlugin, SinkTraits
from oplogbridge.templates import Template
from oplogbridge.values import Batch, Event, Position

T = TypeVar("T")

PATH_FIELDS = frozenset({"source", "pipeline"})
FORMAT_VERSION = 1  # of the sidecar
TAIL_BYTES = 4096  # whose checksum the sidecar keeps: enough to tell our file from somebody else's
DEADLINE_SECONDS = 30.0  # a disk that takes longer for a batch is treated as gone
CLOSE_SECONDS = 5.0

_PERSON_MENDS = frozenset(
    {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP}
    | {errno.ENAMETOOLONG, errno.ENOTSUP, errno.ENOLCK}
)


class FileSettings(BaseModel, frozen=True, extra="forbid"):
    path: str  # a template over {source} and {pipeline}; its directory must exist

    @field_validator("path")
    @classmethod
    def _is_template(cls, path: str) -> str:
        Template(path, fields=PATH_FIELDS)
        if path == "" or path.endswith("/") or "\0" in path:
            raise ValueError("must name a file")
        return path


class FileSink:
    """The rim: one worker thread does the blocking work, one piece after the other."""

    def __init__(self, settings: FileSettings, context: SinkContext) -> None:
        constants = {"source": context.source, "pipeline": context.pipeline}
        self._path = Template(settings.path, fields=PATH_FIELDS, constants=constants, escape=_escape).fill({})
        self._context = context
        self._log: _Log | None = None
        self._worker: ThreadPoolExecutor | None = None

    @property
    def destination(self) -> str:
        return f"file:{self._path}"

    async def open(self) -> Position | None:
        await self.close()
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="file-sink")
        self._log = _Log(self._path, self._context.owner, self._context.source_id, self.destination)
        return await self._work(self._log.open)

    async def write(self, batch: Batch) -> Position | None:
        return await self._work(self._opened().append, batch)

    async def move(self, offset: int) -> Position | None:
        return await self._work(self._opened().move, offset)

    async def position(self) -> Position | None:
        return await self._work(self._opened().look)

    async def close(self) -> None:
        worker, log = self._worker, self._log
        self._worker = self._log = None
        if worker is None or log is None:
            return
        # In the same thread, behind a write that was cancelled but goes on: the lock must outlast it, or a successor
        # would cut the file under it. On a disk that hangs we leave, the lock does not.
        released = asyncio.wrap_future(worker.submit(log.close))
        worker.shutdown(wait=False)
        await asyncio.wait([released], timeout=CLOSE_SECONDS)

    def _opened(self) -> _Log:
        if self._log is None:
            raise Unavailable(f"{self.destination}: it is not open; open it first")
        return self._log

    async def _work(self, work: Callable[..., T], *arguments: Any) -> T:
        assert self._worker is not None
        try:
            async with asyncio.timeout(DEADLINE_SECONDS):
                return await asyncio.get_running_loop().run_in_executor(self._worker, work, *arguments)
        except TimeoutError as error:
            raise Unavailable(
                f"{self.destination}: the disk did not answer in {DEADLINE_SECONDS:g}s; it will be tried again"
            ) from error
        except OSError as error:
            raise _translate(error, self.destination) from error


@dataclass(frozen=True, slots=True)
class _Record:
    """What the sidecar holds: an offset, and the file that belongs to it."""

    offset: int
    length: int
    tail: int  # checksum of the last TAIL_BYTES before `length`
    owner: str
    source: str
    destination: str

    def encode(self) -> bytes:
        record = {
            "v": FORMAT_VERSION,
            "offset": str(self.offset),  # text: a double cannot hold it
            "length": self.length,
            "tail": self.tail,
            "owner": self.owner,
            "source": self.source,
            "destination": self.destination,
        }
        return json.dumps(record, ensure_ascii=False).encode() + b"\n"

    @classmethod
    def decode(cls, text: bytes) -> _Record:
        record = json.loads(text)
        if record["v"] > FORMAT_VERSION:
            raise Misconfigured(
                f"its sidecar has format {record['v']}, this version knows {FORMAT_VERSION}: use the newer oplog-bridge"
            )
        numbers = (int(record["offset"]), int(record["length"]), int(record["tail"]))
        return cls(*numbers, str(record["owner"]), str(record["source"]), str(record["destination"]))


class _Log:
    """The file, its lock and its sidecar. Everything here blocks, and runs in the worker thread."""

    def __init__(self, path: str, owner: str, source: str, destination: str) -> None:
        self._path = path
        self._sidecar = f"{path}.position"
        self._owner = owner
        self._source = source
        self._destination = destination
        self._file = -1
        self._directory = -1
        self._locked = False
        self._record: _Record | None = None
        self._tail = b""  # the last TAIL_BYTES of what counts
        self._doubtful = True  # until opened, and again after any failure

    def open(self) -> Position | None:
        directory = os.path.dirname(self._path) or "."  # noqa: PTH120 - `Path` would drop a leading "./"
        try:
            self._directory = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError as error:
            raise Misconfigured(f"{self._destination}: there is no directory {directory}; make it") from error
        # O_NONBLOCK: a pipe of this name must be refused, not waited for.
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NONBLOCK
        self._file = os.open(self._path, flags, 0o640)
        if not stat.S_ISREG(os.fstat(self._file).st_mode):
            raise Misconfigured(f"{self._destination}: it is no ordinary file; give the path of one, or of none yet")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise Unavailable(
                f"{self._destination}: another process has it; it will be tried again, stop the other if it stays"
            ) from error
        self._locked = True
        self._check_same_file()
        os.fsync(self._directory)  # the file's own name must survive before anything in it counts
        return self._read_position()

    def _read_position(self) -> Position | None:
        """Believe the sidecar where the file bears it out, and cut a torn tail; else leave all as it is."""
        length = os.fstat(self._file).st_size
        record = self._read_sidecar()
        if record is None:
            if length > 0:
                raise Misconfigured(
                    f"{self._destination}: it holds {length} bytes and has no sidecar {self._sidecar}, so they may be "
                    f"somebody else's; {self._decide('give this pipeline another path')}"
                )
            self._doubtful = False
            return None
        if record.owner != self._owner:
            raise Misconfigured(
                f"{self._destination}: it belongs to {record.owner}; "
                + self._decide(f"give {self._owner} a path of its own")
            )
        if length < record.length:
            raise Misconfigured(
                f"{self._destination}: it has {length} bytes, {record.length} were written; "
                + self._decide("put the file back")
            )
        tail = os.pread(self._file, min(TAIL_BYTES, record.length), max(0, record.length - TAIL_BYTES))
        if zlib.crc32(tail) != record.tail:
            raise Misconfigured(
                f"{self._destination}: it is not the file that was written here; " + self._decide("put the file back")
            )
        if length > record.length:
            os.ftruncate(self._file, record.length)
            _sync(self._file)
        self._record, self._tail, self._doubtful = record, tail, False
        return self._position(record)

    def append(self, batch: Batch) -> Position:
        self._check()
        if self._record is None:
            self._save(batch.from_offset, 0, b"")  # or a torn first batch would look like somebody else's file
        elif self._record.offset != batch.from_offset:
            raise Unavailable(
                f"{self._destination}: the batch begins at {batch.from_offset}, the position is {self._record.offset}; "
                "go on from there"
            )
        assert self._record is not None
        lines = _lines_of(batch.events)
        self._doubtful = True
        _write_all(self._file, lines)
        _sync(self._file)
        length = self._record.length + len(lines)
        # Removed while we had it open, the file would take our appends into a nameless inode, and the sidecar would go
        # on as if they counted (protocol check, schedule 10).
        self._check_file(length)
        position = self._save(batch.next_offset, length, (self._tail + lines[-TAIL_BYTES:])[-TAIL_BYTES:])
        self._doubtful = False
        return position

    def move(self, offset: int) -> Position:
        """Also what a person decides after `open` was refused: what stands there is taken as it is."""
        if not self._locked:
            raise Unavailable(f"{self._destination}: it is not open; open it first")
        if not self._doubtful:
            self._check()
        self._check_same_file()
        length = os.fstat(self._file).st_size
        tail = os.pread(self._file, TAIL_BYTES, max(0, length - TAIL_BYTES))
        if tail and not tail.endswith(b"\n"):
            raise Misconfigured(f"{self._destination}: it ends in the middle of a line; complete or remove that line")
        position = self._save(offset, length, tail)
        self._doubtful = False
        return position

    def look(self) -> Position | None:
        self._check()
        record = self._read_sidecar()
        return None if record is None else self._position(record)

    def close(self) -> None:
        self._doubtful, self._locked, self._record = True, False, None
        for name in ("_file", "_directory"):
            descriptor = getattr(self, name)
            setattr(self, name, -1)
            if descriptor >= 0:
                os.close(descriptor)

    # One step each -------------------------------------------------------------------------------------------------

    def _save(self, offset: int, length: int, tail: bytes) -> Position:
        record = _Record(offset, length, zlib.crc32(tail), self._owner, self._source, self._destination)
        temporary = f"{self._sidecar}.new"
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o640)
        try:
            _write_all(descriptor, record.encode())
            _sync(descriptor)
        finally:
            os.close(descriptor)
        self._check_same_file()
        os.replace(temporary, self._sidecar)  # noqa: PTH105 - tests stop the world at this very call
        os.fsync(self._directory)
        self._record, self._tail = record, tail
        return self._position(record)

    def _read_sidecar(self) -> _Record | None:
        try:
            with open(self._sidecar, "rb") as sidecar:  # noqa: PTH123 - as above
                text = sidecar.read()
        except FileNotFoundError:
            return None
        try:
            return _Record.decode(text)
        except Misconfigured as error:
            raise Misconfigured(f"{self._destination}: {error}") from None
        except (ValueError, KeyError, TypeError) as error:
            raise Misconfigured(
                f"{self._destination}: its sidecar {self._sidecar} cannot be read; " + self._decide("put it back")
            ) from error

    def _check(self) -> None:
        if self._doubtful:
            raise Unavailable(f"{self._destination}: the last write failed; open it again")
        self._check_file(self._record.length if self._record else 0)

    def _check_file(self, length: int) -> None:
        self._check_same_file()
        found = os.fstat(self._file).st_size
        if found != length:
            self._doubtful = True
            raise Misconfigured(
                f"{self._destination}: somebody else changed it, it has {found} bytes instead of {length}; "
                "leave the file to this pipeline: what was added is cut when it is opened again"
            )

    def _check_same_file(self) -> None:
        ours = os.fstat(self._file)
        try:
            there = os.stat(self._path)  # noqa: PTH116 - as above
        except FileNotFoundError:
            there = None
        if there is None or (there.st_dev, there.st_ino) != (ours.st_dev, ours.st_ino):
            self._doubtful = True
            raise Misconfigured(
                f"{self._destination}: it was removed or replaced while open; " + self._decide("put the file back")
            )

    def _position(self, record: _Record) -> Position:
        return Position(record.offset, record.source, record.destination)

    def _decide(self, instead: str) -> str:
        return f"{instead}, or take it as it is with `oplog-bridge offsets set`"


def _lines_of(events: Sequence[Event]) -> bytes:
    """A raw newline in JSON is white space between tokens (in a string it is escaped), so a space says the same."""
    lines = b"\n".join([event.payload for event in events]) + b"\n"
    if lines.count(b"\n") == len(events) and b"\r" not in lines:
        return lines
    spaces = bytes.maketrans(b"\r\n", b"  ")
    return b"".join([event.payload.translate(spaces) + b"\n" for event in events])


def _write_all(descriptor: int, data: bytes) -> None:
    unwritten = memoryview(data)
    while unwritten:  # one call, unless a full disk cuts it short: the next one then says so
        unwritten = unwritten[os.write(descriptor, unwritten) :]


def _sync(descriptor: int) -> None:
    if hasattr(fcntl, "F_FULLFSYNC"):  # macOS: fsync alone leaves it in the drive's cache
        fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)
    else:
        os.fdatasync(descriptor)


def _escape(value: str) -> str:
    """Of a name in a path: it must neither leave the directory nor end the string."""
    if value.strip(".") == "":
        return value.replace(".", "%2E")
    return "".join(f"%{ord(char):02X}" if char in "/\\%" or ord(char) < 32 else char for char in value)


def _translate(error: OSError, destination: str) -> BridgeError:
    reason = os.strerror(error.errno) if error.errno else type(error).__name__
    if error.errno in _PERSON_MENDS:
        return Misconfigured(f"{destination}: {reason}; mend the path or its permissions")
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):  # the disk, a quota, a limit on the file's size
        return Unavailable(f"{destination}: {reason}; it goes on when there is room again")
    return Unavailable(f"{destination}: {reason}; it will be tried again")


def _permissions(settings: FileSettings, _context: SinkContext) -> list[str]:
    return [f"write, create and rename in the directory of {settings.path} (the file and its sidecar .position)"]


plugin = SinkPlugin(
    kind="file",
    summary="JSON Lines in a local file, exactly once",
    settings=FileSettings,
    # Going back is allowed: an append-only log takes any line, and a person who asks for it gets the events again.
    traits=lambda _settings: SinkTraits("exactly_once", True, True, events_max=4_000, bytes_max=16 * 1024 * 1024),
    build=FileSink,
    permissions=_permissions,
)
