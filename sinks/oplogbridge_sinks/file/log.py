"""The file, its lock and its sidecar. Everything here blocks; the sink runs it in its worker thread."""

from __future__ import annotations

import fcntl
import os
import stat
import zlib
from collections.abc import Sequence

from oplogbridge.errors import Misconfigured, Unavailable
from oplogbridge.values import Batch, Event, Position
from oplogbridge_sinks.file.sidecar import Sidecar, sync, write_all

_SPACES = bytes.maketrans(b"\r\n", b"  ")
TAIL_BYTES = 4096  # whose checksum the sidecar keeps: enough to tell our file from somebody else's


class Log:
    """Doubtful until it was opened, and again after any failure: then only opening it anew tells what counts."""

    def __init__(self, path: str, owner: str, source: str, destination: str) -> None:
        self._path = path
        self._sidecar = f"{path}.position"
        self._owner = owner
        self._source = source
        self._destination = destination
        self._file = -1
        self._directory = -1
        self._locked = False
        self._record: Sidecar | None = None
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
            sync(self._file)
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
        lines = lines_of(batch.events)
        self._doubtful = True
        write_all(self._file, lines)
        sync(self._file)
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
        record = Sidecar(offset, length, zlib.crc32(tail), self._owner, self._source, self._destination)
        temporary = f"{self._sidecar}.new"
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o640)
        try:
            write_all(descriptor, record.encode())
            sync(descriptor)
        finally:
            os.close(descriptor)
        self._check_same_file()
        os.replace(temporary, self._sidecar)  # noqa: PTH105 - tests stop the world at this very call
        os.fsync(self._directory)
        self._record, self._tail = record, tail
        return self._position(record)

    def _read_sidecar(self) -> Sidecar | None:
        try:
            with open(self._sidecar, "rb") as sidecar:  # noqa: PTH123 - as above
                text = sidecar.read()
        except FileNotFoundError:
            return None
        try:
            return Sidecar.decode(text)
        except Misconfigured as error:
            raise Misconfigured(f"{self._destination}: {error}") from None
        except (ValueError, KeyError, TypeError, RecursionError) as error:
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

    def _position(self, record: Sidecar) -> Position:
        return Position(record.offset, record.source, record.destination)

    def _decide(self, instead: str) -> str:
        return f"{instead}, or take it as it is with `oplog-bridge offsets set`"


def lines_of(events: Sequence[Event]) -> bytes:
    """A raw newline in JSON is white space between tokens (in a string it is escaped), so a space says the same."""
    lines = b"\n".join([event.payload for event in events]) + b"\n"
    if lines.count(b"\n") == len(events) and b"\r" not in lines:
        return lines
    return b"".join([line_of(event) + b"\n" for event in events])


def line_of(event: Event) -> bytes:
    return event.payload.translate(_SPACES)
