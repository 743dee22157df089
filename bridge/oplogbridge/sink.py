"""What a sink is: the contract, mostly prose. The executable half is `oplogbridge.testing.SinkContract`.

A sink delivers batches to one destination. The pipeline owns policy (batching, retry, backoff, dead letters); a sink
owns its protocol: it connects, fences, writes atomically and says which error means what.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol, runtime_checkable

import msgspec
from pydantic import BaseModel

from oplogbridge.values import Batch, Event, Headers, Position


@dataclass(frozen=True, slots=True)
class SinkContext:
    """For whom a sink works. `owner` is unique to one writer: it names what the sink keeps at the destination."""

    owner: str  # "{name}.{pipeline}", "{name}.{pipeline}.dead-letters", "{name}.{pipeline}.replay.{replay}"
    pipeline: str  # for destination templates
    source: str  # the source's name, for destination templates
    source_id: str  # what a position names: the source's `id`, by default its URL


class Refused(NamedTuple):
    """A destination cannot do what a pipeline may ask for; the configuration's mistake says why."""

    reason: str


NO_HEADERS = Refused("the destination has no headers for an event's attributes")
NO_TOMBSTONES = Refused("the destination has no records without a value")


@dataclass(frozen=True, slots=True)
class SinkTraits:
    """What a sink promises; the contract suite checks each one."""

    guarantee: Literal["exactly_once", "at_least_once"]
    holds_position: bool  # the destination itself proves an offset
    goes_back: bool  # `move` accepts an offset below the position
    events_max: int  # in one write
    bytes_max: int  # of payload in one write; a single larger event is still written or rejected
    # How CloudEvents' attributes are named in an event's headers (`mode: binary`): `ce_…` holds UTF-8, as on Kafka;
    # `ce-…` is percent-encoded, as on HTTP and NATS. `Event.headers` has them ready.
    binary: Literal["ce_", "ce-"] | Refused = NO_HEADERS
    # It writes the key of an `Event.tombstone` once more, without a value, right behind it and in the same step.
    tombstones: Literal[True] | Refused = NO_TOMBSTONES

    # Above 1, and only without a position: `write` is called with one event at a time, and for events of different keys
    # also at once. So many, counted from the lowest that is not delivered and saved, are under way at most.
    pending_max: int = 1


class Sink(Protocol):
    """Used by one task at a time: open, then any number of the others, then close; then perhaps open again. `prepare`
    alone is also called while another method is under way, and `write` where `pending_max` says so.

    Every method may be cancelled at any await; only `close` may be called after that. Every method raises
    `Unavailable`, `Misconfigured` or `Fenced` as their names say, within a deadline of its own: none hangs.
    """

    @property
    def destination(self) -> str:
        """Names the destination in positions and stored offsets, from the configuration alone: no password, no host."""

    async def open(self) -> Position | None:
        """Fence whoever had the destination before, or make their next write conflict; only then read the position.

        The sink mints its own token: the last opener wins, whatever any state store has forgotten. None means that
        the destination has no position for this owner.

        Raises:
            Misconfigured: Also when a position must be there but cannot be read, or the destination holds what this
                pipeline cannot have written. `move` is allowed after that: it is a person's decision (`offsets set`)
                to go on with what stands there. The pipeline itself never does.
        """

    async def prepare(self, events: Sequence[Event]) -> object:
        """Do ahead what the next `write` of these events needs no destination for: lay out, compress, pack.

        Called while an earlier write is in flight, so that both cost time only once; whatever it returns comes back as
        `batch.prepared`, unless that write fails. It changes nothing and asks nobody. None where there is nothing to
        gain, and `write` must do without, too: after a rejected event, and at a caller's who never prepares.
        """

    async def write(self, batch: Batch) -> Position | None:
        """Return when the batch is durable and the position is `batch.next_offset`: all of it or nothing.

        A sink without a position returns None. Where a write is more than one request it awaits
        `batch.save(offset)`, when there is one, as soon as everything below the offset is acknowledged: at least every
        10 requests and before it raises anything but `Rejected`. What was not saved is delivered again.

        Raises:
            Unavailable: Some or all of it may be durable, and `batch.from_offset` may not be the position. The
                pipeline closes the sink, opens it again and goes on from the position it finds.
            Rejected: Everything before the event is durable and the position is the event's sequence (or unchanged,
                when nothing came before it).
            Fenced: A newer opener owns the destination.
        """

    async def move(self, offset: int) -> Position | None:
        """Set the position without delivering: a resolved start, an operator's `offsets set`, or an interlude's begin
        and end. An interlude counts its own events under a source id of its own (`values.log_of`), so what is there of
        another source is no reason to refuse: only that of this one, and what stands in the destination itself.

        Raises:
            Misconfigured: The destination cannot go back, or can hold no position; the message says why.
        """

    async def position(self) -> Position | None:
        """Read the position again, for the heartbeat. Cheap, and changes nothing."""

    async def close(self) -> None:
        """Release everything, within a few seconds, whatever state the sink is in. Never raises. May come twice."""


@runtime_checkable
class Cautious(Protocol):
    """What a sink or a state store may also be able to do, for `check --connect`."""

    async def cautions(self) -> Sequence[str]:
        """Settings of the destination that weaken the promise, or will: eviction, one replica, retention. After `open`;
        one line each, which ends in the next step. Raises as `open` does."""


class Delivered(msgspec.Struct, frozen=True, gc=False):
    """One event as it stands at a destination. None where the destination does not show that part."""

    sequence: int | None  # None: not an event of ours, or no longer
    id: str | None  # the event's: its sequence in plain decimal, or a place
    key: bytes | None
    payload: bytes | None  # None: a tombstone
    lane: str  # within which the destination keeps an order: a partition, a stream, a file
    at: str  # where in the lane it stands, for messages
    headers: Headers = ()
    place: str | None = None  # as `Event.place`: it stands beside the log
    replay: str | None = None  # the replay that delivered it once more


@dataclass(frozen=True, slots=True)
class Lane:
    """What a reader knows of a lane without reading it."""

    name: str
    first_kept: int | None  # the lowest sequence that retention has left; what lies below it is trimmed, not missing
    thinned: str = ""  # why events may be gone from the middle by the destination's own rule, such as compaction


class DestinationReader(Protocol):
    """Reads what stands at a destination, beside whoever writes there: it fences nobody, writes nothing, and makes
    nothing that stays. Used by one task at a time. Every method raises `Unavailable` or `Misconfigured` as their names
    say, within a deadline of its own (`pages`: for each page).
    """

    async def open(self) -> Sequence[Lane]:
        """Connect, and look where each lane begins and ends now: what comes later is not read. A destination that is
        not there yet has no lanes."""

    def pages(self, lane: Lane, from_sequence: int, to_sequence: int) -> AsyncIterator[Sequence[Delivered]]:
        """The events of [from_sequence, to_sequence) in the lane's own order, in pages of a few MiB, of which none is
        kept. Those without a sequence come whatever the range is, wherever they are met; so do events that stand out
        of order. Only what is committed. Lanes may be read in turns, each by an iterator of its own, one page at a
        time."""

    async def kept(self) -> Sequence[Lane]:
        """The same lanes as retention has left them by now: it goes on while they are read."""

    def lane_of(self, event: Event) -> str:
        """The name of the lane in which this event belongs, whether there is such a lane or not. After `open`."""

    def shown(self, event: Event) -> bytes:
        """The payload as the destination shows it."""

    async def close(self) -> None:
        """Release everything. Never raises. May come twice."""


@dataclass(frozen=True, slots=True)
class SinkPlugin:
    """What an entry point of the group `oplogbridge.sinks` names.

    `settings` is a frozen pydantic model with `extra="forbid"`: the keys under `sink:` except `kind`.
    `permissions` lists the rights that the destination must grant, one line each, for `check --connect`.
    """

    kind: str
    summary: str  # one line for `oplog-bridge sinks`
    settings: type[BaseModel]
    traits: Callable[[Any], SinkTraits]
    build: Callable[[Any, SinkContext], Sink]
    permissions: Callable[[Any, SinkContext], list[str]]
    # Of settings and a name (a-z, 0-9, _ and -): which of them differ for a replay, when nobody says where it goes. A
    # destination that takes what it had before goes without; else this leads to another one, which may be made.
    aside: Callable[[Any, str], Mapping[str, Any]] = lambda _settings, _name: {}
    # Reads the destination back, for `verify`. What it must be allowed besides `permissions` is said in the same way.
    reader: Callable[[Any, SinkContext], DestinationReader] | None = None
    reader_permissions: Callable[[Any, SinkContext], list[str]] = lambda _settings, _context: []
