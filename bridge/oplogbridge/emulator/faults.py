"""Faults on order: what the emulator does wrong, when, and how often.

A request passes four stages and each draws its faults from one queue: `before` (delays), `instead` (another answer),
`page` (a wrong page), `after` (a broken delivery). A stage that can do only one thing takes the first fault that is
due; all the due faults of the stage `page` apply together. What is not drawn is not used up.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import msgspec

Stage = Literal["before", "instead", "page", "after"]
FOREVER = None

STAGES: dict[str, Stage] = {
    "slow": "before",  # the answer begins after `seconds`; without seconds: when it is released
    "status": "instead",  # answers `status`, as the vendor does; `retry_after_seconds`, `location`, `body` if given
    "html": "instead",  # a proxy's HTML page, with 200 unless `status` says otherwise
    "body": "instead",  # answers `body` literally, with `content_type`
    "reset": "instead",  # the connection is reset (RST) before any answer
    "duplicate_entry": "page",  # an entry of the page is there twice
    "duplicate_page": "page",  # the last page again, whatever `start` says
    "conflict": "page",  # two different entries have one sequence
    "out_of_order": "page",  # the first and the last entry have changed places
    "late_commit": "page",  # `sequence` (default: the page's last but one) is not seen yet, higher ones are
    "short_page": "page",  # at most `entries` (default: half of them; 0: none), though more follow
    "retention_cut": "page",  # the log loses what is below `sequence`, or its `entries` oldest: for good
    "rewind": "page",  # the log loses what is at and above `sequence`, or its `entries` newest: for good
    "rounded_numbers": "page",  # integer sequences went through a double
    "sequence_ids_ignored": "page",  # as an older server answers
    "limit_max": "page",  # a `limit` above `limit` is refused with 400
    "cut": "after",  # the connection closes after `bytes` (default: half) of the body
    "truncated": "after",  # sound HTTP around the first `bytes` (default: half) of the body
    "stall": "after",  # as `slow`, but in the middle of the body
}


class Fault(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`kind` is a name of `STAGES`, or three digits for a status: "429" is kind "status" with status 429."""

    kind: str
    on: Literal["oplog", "objects", "datamodel", "media"] = "oplog"  # what was asked for
    count: int | None = 1  # how often it strikes; null: until it is cleared
    after: int = 0  # requests that its stage lets pass first
    delay_seconds: float = 0.0  # from when it was ordered; before, it is not there
    duration_seconds: float | None = None  # and from then on; after, it is gone
    probability: float = 1.0  # of striking, per request; drawn from the emulator's seed
    seconds: float | None = None
    status: int | None = None
    retry_after_seconds: float | None = None
    location: str | None = None
    body: str | None = None
    content_type: str = "application/json"
    sequence: int | str | None = None  # text too, since JSON's numbers may go through a double on their way
    entries: int | None = None
    limit: int = 100
    bytes: int | None = None

    def __post_init__(self) -> None:
        if self.kind.isdigit() and 100 <= int(self.kind) <= 599:
            msgspec.structs.force_setattr(self, "status", int(self.kind))
            msgspec.structs.force_setattr(self, "kind", "status")
        if self.kind not in STAGES:
            raise ValueError(f"no fault {self.kind!r}; there are: three digits (a status), {', '.join(sorted(STAGES))}")
        if self.kind == "status" and self.status is None:
            raise ValueError("a fault of kind 'status' needs a 'status'")
        if self.sequence is not None:
            msgspec.structs.force_setattr(self, "sequence", int(self.sequence))

    @property
    def sequence_number(self) -> int | None:
        return None if self.sequence is None else int(self.sequence)


@dataclass(slots=True, eq=False)
class Ordered:
    """A fault in the queue. `sequence` is the entry that a late commit settled on when it first struck."""

    id: int
    fault: Fault
    passes_left: int
    uses_left: int | None
    sequence: int | None = None
    begins_at: float = float("-inf")  # monotonic seconds
    ends_at: float = float("inf")


class FaultQueue:
    def __init__(self, seed: int = 0, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._random = random.Random(seed)
        self._queue: list[Ordered] = []
        self._held: set[asyncio.Event] = set()
        self._somebody_held = asyncio.Event()
        self._next_id = 1

    def add(self, fault: Fault | str, **parameters: Any) -> int:
        """Order a fault, by value or by kind: `add("429", count=3, retry_after_seconds=2)`. Returns its id."""
        if isinstance(fault, str):
            fault = Fault(kind=fault, **parameters)
        ordered = Ordered(self._next_id, fault, fault.after, fault.count, sequence=fault.sequence_number)
        if fault.delay_seconds or fault.duration_seconds is not None:
            ordered.begins_at = self._monotonic() + fault.delay_seconds
            ordered.ends_at = ordered.begins_at + (fault.duration_seconds or float("inf"))
        self._next_id += 1
        self._queue.append(ordered)
        return ordered.id

    def clear(self, id_: int | None = None) -> None:
        """Take back one fault, or all of them; then every answer that is held goes on as well."""
        self._queue = [] if id_ is None else [ordered for ordered in self._queue if ordered.id != id_]
        if id_ is None:
            self.release()

    def release(self) -> None:
        """Let go on whatever a `slow` or `stall` without seconds holds."""
        for event in self._held:
            event.set()

    async def held(self) -> None:
        """Wait until released."""
        event = asyncio.Event()
        self._held.add(event)
        self._somebody_held.set()
        try:
            await event.wait()
        finally:
            self._held.discard(event)
            if not self._held:
                self._somebody_held.clear()

    async def holding(self) -> None:
        """Wait until an answer is held: a signal for tests."""
        await self._somebody_held.wait()

    def first(self, stage: Stage, on: str = "oplog") -> Fault | None:
        """The one fault that strikes at this stage of this request."""
        ordered = next(self._due(stage, on), None)
        return None if ordered is None else self._strike(ordered).fault

    def all(self, stage: Stage) -> list[Ordered]:
        return [self._strike(ordered) for ordered in list(self._due(stage, "oplog"))]

    def __iter__(self) -> Iterator[Ordered]:
        return iter(self._queue)

    def __len__(self) -> int:
        return len(self._queue)

    def _due(self, stage: Stage, on: str) -> Iterator[Ordered]:
        now = self._monotonic()
        self._queue = [one for one in self._queue if now < one.ends_at]
        here = [
            one
            for one in self._queue
            if STAGES[one.fault.kind] == stage and one.fault.on == on and now >= one.begins_at
        ]
        waiting = [ordered for ordered in here if ordered.passes_left > 0]
        for ordered in waiting:
            ordered.passes_left -= 1
        for ordered in here:
            if ordered not in waiting and self._random.random() < ordered.fault.probability:
                yield ordered

    def _strike(self, ordered: Ordered) -> Ordered:
        if ordered.uses_left is not None:
            ordered.uses_left -= 1
            if ordered.uses_left <= 0:
                self._queue.remove(ordered)
        return ordered
