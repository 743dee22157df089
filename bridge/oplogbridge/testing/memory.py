"""A sink in memory: the contract in its plainest form, and the faults that a destination can have.

It guarantees exactly once within one process: a `MemoryDestination` is shared by name, so a predecessor and its
successor meet there as two processes meet at a server. Kill, restart and fail-over are what a test does to it.

    destination = MemoryDestination.named("orders")
    destination.lose_replies(1)              # the next write is applied, its answer is not
    await destination.delivered(2)           # wait for a signal, not for a time
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from pydantic import BaseModel, Field

from oplogbridge.errors import Misconfigured, Rejected, Unavailable
from oplogbridge.sink import SinkContext, SinkPlugin, SinkTraits
from oplogbridge.templates import Template
from oplogbridge.testing.memory_destination import MemoryDestination
from oplogbridge.values import Batch, Event, Position


class MemorySettings(BaseModel, frozen=True, extra="forbid"):
    name: str = "{source}"
    holds_position: bool = True
    goes_back: bool = True
    events_max: int = Field(default=4_000, ge=1)
    event_bytes_max: int | None = Field(default=None, ge=1)  # a larger event is rejected
    log_events_max: int | None = Field(default=None, ge=1)  # the oldest go first; a benchmark must not fill the memory


class MemorySink:
    """See `MemoryDestination`."""

    def __init__(self, settings: MemorySettings, context: SinkContext) -> None:
        constants = {"source": context.source, "pipeline": context.pipeline}
        name = Template(settings.name, constants=constants).constant
        if name is None:
            raise Misconfigured("memory: a name is one place; use {source} and {pipeline} only")
        self._settings = settings
        self._context = context
        self._at = MemoryDestination.named(name)
        self._token: int | None = None
        self._refused = False

    @property
    def destination(self) -> str:
        return f"memory:{self._at.name}"

    async def open(self) -> Position | None:
        await asyncio.sleep(0)  # as a real one would, it lets others run
        self._at.check_up()
        self._refused = True  # until what stands there was found to be ours
        self._at.check_own(self._context.owner)
        self._refused = False
        self._token = self._at.take()
        return self._at.position

    async def prepare(self, events: Sequence[Event]) -> object:
        await asyncio.sleep(0)
        return [event.sequence for event in events]

    async def write(self, batch: Batch) -> Position | None:
        assert batch.prepared in (None, [event.sequence for event in batch.events]), "prepared for another batch"
        await asyncio.sleep(0)
        await self._at.pass_before()
        self._check()
        self._at.check_own(self._context.owner)
        self._check_offset(batch)
        for index, event in enumerate(batch.events):
            reason = self._at.rejection(event, self._settings.event_bytes_max)
            if reason is not None:
                before = batch.before(index)
                if before is not None:
                    await self._apply(before)
                raise Rejected(event, reason)
        return await self._apply(batch)

    async def move(self, offset: int) -> Position | None:
        if not self._settings.holds_position:
            raise Misconfigured("memory: it holds no position here, so there is none to move; the state store has it")
        await asyncio.sleep(0)
        if self._refused:  # `open` would not take what stands there; a person did
            self._at.check_up()
            self._token, self._refused = self._at.take(), False
        self._check()
        position = self._at.position
        comparable = position is not None and position.source == self._context.source_id  # else it counts other things
        if comparable and position is not None and offset < position.offset and not self._settings.goes_back:
            raise Misconfigured(
                f"memory: it stands at {position.offset} and cannot go back to {offset}; replay into another one"
            )
        moved = Position(offset, self._context.source_id, self.destination)
        self._at.move(moved, self._context.owner)
        return moved

    async def position(self) -> Position | None:
        await asyncio.sleep(0)
        self._check()
        return self._at.position

    async def close(self) -> None:
        self._token = None
        self._refused = False

    async def _apply(self, batch: Batch) -> Position | None:
        position = self._position(batch.next_offset)
        owner = self._context.owner if self._settings.holds_position else None
        self._at.apply(batch, position, owner, self._settings.log_events_max)
        await self._at.pass_after()
        return position

    def _position(self, offset: int) -> Position | None:
        if not self._settings.holds_position:
            return None
        return Position(offset, self._context.source_id, self.destination)

    def _check(self) -> None:
        if self._token is None:
            raise Unavailable("memory: it is not open; open it first")
        self._at.check_up()
        self._at.check_token(self._token)

    def _check_offset(self, batch: Batch) -> None:
        position = self._at.position
        if position is not None and position.offset != batch.from_offset:
            raise Unavailable(
                f"memory: the batch begins at {batch.from_offset}, the position is {position.offset}; go on from there"
            )


def _traits(settings: MemorySettings) -> SinkTraits:
    return SinkTraits(
        guarantee="exactly_once" if settings.holds_position else "at_least_once",
        holds_position=settings.holds_position,
        goes_back=settings.goes_back and settings.holds_position,
        events_max=settings.events_max,
        bytes_max=settings.event_bytes_max or 16 * 1024 * 1024,
    )


plugin = SinkPlugin(
    kind="memory",
    summary="a log in this process, for tests and benchmarks; gone when it ends",
    settings=MemorySettings,
    traits=_traits,
    build=MemorySink,
    permissions=lambda _settings, _context: [],
)
