"""The oplog as a server, within its rules: entries ascend, pages have any size; and now and then what proxies make."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from random import Random
from typing import Literal

from oplogbridge.errors import Unavailable
from oplogbridge.source.decode import PageDecoder, PageUnreadable
from oplogbridge.values import Page
from simulation.loop import Process
from simulation.network import Network, Server

EntryKind = Literal["sound", "other type", "malformed"]
POLL_DEADLINE_SECONDS = 10.0


@dataclass
class SourceState:
    random: Random
    page_limit: int
    sequences: list[int] = field(default_factory=list)
    entries: list[bytes] = field(default_factory=list)
    polls: list[tuple[float, str]] = field(default_factory=list)  # when they arrived, and whose
    oddity: float = 0.0  # of a hundred pages, how many are odd

    def append(self, sequence: int, kind: EntryKind, written_unix_seconds: float) -> None:
        """It may have been written before others that came earlier: a transaction that committed late."""
        stamp = datetime.fromtimestamp(int(written_unix_seconds), UTC).strftime("%Y-%m-%dT%H:%M:%SZ").encode()
        rest = (
            b'"operation":"update","object":{"type":"user"}'
            if kind == "malformed"
            else (
                b'"operation":"update","events":[],"object":{"id":"%d","type":"%b","updated_at":"%b"}'
                % (sequence % 3, b"order" if kind == "other type" else b"user", stamp)
            )
        )
        place = bisect_left(self.sequences, sequence)
        self.sequences.insert(place, sequence)
        self.entries.insert(place, b'{"sequence_id":"%d",%b}' % (sequence, rest))

    def page(self, now: float, client: str, offset: int) -> bytes:
        self.polls.append((now, client))
        first = bisect_left(self.sequences, offset)
        last = min(first + self.page_limit, len(self.sequences))
        odd = self.random.random() * 100 < self.oddity
        oddity = (
            self.random.choice(["error", "busy", "cut", "short", "empty", "early", "twice", "mixed"]) if odd else ""
        )
        if oddity == "error":
            raise Unavailable("HTTP 503")
        if oddity == "busy":
            raise Unavailable("HTTP 429", retry_after_seconds=2.0)
        if oddity == "short" and last > first + 1:
            last = first + 1
        shown = self.entries[first:last]
        if oddity == "empty":  # more to come, though nothing is shown
            return self._body([], more=last > first, following=offset)
        more, following = last < len(self.sequences), self.sequences[last - 1] + 1 if last > first else offset
        if oddity == "early":  # from before what was asked for
            shown = self.entries[max(0, first - 2) : last]
        if oddity == "twice":
            shown = [one for one in shown for _ in range(2)]
        if oddity == "mixed":
            shown = self.random.sample(shown, len(shown))
        body = self._body(shown, more=more, following=following)
        return body[: len(body) // 2] if oddity == "cut" else body

    def tail(self, now: float, client: str) -> bytes:
        self.polls.append((now, client))
        following = self.sequences[-1] + 1 if self.sequences else 0
        return self._body(self.entries[-400:], more=False, following=following)

    @staticmethod
    def _body(shown: list[bytes], *, more: bool, following: int) -> bytes:
        return b'{"entries":[%b],"datamodel_hash":"d9","has_more":%b,"next_request_start":"%d"}' % (
            b",".join(shown),
            b"true" if more else b"false",
            following,
        )


class SimulatedClient:
    """Implements the reader's client for one process."""

    def __init__(
        self, process: Process, server: Server[SourceState], network: Network, check: Callable[[], None]
    ) -> None:
        self._process = process
        self._server = server
        self._network = network
        self._check = check
        self._decoder = PageDecoder()

    async def poll(self, offset: int) -> Page:
        return await self._ask(
            offset, f"poll {offset}", lambda state: state.page(self._now, self._process.name, offset)
        )

    async def poll_tail(self) -> Page:
        return await self._ask(0, "poll the tail", lambda state: state.tail(self._now, self._process.name))

    async def close(self) -> None: ...

    @property
    def _now(self) -> float:
        return self._network.loop.now

    async def _ask(self, offset: int, what: str, effect: Callable[[SourceState], bytes]) -> Page:
        self._check()
        body = await self._network.ask(
            self._process, self._server, what, effect, deadline_seconds=POLL_DEADLINE_SECONDS
        )
        try:
            return self._decoder.decode(body, offset)
        except PageUnreadable as error:
            raise Unavailable(str(error)) from error
