"""What must hold, looked at after every effect of any request at any server. It knows the truth and trusts nobody."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from oplogbridge.state import Stored
from simulation.network import Server
from simulation.sinks.place import FOREIGN, Kind, Place, State
from simulation.source import SourceState
from simulation.stores import StoreState

ARRIVAL_SLACK_SECONDS = 0.02  # the interval is kept where requests are sent; on their way they take 0.5 to 4.5 ms


class Violation(AssertionError):
    """A promise is broken."""


@dataclass
class Line:
    """One pipeline: what it must deliver and keep."""

    name: str
    types: frozenset[str]
    place: Place
    kind: Kind
    letters: Place
    letters_kind: Kind
    begins_at: int | None = 0  # entries below it are none of its business; None: nothing is known of it anywhere
    skipped: set[int] = field(
        default_factory=set
    )  # `latest` was resolved again, after all had forgotten the first time
    expected: list[int] = field(default_factory=list)
    refused: list[int] = field(default_factory=list)  # they become letters
    offset: int = -1  # the highest seen in the store
    lossless: bool = True  # nobody has lost data that it acknowledged, so far
    tainted: bool = False  # nobody can know any more what is there: only a person can go on
    stops: bool = False  # somebody else wrote there: only a person can go on, and all that was kept stays true
    starts_latest: bool = False
    first_begins_at: int | None = None

    def due(self, sequences: Sequence[int]) -> list[int]:
        begins_at = self.begins_at if self.begins_at is not None else self.first_begins_at
        return [] if begins_at is None else [one for one in sequences if one >= begins_at]


@dataclass
class Oracle:
    source: Server[SourceState]
    store: Server[StoreState]
    poll_interval_seconds: float
    lines: list[Line] = field(default_factory=list)
    store_lossless: bool = True
    somebody_knows: bool = False  # a process lives through all of it, and what it saved once it knows
    two_may_poll_until: float = float("-inf")  # a store that lost a lease lets two hold it until they notice
    violation: Violation | None = None
    polls_seen: int = 0
    keys: dict[int, str] = field(default_factory=dict)

    def look(self, where: str) -> None:
        """Keeps the first violation; the line's own code must not swallow it."""
        if self.violation is not None:
            return
        try:
            for line in self.lines:
                self._look_at(line)
            self._look_at_polls()
        except Violation as violation:
            self.violation = Violation(f"{violation} (after {where})")

    def _look_at(self, line: Line) -> None:
        state: State = line.place.server.state
        logs, stored = state.logs(), self.stored(line)
        self._note_beginning(line, logs, [state.offset(), None if stored is None else stored.offset])
        merged = self._check_log(line, logs)
        letters = [one for log in line.letters.server.state.logs() for one in log]
        if not line.lossless or not line.letters_kind.traits.holds_position:
            letters = list(dict.fromkeys(letters))
        due = [one for one in line.due(line.refused) if one not in line.skipped or one in letters]
        _require(letters == due[: len(letters)], f"{line.name}: letters {letters}, not {due}")
        _require(
            line.kind.order == "key" or all(one in letters for one in due if merged and one < max(merged)),
            f"{line.name}: delivered up to {max(merged, default=0)}, past a letter of {due} that is not in {letters}",
        )
        if stored is None or not (line.lossless and self.store_lossless) or line.tainted:
            return
        _require(stored.offset >= line.offset, f"{line.name}: offset {stored.offset} came after {line.offset}")
        line.offset = stored.offset
        seen = set(merged) | set(letters)
        lost = [one for one in (*line.due(line.expected), *due) if one < stored.offset and one not in seen]
        _require(not lost, f"{line.name}: offset {stored.offset} passed {lost}, which are not there")

    def _note_beginning(self, line: Line, logs: Sequence[Sequence[int]], offsets: Sequence[int | None]) -> None:
        """Where `latest` was resolved to: the first offset that anybody keeps. If all forget it, it is done anew."""
        known = [offset for offset in offsets if offset is not None]
        if not line.starts_latest or bool(known) == (line.begins_at is not None):
            return
        if not known and self.somebody_knows:
            return
        if not known:
            line.first_begins_at, line.begins_at = line.first_begins_at or line.begins_at, None
            return
        there = {one for log in logs for one in log}
        line.begins_at = max(known)
        if line.first_begins_at is not None:
            missed = [one for one in (*line.expected, *line.refused) if line.first_begins_at <= one < line.begins_at]
            line.skipped |= set(missed) - there
            line.begins_at = line.first_begins_at

    def _check_log(self, line: Line, logs: Sequence[Sequence[int]]) -> list[int]:
        there = {one for log in logs for one in log}
        expected = [one for one in line.due(line.expected) if one not in line.skipped or one in there]
        merged: list[int] = []
        for partition, received in enumerate(logs):
            log = [one for one in received if one != FOREIGN]
            merged += log
            if line.kind.order == "key":
                self._check_keys(line, log, expected)
                continue
            due = expected
            if line.kind.partitions > 1:
                due = [one for one in expected if line.kind.partition_of(one) == partition]
            if not line.kind.traits.holds_position:
                log = list(dict.fromkeys(log))  # copies come, but the first ones are in order
            _require(log == due[: len(log)], f"{line.name}: {received} is there, {due} is due")
        return merged

    def _check_keys(self, line: Line, log: Sequence[int], expected: Sequence[int]) -> None:
        for key in {self.keys[one] for one in log}:
            mine = list(dict.fromkeys([one for one in log if self.keys[one] == key]))
            due = [one for one in expected if self.keys[one] == key]
            _require(mine == due[: len(mine)], f"{line.name}: of key {key} {mine} is there, {due} is due")

    def _look_at_polls(self) -> None:
        polls = self.source.state.polls
        for (before, one), (now, other) in zip(polls[self.polls_seen :], polls[self.polls_seen + 1 :], strict=False):
            self.polls_seen += 1
            gap = now - before
            _require(
                before < self.two_may_poll_until or gap >= self.poll_interval_seconds - ARRIVAL_SLACK_SECONDS,
                f"{other} polled {gap:.3f} s after {one}",
            )

    def stored(self, line: Line) -> Stored | None:
        text = self.store.state.memory.offsets.get(line.name)
        return None if text is None else Stored.from_text(text)

    def is_done(self, line: Line) -> bool:
        """Everything is delivered and the stored offset says so."""
        stored = self.stored(line)
        last = max([*line.expected, *line.refused], default=-1)
        if stored is None or stored.offset <= last:
            return False
        there = {one for log in line.place.server.state.logs() for one in log}
        return all(one in there or one in line.skipped for one in line.due(line.expected))

    def check_the_end(self) -> None:
        for line in [one for one in self.lines if not (one.tainted or one.stops)]:
            letters = {one for log in line.letters.server.state.logs() for one in log}
            missing = [one for one in line.due(line.refused) if one not in letters and one not in line.skipped]
            _require(not missing, f"{line.name}: no letter of {missing}")


def _require(holds: bool, what: str) -> None:
    if not holds:
        raise Violation(what)
