"""What becomes of a request: it arrives, or not, or late, and so does its answer. Whoever asked knows only the answer.

A request takes effect at its server in one step, at a moment of its own: also when whoever sent it has died, sleeps, or
has given up waiting. That is where ambiguity comes from, and why nothing in memory may be trusted after it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any, Generic, TypeVar

from oplogbridge.errors import BridgeError, Unavailable
from simulation.loop import Process, SimulatedLoop

S = TypeVar("S")
T = TypeVar("T")

DEADLINE_SECONDS = 5.0  # of every client but the source's


@dataclass
class Server(Generic[S]):
    """One address, and what stands behind it. In a split some clients still reach the primary that was replaced."""

    name: str
    state: S
    is_up: bool = True
    delays_requests: bool = True  # else only answers take long: nobody can keep a pace that the network stretches
    old: S | None = None
    old_clients: frozenset[str] = frozenset()

    def state_for(self, client: Process) -> S:
        if self.old is not None and client.name in self.old_clients:
            return self.old
        return self.state

    def split(self, old: S, clients: frozenset[str]) -> None:
        self.old, self.old_clients = old, clients

    def heal(self) -> None:
        """What the old primary took since the split is gone."""
        self.old, self.old_clients = None, frozenset()


@dataclass
class Weather:
    """How often, of a hundred, something happens to a request; nothing does when the faults have ended."""

    request_lost: float = 0.0
    answer_lost: float = 0.0
    slow: float = 0.0
    slow_seconds_max: float = 8.0  # longer than the deadline: what was given up arrives all the same


@dataclass
class Network:
    loop: SimulatedLoop
    random: Random
    note: Callable[[str], None]  # into the trace
    after_effect: Callable[[str], None]  # the oracle looks
    weather: Weather = field(default_factory=Weather)
    cuts: set[tuple[str, str]] = field(default_factory=set)  # from whom to whom nothing goes

    async def ask(
        self,
        client: Process,
        server: Server[S],
        what: str,
        effect: Callable[[S], T],
        *,
        deadline_seconds: float = DEADLINE_SECONDS,
    ) -> T:
        """Raises what `effect` raises, and Unavailable when no answer came in time."""
        loop = self.loop
        answer = loop.create_future()
        where = f"{client.name} -> {server.name}: {what}"

        def give_up() -> None:
            if not answer.done():
                answer.set_exception(Unavailable(f"{server.name}: no answer to {what}"))

        def arrive() -> None:
            if (client.name, server.name) in self.cuts or self._strikes(self.weather.request_lost):
                self.note(f"{where}: lost on its way")
                return
            error: BridgeError | None = None
            result: Any = None
            if not server.is_up:
                error = Unavailable(f"{server.name} is down")
            else:
                try:
                    result = effect(server.state_for(client))
                except BridgeError as refused:
                    error = refused
            self.note(f"{where}: {result if error is None else repr(error)}")
            self.after_effect(where)
            loop.call_by_world(self._latency(), reply, error, result)

        def reply(error: BridgeError | None, result: Any) -> None:
            if (server.name, client.name) in self.cuts or self._strikes(self.weather.answer_lost):
                self.note(f"{where}: the answer is lost")
            elif answer.done():
                return
            elif error is not None:
                answer.set_exception(error)
            else:
                answer.set_result(result)

        deadline = loop.call_later(deadline_seconds, give_up)
        loop.call_by_world(self._latency() if server.delays_requests else self._soon(), arrive)
        try:
            found: T = await answer
        finally:
            deadline.cancel()
            if answer.done() and not answer.cancelled():
                answer.exception()  # seen, also by whoever was cancelled in the moment in which it came
        return found

    def _strikes(self, percent: float) -> bool:
        return percent > 0 and self.random.random() * 100 < percent

    def _latency(self) -> float:
        if self._strikes(self.weather.slow):
            return self.random.random() * self.weather.slow_seconds_max
        return self._soon()

    def _soon(self) -> float:
        return 0.0005 + self.random.random() * 0.004
