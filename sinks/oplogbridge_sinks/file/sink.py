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
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from oplogbridge.errors import Unavailable
from oplogbridge.sink import SinkContext, SinkPlugin, SinkTraits
from oplogbridge.values import Batch, Event, Position
from oplogbridge_sinks.file.failures import DEADLINE_SECONDS, translate
from oplogbridge_sinks.file.log import Log
from oplogbridge_sinks.file.reading import FileReader
from oplogbridge_sinks.file.settings import FileSettings, path_of

T = TypeVar("T")

CLOSE_SECONDS = 5.0


class FileSink:
    """The rim: one worker thread does the blocking work, one piece after the other."""

    def __init__(self, settings: FileSettings, context: SinkContext) -> None:
        self._path = path_of(settings, context)
        self._context = context
        self._log: Log | None = None
        self._worker: ThreadPoolExecutor | None = None

    @property
    def destination(self) -> str:
        return f"file:{self._path}"

    async def open(self) -> Position | None:
        await self.close()
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="file-sink")
        self._log = Log(self._path, self._context.owner, self._context.source_id, self.destination)
        return await self._work(self._log.open)

    async def prepare(self, events: Sequence[Event]) -> None:
        """Nothing: the lines are joined in the thread that writes them."""

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

    def _opened(self) -> Log:
        if self._log is None:
            raise Unavailable(f"{self.destination}: it is not open; open it first")
        return self._log

    async def _work(self, work: Callable[..., T], *arguments: Any) -> T:
        assert self._worker is not None
        try:
            async with asyncio.timeout(DEADLINE_SECONDS):
                return await asyncio.get_running_loop().run_in_executor(self._worker, work, *arguments)
        except OSError as error:  # TimeoutError is one
            raise translate(error, self.destination) from error


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
    aside=lambda settings, name: {"path": f"{settings.path}.replay-{name}"},
    reader=FileReader,
)
