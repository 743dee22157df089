"""What a disk can do to the file sink, and to SQLite."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager

from chaos.line import Line

FULL_SECONDS = 4.0


@contextmanager
def _full(line: Line, file_bytes_max: int) -> Iterator[None]:
    """No file of the bridge may have more bytes, as on a full disk."""
    assert line.bridge.process is not None
    pid = line.bridge.process.pid
    before = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (file_bytes_max, before[1]))
    yield
    resource.prlimit(pid, resource.RLIMIT_FSIZE, before)


def of_the_file(line: Line) -> None:
    """There is room for a little more than what the events' file has: a write ends in its middle."""
    line.start()
    for _ in line.struck():
        mark = line.mark()
        size_bytes = (line.folder / "events.jsonl").stat().st_size
        with _full(line, size_bytes + 10_000):
            line.works_for(FULL_SECONDS)
            line.said_since(mark, "it goes on when there is room again")
        line.recovered()


def of_the_store(line: Line) -> None:
    """No file may grow at all. The log is a file, too: what does not fit into it is lost to it alone."""
    line.start()
    for _ in line.struck():
        with _full(line, 1):
            line.works_for(FULL_SECONDS)
        line.recovered()
