"""What all simulated destinations have: what a reader of committed data sees, and what they can lose."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from oplogbridge.errors import Rejected
from oplogbridge.sink import Sink, SinkContext, SinkTraits
from oplogbridge.values import Batch
from simulation.loop import Process
from simulation.network import Network, Server

FOREIGN = -1  # stands in a log for what somebody else wrote


class State(Protocol):
    def logs(self) -> Sequence[Sequence[int]]:
        """The sequences that a reader of committed data sees, in order, for each partition."""

    def offset(self) -> int | None:
        """What it keeps as its position, if it keeps one."""

    def behind(self, writes: int) -> State:
        """What a replica has that missed so many acknowledged writes."""

    def recreated(self) -> State:
        """Somebody deleted it and made an empty one of the same name."""

    def write_foreign(self) -> None:
        """Somebody else writes into the log."""


S = TypeVar("S", bound=State)


@dataclass
class Place:
    """One destination of one pipeline."""

    server: Server[State]
    rejected: set[int] = field(default_factory=set)

    def first_rejected(self, batch: Batch) -> tuple[Batch | None, Rejected] | None:
        """What must be delivered before `Rejected` is raised, where this destination refuses an event for good."""
        for index, event in enumerate(batch.events):
            if event.sequence in self.rejected:
                return batch.before(index), Rejected(event, "it is refused here")
        return None


class MakeSink(Protocol):
    def __call__(self, process: Process, place: Place, network: Network, context: SinkContext) -> Sink: ...


@dataclass(frozen=True)
class Kind:
    """One sort of destination."""

    name: str
    make_state: type[State]
    make_sink: MakeSink
    traits: SinkTraits
    partitions: int = 1
    keeps_bare_offset: bool = True  # an offset that no event has
    fails_over: bool = False  # to something that lost acknowledged writes, and shows it
    stops_for_foreign: bool = False  # somebody else's write in its log is for a person
    order: str = "log"  # or "key": only events of one key are in order

    def partition_of(self, sequence: int) -> int:
        return sequence % self.partitions
