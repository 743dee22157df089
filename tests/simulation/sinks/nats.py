"""JetStream: an atomic batch that expects the stream's last sequence. No fence; messages expire, the sequence stays."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

from oplogbridge.errors import Misconfigured, Unavailable
from oplogbridge.sink import SinkContext, SinkTraits
from oplogbridge.values import OFFSET_UNKNOWN, Batch, Event, Position
from simulation.loop import Process
from simulation.network import Network
from simulation.sinks.place import FOREIGN, Kind, Place

KEPT_MAX = 6
T = TypeVar("T")


@dataclass
class NatsState:
    log: list[int] = field(default_factory=list)  # all that ever came, for readers who kept up
    last_sequence: int = 0  # of the stream
    last_offset: int | None = None  # in the last message's header; None: it has expired, or there was none
    earlier: list[NatsState] = field(default_factory=list)

    def logs(self) -> Sequence[Sequence[int]]:
        return [self.log]

    def offset(self) -> int | None:
        return self.last_offset

    def behind(self, writes: int) -> NatsState:
        missed = self.earlier[-writes:] if writes else []
        found = missed[0] if missed else self
        return replace(found, log=found.log.copy(), earlier=[])

    def recreated(self) -> NatsState:
        return NatsState()

    def write_foreign(self) -> None:
        self.log.append(FOREIGN)
        self.last_sequence += 1
        self.last_offset = None

    def expire(self) -> None:
        """Retention takes the messages away; whoever reads the stream has them."""
        self.last_offset = None

    def look(self) -> tuple[int, int | None]:
        if self.log and self.log[-1] == FOREIGN:
            raise Misconfigured("nats: somebody else writes here: decide with `oplog-bridge offsets set`")
        return self.last_sequence, self.last_offset

    def write(self, expected: int, sequences: Sequence[int], next_offset: int) -> int:
        if expected != self.last_sequence:
            raise Unavailable(f"nats: the last sequence is {self.last_sequence}, not {expected}: open it again")
        self.earlier.append(replace(self, log=self.log.copy(), earlier=[]))
        del self.earlier[:-KEPT_MAX]
        self.log += sequences
        self.last_sequence += len(sequences)
        self.last_offset = next_offset
        return self.last_sequence


class SimulatedNats:
    def __init__(self, process: Process, place: Place, network: Network, context: SinkContext) -> None:
        self._process = process
        self._place = place
        self._network = network
        self._context = context
        self._last_sequence = 0
        self._offset: int | None = None
        self.destination = f"nats:{context.pipeline}"

    async def open(self) -> Position | None:
        self._last_sequence, _ = found = await self._ask("look", NatsState.look)
        position = self._position(*found)
        self._offset = None if position is None or not position.is_known else position.offset
        return position

    async def prepare(self, events: Sequence[Event]) -> None: ...

    async def write(self, batch: Batch) -> Position | None:
        if self._offset is not None and self._offset != batch.from_offset:
            raise Unavailable(f"nats: the batch begins at {batch.from_offset}, the position is {self._offset}")
        rejected = self._place.first_rejected(batch)
        if rejected is not None:
            before, refusal = rejected
            if before is not None:
                await self._write(before)
            raise refusal
        return await self._write(batch)

    async def move(self, offset: int) -> Position | None:
        position = await self.position()
        if position is not None and position.is_known and offset < position.offset:
            raise Misconfigured(f"nats: it stands at {position.offset} and cannot go back")
        return position

    async def position(self) -> Position | None:
        return self._position(*await self._ask("look", NatsState.look))

    async def close(self) -> None:
        self._offset = None

    async def _write(self, batch: Batch) -> Position | None:
        sequences = [event.sequence for event in batch.events]
        expected = self._last_sequence
        self._last_sequence = await self._ask(
            f"write {sequences} behind {expected}, to {batch.next_offset}",
            lambda state: state.write(expected, sequences, batch.next_offset),
        )
        self._offset = batch.next_offset
        return self._position(self._last_sequence, batch.next_offset)

    async def _ask(self, what: str, effect: Callable[[NatsState], T]) -> T:
        return await self._network.ask(self._process, self._place.server, what, effect)  # type: ignore[arg-type]

    def _position(self, last_sequence: int, offset: int | None) -> Position | None:
        if last_sequence == 0:
            return None
        known = OFFSET_UNKNOWN if offset is None else offset
        return Position(known, self._context.source_id, self.destination, str(last_sequence))


KIND = Kind(
    "nats",
    NatsState,
    SimulatedNats,
    SinkTraits("exactly_once", True, False, events_max=6, bytes_max=1 << 20),
    fails_over=True,
    stops_for_foreign=True,
    keeps_bare_offset=False,
)
