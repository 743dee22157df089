"""Redis Streams: one script checks token and offset, adds, and moves the offset. A fail-over loses the newest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from oplogbridge.errors import Fenced, Misconfigured, Unavailable
from oplogbridge.sink import SinkContext, SinkTraits
from oplogbridge.values import Batch, Event, Position
from simulation.loop import Process
from simulation.network import Network
from simulation.sinks.place import FOREIGN, Kind, Place

KEPT_MAX = 6


@dataclass
class RedisState:
    log: list[int] = field(default_factory=list)
    token: str = ""
    kept_offset: int | None = None
    top: int = 0  # the stream's highest id that the hash knows of
    earlier: list[RedisState] = field(default_factory=list)

    def logs(self) -> Sequence[Sequence[int]]:
        return [self.log]

    def offset(self) -> int | None:
        return self.kept_offset

    def behind(self, writes: int) -> RedisState:
        missed = self.earlier[-writes:] if writes else []
        found = missed[0] if missed else self
        return replace(found, log=found.log.copy(), earlier=[])

    def recreated(self) -> RedisState:
        return RedisState()

    def write_foreign(self) -> None:
        self.log.append(FOREIGN)

    def open(self, token: str) -> int | None:
        if self.log and self.log[-1] == FOREIGN:
            raise Misconfigured("redis: somebody else writes here: decide with `oplog-bridge offsets set`")
        self.keep()
        self.token = token
        return self.kept_offset

    def write(self, token: str, from_offset: int | None, next_offset: int, sequences: Sequence[int]) -> None:
        if token != self.token:
            raise Fenced("redis: a newer opener has it; leave it to them")
        if from_offset != self.kept_offset:
            raise Unavailable(f"redis: the offset is {self.kept_offset}, not {from_offset}")
        if self.log and self.log[-1] == FOREIGN:
            raise Misconfigured("redis: somebody else writes here: decide with `oplog-bridge offsets set`")
        self.keep()
        self.log += sequences
        self.kept_offset = next_offset

    def move(self, token: str, offset: int) -> None:
        self.write(token, self.kept_offset, offset, [])

    def position(self, token: str) -> int | None:
        if token != self.token:
            raise Fenced("redis: a newer opener has it; leave it to them")
        return self.kept_offset

    def keep(self) -> None:
        self.earlier.append(replace(self, log=self.log.copy(), earlier=[]))
        del self.earlier[:-KEPT_MAX]


class SimulatedRedis:
    def __init__(self, process: Process, place: Place, network: Network, context: SinkContext) -> None:
        self._process = process
        self._place = place
        self._network = network
        self._context = context
        self._token = ""
        self._offset: int | None = None
        self.destination = f"redis:{context.pipeline}"

    async def open(self) -> Position | None:
        self._token = f"{self._process.name}-{self._network.random.getrandbits(32)}"
        self._offset = await self._ask("open", lambda state: state.open(self._token))
        return self._position(self._offset)

    async def prepare(self, events: Sequence[Event]) -> None: ...

    async def write(self, batch: Batch) -> Position | None:
        if self._offset is not None and self._offset != batch.from_offset:
            raise Unavailable(f"redis: the batch begins at {batch.from_offset}, the position is {self._offset}")
        rejected = self._place.first_rejected(batch)
        if rejected is not None:
            before, refusal = rejected
            if before is not None:
                await self._write(before)
            raise refusal
        return await self._write(batch)

    async def move(self, offset: int) -> Position | None:
        await self._ask(f"move {offset}", lambda state: state.move(self._token, offset))
        self._offset = offset
        return self._position(offset)

    async def position(self) -> Position | None:
        return self._position(await self._ask("position", lambda state: state.position(self._token)))

    async def close(self) -> None:
        self._offset = None

    async def _write(self, batch: Batch) -> Position | None:
        sequences = [event.sequence for event in batch.events]
        offset = self._offset
        await self._ask(
            f"write {sequences} {offset} to {batch.next_offset}",
            lambda state: state.write(self._token, offset, batch.next_offset, sequences),
        )
        self._offset = batch.next_offset
        return self._position(batch.next_offset)

    async def _ask(self, what, effect):  # type: ignore[no-untyped-def]
        return await self._network.ask(self._process, self._place.server, what, effect)

    def _position(self, offset: int | None) -> Position | None:
        return None if offset is None else Position(offset, self._context.source_id, self.destination)


KIND = Kind(
    "redis",
    RedisState,
    SimulatedRedis,
    SinkTraits("exactly_once", True, False, events_max=4, bytes_max=1 << 20),
    fails_over=True,
    stops_for_foreign=True,
)
