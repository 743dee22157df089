"""What is said reaches the log, and a log that takes nothing takes nothing else down."""

from __future__ import annotations

import errno
import io
import json
import os
import sys
from typing import cast

import pytest
import structlog

from oplogbridge.cli.logs import LossyLog, set_up_logs


class Disk(io.RawIOBase):
    """Takes `room` bytes, then it is full."""

    def __init__(self, room: int) -> None:
        self.room = room
        self.written = b""

    def write(self, data: bytes) -> int:  # type: ignore[override]
        taken = bytes(data)[: self.room]
        if not taken:
            raise OSError(errno.ENOSPC, "full")
        self.written += taken
        self.room -= len(taken)
        return len(taken)


def test_a_full_disk_loses_lines_and_nothing_else_and_their_number_is_said() -> None:
    disk = Disk(room=6)
    log = LossyLog(cast("io.BytesIO", disk))

    for line in (b"first\n", b"second\n", b"third\n"):
        assert log.write(line) == len(line)
    disk.room = 1_000
    log.write("fourth\n")

    first, said, fourth = disk.written.decode().splitlines()
    assert (first, fourth) == ("first", "fourth")
    assert json.loads(said) == {"event": "log lines lost", "level": "warning", "lines": 2}


def test_a_pipe_that_is_full_and_does_not_block_loses_lines_too() -> None:
    reads, writes = os.pipe()
    os.set_blocking(writes, False)
    with os.fdopen(reads, "rb"), os.fdopen(writes, "wb") as full:
        log = LossyLog(cast("io.BytesIO", full))

        for _ in range(20):  # a pipe holds 64 KiB
            assert log.write(b"x" * 10_000) == 10_000


@pytest.mark.parametrize("kind", ["json", "console"])
def test_whoever_reads_the_log_may_go_away(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    reads, writes = os.pipe()
    os.close(reads)
    with os.fdopen(writes, "w") as nobody:
        monkeypatch.setattr(sys, "stderr", nobody)
        set_up_logs(level="info", format=kind)  # type: ignore[arg-type]
        try:
            structlog.get_logger().info("somebody there?")
            assert LossyLog(cast("io.BytesIO", nobody.buffer)).write("still?") == len("still?")
        finally:
            structlog.reset_defaults()
