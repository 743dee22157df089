"""What a disk can do to the file."""

from __future__ import annotations

import resource

from chaos.line import Line

HOLD_SECONDS = 3.0


def disk_full(line: Line) -> None:
    """No file of the process may grow beyond what the events' file has now: the write ends in its middle."""
    line.start()
    for _ in line.struck():
        assert line.bridge.process is not None
        pid = line.bridge.process.pid
        before = resource.prlimit(pid, resource.RLIMIT_FSIZE)
        mark = line.mark()
        size = line.folder.joinpath("events.jsonl").stat().st_size
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (size + 10_000, before[1]))
        line.work()
        line.said_since(mark, "it goes on when there is room again")
        line.wait(HOLD_SECONDS)
        resource.prlimit(pid, resource.RLIMIT_FSIZE, before)
        with line.recovery():
            pass
