"""What the instances of a `World` have of the outer world: a source that is scripted, and gates in front of everything.

A gate stands between one instance and the source, the store and the sinks. Each call has a name (`store.save`,
`sink.write`, `client.poll`); a test holds, fails or kills the instance at a call, before it takes effect or after.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left, insort
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

from oplogbridge.clock import Clock
from oplogbridge.errors import Unavailable
from oplogbridge.sink import Sink
from oplogbridge.source.decode import PageDecoder, PageUnreadable
from oplogbridge.source.reader import ClosableClient
from oplogbridge.state import StateStore
from oplogbridge.values import Page

When = Literal["before", "after"]
T = TypeVar("T")


class Killed(Exception):
    """The instance is dead; nobody sees this but its own remains."""


class Late(Exception):
    """Raised by `at_step`: the request is sent, and takes effect after its caller has given it up."""


@dataclass
class Hold:
    """One call, held. Await `reached`, look around, then `release`."""

    name: str
    when: When
    skip: int
    _reached: asyncio.Event = field(default_factory=asyncio.Event)
    _released: asyncio.Event = field(default_factory=asyncio.Event)

    async def reached(self) -> None:
        async with asyncio.timeout(10):
            await self._reached.wait()

    @property
    def is_reached(self) -> bool:
        return self._reached.is_set()

    def release(self) -> None:
        self._released.set()

    async def hold(self) -> None:
        self._reached.set()
        await self._released.wait()


@dataclass
class Failure:
    name: str
    when: When
    times: int
    error: Exception


@dataclass
class Gate:
    dead: bool = False
    calls: list[str] = field(default_factory=list)
    holds: list[Hold] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    # Awaited at each step (name, when) of each call; a simulation kills, fails or delays from here.
    at_step: Callable[[str, When], Awaitable[None]] | None = None
    # Takes over a request that the caller gives up: it will take effect later, or when the test likes.
    late: Callable[[Callable[[], Awaitable[Any]]], None] | None = None

    def hold(self, name: str, when: When = "before", *, skip: int = 0) -> Hold:
        """Hold the next call of this name (after `skip` others)."""
        hold = Hold(name, when, skip)
        self.holds.append(hold)
        return hold

    def fail(self, name: str, when: When = "before", *, times: int = 1, error: Exception | None = None) -> None:
        """Let calls fail; `after` means that they took effect and their answer was lost."""
        self.failures.append(Failure(name, when, times, error or Unavailable(f"the test lets {name} fail")))

    async def through(self, name: str, call: Callable[[], Awaitable[T]]) -> T:
        self.calls.append(name)
        try:
            await self._step(name, "before")
        except Late:
            assert self.late is not None, "nobody takes it over"
            self.late(call)
            raise Unavailable(f"{name} was given up, it is still on its way") from None
        answer = await call()
        await self._step(name, "after")
        return answer

    async def _step(self, name: str, when: When) -> None:
        if self.at_step is not None:
            await self.at_step(name, when)
        for hold in [one for one in self.holds if (one.name, one.when) == (name, when)]:
            if hold.skip > 0:
                hold.skip -= 1
                continue
            self.holds.remove(hold)
            await hold.hold()
        if self.dead:
            raise Killed(name)
        for failure in [one for one in self.failures if (one.name, one.when) == (name, when)]:
            failure.times -= 1
            if failure.times <= 0:
                self.failures.remove(failure)
            raise failure.error


class GatedSink:
    def __init__(self, inner: Sink, gate: Gate) -> None:
        self._inner = inner
        self._gate = gate
        self.open_now = False

    @property
    def destination(self) -> str:
        return self._inner.destination

    async def open(self) -> Any:
        self.open_now = True
        return await self._gate.through("sink.open", self._inner.open)

    async def prepare(self, events: Any) -> object:
        return await self._gate.through("sink.prepare", lambda: self._inner.prepare(events))

    async def write(self, batch: Any) -> Any:
        return await self._gate.through("sink.write", lambda: self._inner.write(batch))

    async def move(self, offset: int) -> Any:
        return await self._gate.through("sink.move", lambda: self._inner.move(offset))

    async def position(self) -> Any:
        return await self._gate.through("sink.position", self._inner.position)

    async def close(self) -> None:
        if not self._gate.dead:
            await self._gate.through("sink.close", self._inner.close)
        self.open_now = False


class GatedStore:
    """A `StateStore` behind a gate."""

    def __init__(self, inner: StateStore, gate: Gate) -> None:
        self._inner = inner
        self._gate = gate

    async def open(self) -> None:
        await self._inner.open()

    async def close(self) -> None:
        await self._inner.close()

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
        method = getattr(self._inner, name)

        async def through(*arguments: Any, **named: Any) -> Any:
            if self._gate.dead:
                raise Unavailable("killed")
            try:
                return await self._gate.through(f"store.{name}", lambda: method(*arguments, **named))
            except Killed:
                raise Unavailable("killed") from None

        return through


class GatedClient:
    def __init__(self, inner: ClosableClient, gate: Gate) -> None:
        self._inner = inner
        self._gate = gate
        self.closed = False

    async def poll(self, offset: int) -> Page:
        return await self._gate.through("client.poll", lambda: self._inner.poll(offset))

    async def poll_tail(self) -> Page:
        return await self._gate.through("client.poll_tail", self._inner.poll_tail)

    async def ask(self, *arguments: Any, **named: Any) -> Any:
        return await self._gate.through("client.ask", lambda: self._inner.ask(*arguments, **named))

    async def close(self) -> None:
        self.closed = True
        await self._inner.close()


Answer = Exception | bytes


class ScriptedSource:
    """An oplog in memory, served as bytes and read by the real decoder. `polls` is its own record: (when, offset)."""

    def __init__(self, clock: Clock, *, page_limit: int = 3) -> None:
        self.page_limit = page_limit
        self.polls: list[tuple[float, int]] = []
        self.tails = 0
        self.in_flight = 0
        self.in_flight_most = 0
        self.answers: deque[Answer | None] = deque()  # for the next polls; None is an honest one
        self.beside: dict[str, Any] = {}  # by path
        self._clock = clock
        self._entries: list[tuple[int, bytes]] = []

    @property
    def sequences(self) -> list[int]:
        return [sequence for sequence, _ in self._entries]

    @property
    def poll_times(self) -> list[float]:
        return [when for when, _ in self.polls]

    @property
    def poll_offsets(self) -> list[int]:
        return [offset for _, offset in self.polls]

    def append(self, count: int = 1, *, type_: str = "user", step: int = 1, body: bytes | None = None) -> list[int]:
        """Write entries; their sequences are the next ones, `step` apart."""
        made = []
        for _ in range(count):
            sequence = (self._entries[-1][0] if self._entries else 0) + step
            self.put(sequence, type_=type_, body=body)
            made.append(sequence)
        return made

    def put(self, sequence: int, *, type_: str = "user", body: bytes | None = None) -> int:
        """Write the entry of one sequence. `body` is all that follows the number, `malformed` entries are made so."""
        if body is None:
            body = b'"operation":"update","events":[],"object":{"id":"%d","type":"%b","name":"n"}' % (
                sequence % 3,
                type_.encode(),
            )
        insort(self._entries, (sequence, body))
        return sequence

    def put_malformed(self, sequence: int) -> int:
        return self.put(sequence, body=b'"operation":"update","object":{"type":"user"}')

    def client(self) -> ScriptedClient:
        return ScriptedClient(self)

    def page(self, offset: int, limit: int | None = None) -> bytes:
        first = bisect_left(self._entries, (offset, b""))
        last = first + (self.page_limit if limit is None else limit)
        return self._body(self._entries[first:last], more=last < len(self._entries), start=offset)

    async def answer(self, offset: int) -> bytes:
        self.polls.append((self._clock.monotonic(), offset))
        answer = self.answers.popleft() if self.answers else None
        self.in_flight += 1
        self.in_flight_most = max(self.in_flight, self.in_flight_most)
        try:
            await asyncio.sleep(0)
            if isinstance(answer, Exception):
                raise answer
            return self.page(offset) if answer is None else answer
        finally:
            self.in_flight -= 1

    async def answer_tail(self) -> bytes:
        self.tails += 1
        self.polls.append((self._clock.monotonic(), -1))
        answer = self.answers.popleft() if self.answers else None
        if isinstance(answer, Exception):
            raise answer
        return self._body(self._entries[-400:], more=False, start=0)

    async def answer_beside(self, path: str, **_: object) -> Any:
        """To anything but a poll: what a test put there."""
        self.polls.append((self._clock.monotonic(), -2))
        await asyncio.sleep(0)
        answer = self.beside[path]
        if isinstance(answer, Exception):
            raise answer
        return answer

    def _body(self, rows: list[tuple[int, bytes]], *, more: bool, start: int) -> bytes:
        shown = b",".join(b'{"sequence_id":"%d",%b}' % row for row in rows)
        following = rows[-1][0] + 1 if rows else start
        return b'{"entries":[%b],"datamodel_hash":"d9cca7","has_more":%b,"next_request_start":"%d"}' % (
            shown,
            b"true" if more else b"false",
            following,
        )


class ScriptedClient:
    def __init__(self, source: ScriptedSource) -> None:
        self._source = source
        self._decoder = PageDecoder()

    async def poll(self, offset: int) -> Page:
        return self._decode(await self._source.answer(offset), offset)

    async def poll_tail(self) -> Page:
        return self._decode(await self._source.answer_tail(), 0)

    async def ask(self, path: str, *_: object, **named: object) -> Any:
        return await self._source.answer_beside(path, **named)

    async def close(self) -> None: ...

    def _decode(self, body: bytes, offset: int) -> Page:
        try:
            return self._decoder.decode(body, offset)
        except PageUnreadable as error:
            raise Unavailable(str(error)) from error
