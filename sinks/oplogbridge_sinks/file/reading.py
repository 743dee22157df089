"""Reads the file back, beside whoever writes it: without its lock, up to where the sidecar says that it counts."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, TypeVar

from oplogbridge.errors import Misconfigured
from oplogbridge.identity import identity_of
from oplogbridge.sink import Delivered, Lane, SinkContext
from oplogbridge.values import Event
from oplogbridge_sinks.file.failures import DEADLINE_SECONDS, translate
from oplogbridge_sinks.file.log import line_of
from oplogbridge_sinks.file.settings import FileSettings, path_of
from oplogbridge_sinks.file.sidecar import Sidecar

T = TypeVar("T")
LANE = "file"
CHUNK_BYTES = 1 << 20
LINE_BYTES_MAX = 1 << 30  # a longer one is no event of ours


class FileReader:
    def __init__(self, settings: FileSettings, context: SinkContext) -> None:
        self._path = path_of(settings, context)
        self._destination = f"file:{self._path}"
        self._file = -1
        self._length = 0  # what counts

    async def open(self) -> Sequence[Lane]:
        await self.close()
        return await self._work(self._open)

    async def pages(self, lane: Lane, from_sequence: int, to_sequence: int) -> AsyncIterator[Sequence[Delivered]]:
        begin, rest = 0, b""
        lines_before = 0
        while begin < self._length:
            chunk = await self._work(os.pread, self._file, min(CHUNK_BYTES, self._length - begin), begin)
            if not chunk:
                raise Misconfigured(f"{self._destination}: it became shorter while it was read; put the file back")
            begin += len(chunk)
            lines = (rest + chunk).split(b"\n")
            rest = lines.pop()
            if len(rest) > LINE_BYTES_MAX:
                raise Misconfigured(
                    f"{self._destination}: line {lines_before + len(lines) + 1} has no end; mend the file"
                )
            found = []
            for number, line in enumerate(lines, lines_before + 1):
                one = _delivered(line, lane.name, number)
                if one.sequence is None or from_sequence <= one.sequence < to_sequence:
                    found.append(one)
            lines_before += len(lines)
            if found:
                yield found
        if rest:
            yield [_delivered(rest, lane.name, lines_before + 1)]

    async def kept(self) -> Sequence[Lane]:
        return [] if self._file < 0 else [Lane(LANE, None)]

    def lane_of(self, _event: Event) -> str:
        return LANE

    def shown(self, event: Event) -> bytes:
        return line_of(event)

    async def close(self) -> None:
        file, self._file = self._file, -1
        if file >= 0:
            with contextlib.suppress(OSError):
                os.close(file)

    def _open(self) -> Sequence[Lane]:
        try:
            self._file = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except FileNotFoundError:
            return []
        self._length = os.fstat(self._file).st_size
        with contextlib.suppress(FileNotFoundError, ValueError, KeyError, TypeError, Misconfigured):
            # Without a sidecar that can be read, or beyond a shorter file, what is there is all that there is to say.
            with open(f"{self._path}.position", "rb") as sidecar:  # noqa: PTH123 - `Path` would drop a leading "./"
                self._length = min(self._length, Sidecar.decode(sidecar.read()).length)
        return [Lane(LANE, None)]

    async def _work(self, work: Callable[..., T], *arguments: Any) -> T:
        try:
            async with asyncio.timeout(DEADLINE_SECONDS):
                return await asyncio.to_thread(work, *arguments)
        except OSError as error:  # TimeoutError is one
            raise translate(error, self._destination) from error


def _delivered(line: bytes, lane: str, number: int) -> Delivered:
    told = identity_of(line)
    place = told.id if told.id is not None and "-" in told.id else None
    return Delivered(told.sequence, told.id, told.key, line, lane, f"line {number}", place=place)
