"""The state store as a server: the rules of the real ones, a clock of its own, and what fail-over does to it."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from dataclasses import replace
from typing import Any, TypeVar

from oplogbridge.state import AuditRecord, Holder, LeaseToken, Stored
from oplogbridge.state.memory import Memory, MemoryStateStore
from simulation.loop import Process, SimulatedLoop
from simulation.network import Network, Server

T = TypeVar("T")

KEPT_STATES_MAX = 6  # how far behind a replica can be


class StoreClock:
    """The server's, which can jump and takes leases along."""

    def __init__(self, loop: SimulatedLoop) -> None:
        self._loop = loop
        self.ahead_seconds = 0.0

    def monotonic(self) -> float:
        return self._loop.now + self.ahead_seconds

    def unix(self) -> float:
        return self.monotonic()

    async def sleep(self, seconds: float) -> None:
        raise NotImplementedError


class StoreState:
    def __init__(self, clock: StoreClock, memory: Memory | None = None) -> None:
        self.clock = clock
        self.memory = Memory() if memory is None else memory
        self.rules = MemoryStateStore(clock, self.memory)
        now(self.rules.open())
        self.earlier: list[Memory] = []  # oldest first: what a replica that missed something may still have

    def keep_for_replicas(self) -> None:
        self.earlier.append(_copy(self.memory))
        del self.earlier[:-KEPT_STATES_MAX]

    def behind(self, changes: int) -> StoreState:
        """What a replica has that missed so many changes."""
        missed = self.earlier[-changes:] if changes else []
        return StoreState(self.clock, missed[0] if missed else _copy(self.memory))


class SimulatedStore:
    """Implements `StateStore` for one process."""

    def __init__(self, process: Process, server: Server[StoreState], network: Network) -> None:
        self._process = process
        self._server = server
        self._network = network

    async def open(self) -> None: ...

    async def close(self) -> None: ...

    async def acquire(self, source: str, holder: Holder, ttl_seconds: float) -> str | None:
        return await self._ask("acquire", lambda rules: rules.acquire(source, holder, ttl_seconds), changes=True)

    async def renew(self, source: str, token: str, ttl_seconds: float) -> None:
        await self._ask("renew", lambda rules: rules.renew(source, token, ttl_seconds), changes=True)

    async def release(self, source: str, token: str) -> None:
        await self._ask("release", lambda rules: rules.release(source, token), changes=True)

    async def holder(self, source: str) -> Holder | None:
        return await self._ask("holder", lambda rules: rules.holder(source))

    async def load(self, source: str, token: str, pipeline: str) -> Stored | None:
        return await self._ask(f"load {pipeline}", lambda rules: rules.load(source, token, pipeline))

    async def save(self, source: str, token: str, pipeline: str, stored: Stored, *, replacing: Stored | None) -> None:
        await self._ask(
            f"save {pipeline} {stored.offset} {stored.mark}",
            lambda rules: rules.save(source, token, pipeline, stored, replacing=replacing),
            changes=True,
        )

    async def peek(self, pipeline: str) -> Stored | None:
        return await self._ask("peek", lambda rules: rules.peek(pipeline))

    async def notes(self, kind: str) -> dict[str, str]:
        return await self._ask(f"notes {kind}", lambda rules: rules.notes(kind))

    async def note(
        self,
        kind: str,
        changes: Mapping[str, str | None],
        *,
        expected: Mapping[str, str | None] | None = None,
        under: LeaseToken | None = None,
    ) -> bool:
        return await self._ask(
            f"note {kind} {sorted(changes)}",
            lambda rules: rules.note(kind, changes, expected=expected, under=under),
            changes=True,
        )

    async def record(self, record: AuditRecord) -> None:
        await self._ask("record", lambda rules: rules.record(record), changes=True)

    async def audit(self, records_max: int) -> list[AuditRecord]:
        return await self._ask("audit", lambda rules: rules.audit(records_max))

    async def _ask(
        self, what: str, request: Callable[[MemoryStateStore], Coroutine[Any, Any, T]], *, changes: bool = False
    ) -> T:
        def effect(state: StoreState) -> T:
            if changes:
                state.keep_for_replicas()
            return now(request(state.rules))

        return await self._network.ask(self._process, self._server, what, effect)


def now(coroutine: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine that never waits."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        result: T = stop.value
        return result
    raise AssertionError("it waits")


def _copy(memory: Memory) -> Memory:
    return replace(
        memory,
        leases={source: replace(lease) for source, lease in memory.leases.items()},
        epochs=dict(memory.epochs),
        offsets=dict(memory.offsets),
        notes={kind: dict(notes) for kind, notes in memory.notes.items()},
        audit=memory.audit.copy(),
    )
