"""Child processes of a measurement: started, read, ended; and what they used, sampled while they ran."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
LOG_TAIL_BYTES = 2000
END_WITHIN_SECONDS = 20.0


class Failed(Exception):
    """A process that belongs to a measurement did not do its part; the message ends in the tail of its log."""


@dataclass(slots=True)
class Child:
    name: str
    process: asyncio.subprocess.Process
    log: Path

    @property
    def pid(self) -> int:
        return self.process.pid

    async def line(self) -> str:
        """The next line of its stdout."""
        assert self.process.stdout is not None
        line = await self.process.stdout.readline()
        if not line:
            await self.process.wait()
            raise self.failed("ended early")
        return line.decode().strip()

    async def ended_well(self) -> None:
        if await self.process.wait() != 0:
            raise self.failed(f"ended with {self.process.returncode}")

    def failed(self, what: str) -> Failed:
        tail = self.log.read_bytes()[-LOG_TAIL_BYTES:].decode(errors="replace")
        return Failed(f"{self.name} {what}\n--- the end of its log:\n{tail}")


@contextlib.asynccontextmanager
async def child(name: str, command: Sequence[str], directory: Path) -> AsyncIterator[Child]:
    """Runs while the block does. Its stderr goes to a log in `directory`, where it also works."""
    log = directory / f"{name}.log"
    with log.open("wb") as stderr:
        process = await asyncio.create_subprocess_exec(
            *command,
            cwd=directory,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=stderr,
            env=os.environ | {"PYTHONUNBUFFERED": "1"},
        )
    try:
        yield Child(name, process, log)
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
            try:
                await asyncio.wait_for(process.wait(), END_WITHIN_SECONDS)
            except TimeoutError:
                process.kill()
                await process.wait()


def script(name: str, *arguments: str) -> list[str]:
    """A module of this directory as a command."""
    return [sys.executable, str(HERE / name), *arguments]


def bridge_command(config: Path) -> list[str]:
    return [sys.executable, "-m", "oplogbridge", "run", "-c", str(config), "--until-caught-up", "--admin", "off"]


@dataclass(frozen=True, slots=True)
class Used:
    """What a process has used so far."""

    cpu_seconds: float
    rss_bytes: int


class Meter:
    """Reads a process from outside. Once it has ended, what was read last stays true."""

    def __init__(self, pid: int) -> None:
        self._process: psutil.Process | None = None
        with contextlib.suppress(psutil.Error):
            self._process = psutil.Process(pid)
        self._last = Used(0.0, 0)

    def read(self) -> Used:
        if self._process is not None:
            with contextlib.suppress(psutil.Error), self._process.oneshot():
                times = self._process.cpu_times()
                rss_bytes = self._process.memory_info().rss
                if rss_bytes > 0:  # 0 once it is a zombie
                    self._last = Used(times.user + times.system, rss_bytes)
        return self._last
