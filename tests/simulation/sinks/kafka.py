"""Kafka: transactions, fenced by the producer's epoch; a coordinator that can forget to write a transaction's end.

Two partitions hold events, one the checkpoint. A reader of committed data stops at the first open record of a
partition.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from aiokafka import TopicPartition

from oplogbridge.errors import Fenced, Unavailable
from oplogbridge.sink import SinkContext, SinkTraits
from oplogbridge.values import Batch, Event, Position
from oplogbridge_sinks.kafka.orphans import Orphan, outcome_is_commit
from oplogbridge_sinks.kafka.producer import LastTransaction
from simulation.loop import Process
from simulation.network import Network
from simulation.sinks.place import FOREIGN, Kind, Place

PARTITIONS = 2
CHECKPOINT = PARTITIONS
End = Literal["open", "committed", "aborted"]
KEPT_MAX = 6


@dataclass
class Record:
    value: int  # a sequence, or the checkpoint's offset
    epoch: int
    end: End = "open"


@dataclass
class KafkaState:
    partitions: list[list[Record]] = field(default_factory=lambda: [[] for _ in range(PARTITIONS + 1)])
    epoch: int = 0
    restored: int = 0  # how often this cluster was put back to an earlier state; its producers must begin anew
    ongoing: bool = False  # a transaction of this epoch
    last: LastTransaction | None = None  # what the coordinator remembers
    forgets: list[int] = field(default_factory=list)  # at the next commit: partitions whose markers are never written
    earlier: list[KafkaState] = field(default_factory=list)

    def logs(self) -> Sequence[Sequence[int]]:
        return [_committed(partition) for partition in self.partitions[:PARTITIONS]]

    def offset(self) -> int | None:
        return self.checkpoint()

    def behind(self, writes: int) -> KafkaState:
        missed = self.earlier[-writes:] if writes else []
        return replace(_copy(missed[0] if missed else self), restored=self.restored + 1)

    def recreated(self) -> KafkaState:
        return KafkaState(restored=self.restored + 1)

    def write_foreign(self) -> None:
        for partition in self.partitions[:PARTITIONS]:
            partition.append(Record(FOREIGN, -1, "committed"))

    def begin_epoch(self) -> tuple[tuple[int, int], LastTransaction | None]:
        """Fence whoever was before and abort what they left open."""
        self.earlier.append(_copy(self))
        del self.earlier[:-KEPT_MAX]
        last = self.last
        if self.ongoing:
            self._end(self.epoch, "aborted", range(PARTITIONS + 1))
            self.ongoing = False
        self.epoch += 1
        return (self.restored, self.epoch), last

    def orphans(self) -> tuple[list[Orphan], list[int]]:
        """What stands open though no transaction is going on, and the highest that each other partition shows."""
        found = [
            Orphan(TopicPartition("t", number), record.epoch, None if number == CHECKPOINT else record.value)
            for number, partition in enumerate(self.partitions)
            for record in partition
            if record.end == "open" and record.epoch < self.epoch
        ]
        blocked = {orphan.partition.partition for orphan in found}
        epochs = {orphan.epoch for orphan in found}
        visible = [
            max(
                [record.value for record in partition if record.end == "committed" and record.epoch in epochs],
                default=0,
            )
            for number, partition in enumerate(self.partitions[:PARTITIONS])
            if number not in blocked
        ]
        return found, visible

    def end_orphans(self, producer: tuple[int, int], *, commit: bool) -> None:
        epoch = self._checked(producer)
        for partition in self.partitions:
            for record in partition:
                if record.end == "open" and record.epoch < epoch:
                    record.end = "committed" if commit else "aborted"

    def checkpoint(self) -> int | None:
        committed = _committed(self.partitions[CHECKPOINT])
        return committed[-1] if committed else None

    def produce(self, producer: tuple[int, int], sequences: Sequence[int], offset: int) -> None:
        epoch = self._checked(producer)
        self.ongoing = True
        for sequence in sequences:
            self.partitions[sequence % PARTITIONS].append(Record(sequence, epoch))
        self.partitions[CHECKPOINT].append(Record(offset, epoch))

    def commit(self, producer: tuple[int, int]) -> None:
        epoch = self._checked(producer)
        if not self.ongoing:
            raise Unavailable("kafka: no such transaction")
        self.earlier.append(_copy(self))
        del self.earlier[:-KEPT_MAX]
        forgets, self.forgets = self.forgets, []
        self._end(epoch, "committed", [number for number in range(PARTITIONS + 1) if number not in forgets])
        self.ongoing = False
        self.last = LastTransaction("CompleteCommit", 0, epoch)
        if forgets:
            raise Unavailable("kafka: the coordinator died while it committed")

    def _checked(self, producer: tuple[int, int]) -> int:
        restored, epoch = producer
        if restored != self.restored:
            raise Unavailable("kafka: the producer is not known")
        if epoch != self.epoch:
            raise Fenced("kafka: another process opened this pipeline's destination")
        return epoch

    def _end(self, epoch: int, end: End, partitions: Sequence[int] | range) -> None:
        for number in partitions:
            for record in self.partitions[number]:
                if record.end == "open" and record.epoch == epoch:
                    record.end = end


def _committed(partition: list[Record]) -> list[int]:
    values = []
    for record in partition:
        if record.end == "open":
            break
        if record.end == "committed":
            values.append(record.value)
    return values


def _copy(state: KafkaState) -> KafkaState:
    partitions = [[replace(record) for record in partition] for partition in state.partitions]
    return replace(state, partitions=partitions, forgets=[], earlier=[])


class SimulatedKafka:
    def __init__(self, process: Process, place: Place, network: Network, context: SinkContext) -> None:
        self._process = process
        self._place = place
        self._network = network
        self._context = context
        self._producer = (-1, -1)
        self._offset: int | None = None
        self.destination = f"kafka:{context.pipeline}"

    async def open(self) -> Position | None:
        self._producer, last = await self._ask("begin epoch", KafkaState.begin_epoch)
        orphans, visible = await self._ask("orphans", KafkaState.orphans)
        if orphans:
            offset = await self._ask("checkpoint", KafkaState.checkpoint)
            commit = outcome_is_commit(orphans, last, offset or 0, visible)
            await self._ask(f"end orphans {commit=}", lambda state: state.end_orphans(self._producer, commit=commit))
        self._offset = await self._ask("checkpoint", KafkaState.checkpoint)
        return self._position(self._offset)

    async def prepare(self, events: Sequence[Event]) -> None: ...

    async def write(self, batch: Batch) -> Position | None:
        rejected = self._place.first_rejected(batch)
        if rejected is not None:
            before, refusal = rejected
            if before is not None:
                await self._transaction([event.sequence for event in before.events], before.next_offset)
            raise refusal
        if self._offset != batch.from_offset:
            raise Unavailable(f"kafka: the batch begins at {batch.from_offset}, the position is {self._offset}")
        return await self._transaction([event.sequence for event in batch.events], batch.next_offset)

    async def move(self, offset: int) -> Position | None:
        return await self._transaction([], offset)

    async def position(self) -> Position | None:
        return self._position(await self._ask("checkpoint", KafkaState.checkpoint))

    async def close(self) -> None:
        self._offset = None

    async def _transaction(self, sequences: Sequence[int], offset: int) -> Position | None:
        producer = self._producer
        await self._ask(f"produce {sequences}", lambda state: state.produce(producer, sequences, offset))
        await self._ask(f"commit to {offset}", lambda state: state.commit(producer))
        self._offset = offset
        return self._position(offset)

    async def _ask(self, what, effect):  # type: ignore[no-untyped-def]
        return await self._network.ask(self._process, self._place.server, what, effect)

    def _position(self, offset: int | None) -> Position | None:
        return None if offset is None else Position(offset, self._context.source_id, self.destination)


KIND = Kind(
    "kafka",
    KafkaState,
    SimulatedKafka,
    SinkTraits("exactly_once", True, True, events_max=8, bytes_max=1 << 20),
    partitions=PARTITIONS,
    fails_over=True,
)
