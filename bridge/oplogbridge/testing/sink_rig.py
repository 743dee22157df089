"""One destination under test, and the sentences that the suite over it is written in (`sink_contract`).

A rig is one empty destination and everything that the suite does to it from outside: read it back as a stranger would,
cut its connections, fill it with somebody else's events.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Literal, NamedTuple, TypeVar

from pydantic import BaseModel

from oplogbridge.errors import BridgeError, Unavailable
from oplogbridge.sink import DestinationReader, Sink, SinkContext, SinkPlugin, SinkTraits
from oplogbridge.values import Batch, Event, Position

SOURCE_ID = "https://run.example.com/api/v4/533bda53027894f69b001055"
FIRST = (1423124097 << 32) + 1  # a sequence of the vendor's kind: a double cannot hold it
T = TypeVar("T")
_TRIES_WITHOUT_A_FENCE = 10


class ReadBack(NamedTuple):
    """One event as an independent reader finds it. None where the destination has no place for that part."""

    payload: bytes
    key: bytes | None
    type: str | None
    headers: tuple[tuple[str, bytes], ...] | None


def make_event(sequence: int, **changes: Any) -> Event:
    object_id = f"{sequence % 7:024x}"
    event: dict[str, Any] = {
        "sequence": sequence,
        "id": str(sequence),
        "key": f"user/{object_id}".encode(),
        "type": "oplog.user.update",
        "time": "2015-02-05T08:15:17Z",
        "payload": b'{"id":"%d","data":{"name":"\xc3\x98l\xc3\xa9"}}' % sequence,
        "constant_headers": (("Oplog-Source", b"shop"),),
        "object_type": "user",
        "operation": "update",
    }
    return Event(**event | changes)


def make_batch(*events: Event | int, from_offset: int | None = None, next_offset: int | None = None) -> Batch:
    """A batch of events or of bare sequences; by default it begins at the first and ends behind the last."""
    made = [make_event(event) if isinstance(event, int) else event for event in events]
    first = made[0].sequence if from_offset is None else from_offset
    return Batch(made, first, made[-1].sequence + 1 if next_offset is None else next_offset)


class SinkRig(ABC):
    """One empty destination. A new rig for every test."""

    plugin: SinkPlugin
    settings: BaseModel
    deadline_seconds: float = 20.0  # within which every call must return or raise
    cancel_points_max: int = 40  # awaits of one write at which the suite cancels it, each in a write of its own
    rejected_bytes: int | None = None  # a payload of this size is rejected; None: no size is
    secrets: Sequence[str] = ()  # must never be shown

    # What an opener does to a predecessor that lives on: most take the destination from him, a file lock keeps it, and
    # where nothing can be taken the second of two writes fails, whosever it is.
    opening: Literal["fences", "is refused", "expects"] = "fences"
    keeps_bare_offset: bool = True  # `move` leaves an offset there that no event has

    @property
    def traits(self) -> SinkTraits:
        return self.plugin.traits(self.settings)

    def sink(self, source_id: str = SOURCE_ID, owner: str = "bridge.orders") -> Sink:
        """Another sink onto the same destination: a predecessor, a successor, a restart."""
        context = SinkContext(owner=owner, pipeline="orders", source="shop", source_id=source_id)
        return self.plugin.build(self.settings, context)

    def reader(self, owner: str = "bridge.orders") -> DestinationReader:
        """What the sink comes with to read its destination back."""
        assert self.plugin.reader is not None, f"{self.plugin.kind} has no reader"
        return self.plugin.reader(self.settings, SinkContext(owner, "orders", "shop", SOURCE_ID))

    async def may_read(self) -> None:  # noqa: B027 - most need no more
        """Grant what a reader must be allowed besides."""

    async def trim(self, kept: int) -> None:
        """Take away from the front, as the destination's own retention does, all but the last `kept` events."""
        raise NotImplementedError

    @abstractmethod
    async def read_back(self) -> list[ReadBack]:
        """All that a reader who knows nothing of the sink finds, in the destination's order."""

    def expected(self, event: Event) -> ReadBack:
        """How this destination shows an event."""
        return ReadBack(event.payload, event.key, event.type, event.headers)

    async def write_foreign(self) -> None:
        """Write into the destination as somebody else would."""
        raise NotImplementedError

    async def lose_writes(self) -> None:
        """Make the destination lose its last acknowledged write, as its own fail-over would."""
        raise NotImplementedError

    async def restart(self) -> None:
        """Kill the destination and start it again."""
        raise NotImplementedError

    def down(self) -> AbstractAsyncContextManager[None]:
        """The destination cannot be reached inside this context; afterwards it can."""
        raise NotImplementedError

    def cut(self, where: Literal["request", "reply"]) -> AbstractAsyncContextManager[None]:
        """The next write's connection is cut before all of its request arrived, or before its answer came back."""
        raise NotImplementedError

    async def connections(self) -> int:
        """How many connections the destination has from sinks of this rig."""
        return 0


# What the tests are written in -------------------------------------------------------------------------------------


async def within(rig: SinkRig, call: Awaitable[T]) -> T:
    """None of the contract's calls hangs."""
    async with asyncio.timeout(rig.deadline_seconds):
        return await call


@asynccontextmanager
async def opened(rig: SinkRig, **changes: Any) -> AsyncIterator[Sink]:
    sink = rig.sink(**changes)
    try:
        await within(rig, sink.open())
        yield sink
    finally:
        await within(rig, sink.close())


async def go_on(rig: SinkRig, sink: Sink, batches: Sequence[Batch]) -> None:
    """What the pipeline does after `Unavailable`: open, read the position, write what is missing. Where opening does
    not fence, what was sent before can still arrive, and then it does so again."""
    tries = _TRIES_WITHOUT_A_FENCE if rig.opening == "expects" else 1
    while True:
        tries -= 1
        try:
            position = await within(rig, sink.open())
            for batch in batches:
                rest = batch if position is None else _rest_of(batch, position.offset)
                if rest is not None:
                    await within(rig, sink.write(rest))
        except Unavailable:
            if tries == 0:
                raise
        else:
            return
        finally:
            await within(rig, sink.close())


def _rest_of(batch: Batch, offset: int) -> Batch | None:
    """What is missing of a batch. Only where a batch is not one step, the position lies within it."""
    if offset <= batch.from_offset:
        return batch
    events = [event for event in batch.events if event.sequence >= offset]
    return Batch(events, offset, batch.next_offset) if events else None


async def position_found_by_a_successor(rig: SinkRig) -> int | None:
    sink = rig.sink()
    try:
        return offset_of(await within(rig, sink.open()))
    finally:
        await within(rig, sink.close())


def offset_of(position: Position | None) -> int | None:
    return None if position is None else position.offset


async def assert_holds(rig: SinkRig, batches: Sequence[Batch]) -> None:
    """Exactly these events, in this order; where the promise is at least once, copies after the first don't count."""
    found = await rig.read_back()
    if rig.traits.guarantee == "at_least_once":
        found = list(dict.fromkeys(found))
    assert found == [rig.expected(event) for batch in batches for event in batch.events]


async def assert_nothing_left(rig: SinkRig, tasks_before: set[asyncio.Task[object]], connections_before: int) -> None:
    """A server (or a proxy in this very loop) learns of a closed socket a moment after us."""
    async with asyncio.timeout(rig.deadline_seconds):
        while await rig.connections() > connections_before or asyncio.all_tasks() - tasks_before:  # noqa: ASYNC110
            await asyncio.sleep(0)


def chain(error: BaseException | None) -> list[str]:
    """All that a log of this error could show."""
    texts = []
    while error is not None:
        texts += [str(error), repr(error)]
        error = error.__cause__ or error.__context__
    return texts


def assert_ends_in_a_next_step(error: BridgeError) -> None:
    text = str(error)
    assert "\n" not in text
    assert ";" in text or ":" in text, f"no next step in {text!r}"
