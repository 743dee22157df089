"""A file and its sidecar: what that does not cover is cut off at the next opening. A lock that dies with its holder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from oplogbridge.errors import Fenced, Misconfigured, Unavailable
from oplogbridge.sink import SinkContext, SinkTraits
from oplogbridge.values import Batch, Event, Position
from simulation.loop import Process
from simulation.network import Network
from simulation.sinks.place import FOREIGN, Kind, Place


@dataclass
class FileState:
    lines: list[int] = field(default_factory=list)
    count: int = 0  # of lines that the sidecar covers
    kept_offset: int | None = None
    holder: Process | None = None

    def logs(self) -> Sequence[Sequence[int]]:
        return [self.lines[: self.count]]  # a reader that follows the sidecar

    def offset(self) -> int | None:
        return self.kept_offset

    def behind(self, writes: int) -> FileState:
        return replace(self, lines=self.lines.copy())

    def recreated(self) -> FileState:
        return FileState()

    def write_foreign(self) -> None:
        self.lines.append(FOREIGN)  # not covered: whoever opens it next cuts it off as a torn write

    def open(self, process: Process) -> int | None:
        if self.holder is not None and self.holder is not process and not self.holder.is_dead:
            raise Unavailable("file: another process holds it")
        self.holder = process
        del self.lines[self.count :]
        return self.kept_offset

    def append(self, process: Process, sequences: Sequence[int]) -> None:
        if self.holder is not process:
            raise Fenced("file: the lock is gone")
        if FOREIGN in self.lines[self.count :]:
            raise Misconfigured("file: somebody else changed it")
        self.lines += sequences

    def cover(self, process: Process, offset: int) -> None:
        if self.holder is not process:
            raise Fenced("file: the lock is gone")
        if FOREIGN in self.lines[self.count :]:
            raise Misconfigured("file: somebody else changed it")
        self.count, self.kept_offset = len(self.lines), offset


class SimulatedFile:
    def __init__(self, process: Process, place: Place, network: Network, context: SinkContext) -> None:
        self._process = process
        self._place = place
        self._network = network
        self._context = context
        self._offset: int | None = None
        self.destination = f"file:{context.pipeline}"

    @property
    def _state(self) -> FileState:
        return self._place.server.state  # type: ignore[return-value]

    async def open(self) -> Position | None:
        self._offset = await self._step("open", lambda: self._state.open(self._process))
        return self._position(self._offset)

    async def prepare(self, events: Sequence[Event]) -> None: ...

    async def write(self, batch: Batch) -> Position | None:
        rejected = self._place.first_rejected(batch)
        if rejected is not None:
            before, refusal = rejected
            if before is not None:
                await self._write(before)
            raise refusal
        return await self._write(batch)

    async def move(self, offset: int) -> Position | None:
        await self._step(f"cover {offset}", lambda: self._state.cover(self._process, offset))
        self._offset = offset
        return self._position(offset)

    async def position(self) -> Position | None:
        return self._position(await self._step("position", lambda: self._state.kept_offset))

    async def close(self) -> None:
        if self._state.holder is self._process:
            self._state.holder = None

    async def _write(self, batch: Batch) -> Position | None:
        if self._offset != batch.from_offset:
            raise Unavailable(f"file: the batch begins at {batch.from_offset}, the position is {self._offset}")
        sequences = [event.sequence for event in batch.events]
        half = len(sequences) // 2
        for part in (sequences[:half], sequences[half:]):  # a kill can come in the middle
            await self._step(f"append {part}", lambda part=part: self._state.append(self._process, part))
        await self._step(f"cover {batch.next_offset}", lambda: self._state.cover(self._process, batch.next_offset))
        self._offset = batch.next_offset
        return self._position(batch.next_offset)

    async def _step(self, what, effect):  # type: ignore[no-untyped-def]
        """A local disk: nothing is lost on the way, and whoever is dead does nothing."""
        wait = self._network.loop.create_future()
        self._network.loop.call_later(0.001, lambda: wait.done() or wait.set_result(None))
        await wait
        result = effect()
        self._network.note(f"{self._process.name} -> {self.destination}: {what}: {result}")
        self._network.after_effect(what)
        return result

    def _position(self, offset: int | None) -> Position | None:
        return None if offset is None else Position(offset, self._context.source_id, self.destination)


KIND = Kind("file", FileState, SimulatedFile, SinkTraits("exactly_once", True, True, events_max=4, bytes_max=1 << 20))
