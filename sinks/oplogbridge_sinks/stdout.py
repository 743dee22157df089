"""One line per event on standard output: at least once, in order, for pipes and for people.

Nothing is kept there, so there is no position and nobody to fence: the state store's offset decides, and what was
printed between its last save and a crash is printed again. A write returns when the lines have left this process.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import IO

from pydantic import BaseModel

from oplogbridge.errors import BridgeError, Misconfigured, Unavailable
from oplogbridge.sink import SinkContext, SinkPlugin, SinkTraits
from oplogbridge.values import Batch, Event, Position

DEADLINE_SECONDS = 30.0  # a reader that takes nothing for so long is treated as gone
POLL_SECONDS = 0.2  # how often a thread that waits for the reader looks whether it is still wanted
_OUTPUTS_MAX = 16  # remembered; a process has one, tests have many
_SPACES = bytes.maketrans(b"\r\n", b"  ")


class StdoutSettings(BaseModel, frozen=True, extra="forbid"):
    pass


class _Output:
    """What one file, pipe or terminal is owed, whoever writes to it: every pipeline, and each opening's new sink."""

    def __init__(self) -> None:
        self.printing = threading.Lock()  # a predecessor's thread may still be leaving
        self.rest = b""  # of a line that was cut off, to be completed first, or the next would be glued to it


_outputs: dict[tuple[int, int], _Output] = {}
_remembering = threading.Lock()


def _output_behind(file: int) -> _Output:
    """By what the descriptor stands for, not by its number, which is another pipe's as soon as it was closed."""
    status = os.fstat(file)
    key = status.st_dev, status.st_ino
    with _remembering:
        output = _outputs.pop(key, None) or _Output()
        while len(_outputs) >= _OUTPUTS_MAX:
            del _outputs[next(iter(_outputs))]  # the one that was longest not written to
        _outputs[key] = output
    return output


class StdoutSink:
    """Writes in one worker thread: a pipe whose reader is slow must not hold up the other pipelines."""

    def __init__(
        self,
        _settings: StdoutSettings,
        _context: SinkContext,
        stream: Callable[[], IO[bytes]] = lambda: sys.stdout.buffer,
    ) -> None:
        self._stream = stream
        self._worker: ThreadPoolExecutor | None = None
        self._leaving = threading.Event()

    @property
    def destination(self) -> str:
        return "stdout"

    async def open(self) -> Position | None:
        await self.close()
        self._leaving = threading.Event()
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="stdout-sink")
        return None

    async def prepare(self, events: Sequence[Event]) -> None:
        """Nothing: there is too little to do."""

    async def write(self, batch: Batch) -> Position | None:
        lines = b"".join([event.payload.translate(_SPACES) + b"\n" for event in batch.events])
        printing = asyncio.get_running_loop().run_in_executor(self._opened(), self._print, lines, self._leaving)
        try:
            async with asyncio.timeout(DEADLINE_SECONDS):
                await printing
        except (OSError, ValueError) as error:
            self._leaving.set()
            raise _translate(error) from error
        return None

    async def move(self, offset: int) -> Position | None:
        raise Misconfigured(
            f"stdout: it holds no position, so there is none to move to {offset}; the state store has it"
        )

    async def position(self) -> Position | None:
        self._opened()
        return None

    async def close(self) -> None:
        self._leaving.set()
        worker, self._worker = self._worker, None
        if worker is not None:
            worker.shutdown(wait=False)  # the thread leaves at its next look, at most POLL_SECONDS later

    def _opened(self) -> ThreadPoolExecutor:
        if self._worker is None:
            raise Unavailable("stdout: it is not open; open it first")
        return self._worker

    def _print(self, lines: bytes, leaving: threading.Event) -> None:
        stream = self._stream()
        stream.flush()
        try:
            file = stream.fileno()
        except OSError:  # not a file: captured by a test or a notebook
            stream.write(lines)
            stream.flush()
            return
        # Not through the stream: one that is stuck in a full pipe could not be left, and the process could not end.
        poll = select.poll()
        poll.register(file, select.POLLOUT)
        output = _output_behind(file)
        with output.printing:
            text = output.rest + lines
            begun, written = bool(output.rest), 0
            try:
                while written < len(text) and not leaving.is_set():
                    if poll.poll(POLL_SECONDS * 1000):
                        with contextlib.suppress(BlockingIOError):
                            written += os.write(file, text[written : written + select.PIPE_BUF])
            finally:
                begun = text[written - 1 : written] != b"\n" if written else begun
                output.rest = text[written : text.index(b"\n", written) + 1] if begun else b""


def _translate(error: Exception) -> BridgeError:
    if isinstance(error, (BrokenPipeError, ValueError)):  # ValueError: it was closed
        return Misconfigured("stdout: nobody reads it any more; start the bridge again with a reader")
    if isinstance(error, TimeoutError):
        return Unavailable(f"stdout: its reader took nothing in {DEADLINE_SECONDS:g}s; it will be tried again")
    return Unavailable(f"stdout: {error}; it will be tried again")


plugin = SinkPlugin(
    kind="stdout",
    summary="one line per event on standard output, at least once",
    settings=StdoutSettings,
    traits=lambda _settings: SinkTraits("at_least_once", False, False, events_max=4_000, bytes_max=16 * 1024 * 1024),
    build=StdoutSink,
    permissions=lambda _settings, _context: [],
)
