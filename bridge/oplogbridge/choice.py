"""Choosing the offset at open: the table of the design (§3), model-checked. Pure; each row is a test.

The stored offset must have been read *after* the position: the other way round a successor's save is compared with a
predecessor's position (protocol check, schedule 2).
"""

from __future__ import annotations

from dataclasses import dataclass

from oplogbridge.state import Mark, Stored
from oplogbridge.values import Position


@dataclass(frozen=True, slots=True)
class GoOn:
    """Go on from `offset`. `warning` is set when the destination lost acknowledged writes."""

    offset: int
    warning: str | None = None


@dataclass(frozen=True, slots=True)
class ResolveStart:
    """Nothing is known anywhere: resolve `start` once, put it into the sink first, then into the store."""


@dataclass(frozen=True, slots=True)
class Stop:
    """Only a person can know. `reason` ends in the command that decides."""

    reason: str


Choice = GoOn | ResolveStart | Stop


def mark_of(position: Position | None) -> Mark | None:
    return None if position is None else Mark(position.offset, position.proof)


def choose_offset(
    position: Position | None, stored: Stored | None, *, pipeline: str, source: str, destination: str
) -> Choice:
    """What to do with a sink at `position` and `stored` in the state store.

    `source` and `destination` are what the configuration says now. A sink that holds no position passes None and has
    never stored a mark, so the second row serves it.
    """
    decide = f"decide with `oplog-bridge offsets set {pipeline} OFFSET`"
    for holder, kept in (("state store", stored), ("destination", position)):
        if kept is None or (kept is position and _is_decided(position, stored, source, destination)):
            continue
        if kept.source != source:
            return Stop(
                f"the {holder} holds an offset of source {kept.source!r}, the configuration says {source!r}: {decide}, "
                f"or give the source `id: {kept.source}` if it is the same log"
            )
        if kept.destination != destination:
            return Stop(
                f"the {holder} holds an offset for {kept.destination!r}, the configuration says {destination!r}: "
                f"{decide}, or `oplog-bridge offsets reset {pipeline}` to begin anew there"
            )
    if position is not None and not position.is_known:
        if stored is not None and stored.mark is not None and stored.mark.proof == position.proof:
            return GoOn(stored.offset)  # its end has expired, and nothing came after what we know
        known = "nothing is stored" if stored is None else f"offset {stored.offset} was saved with another end"
        return Stop(f"the destination's last entry is gone, and {known}: how far it came is unknown; {decide}")
    if stored is None:
        return ResolveStart() if position is None else GoOn(position.offset)
    if position is None:
        if stored.mark is None:
            return GoOn(stored.offset)
        return Stop(
            f"the destination's position is gone, it was {stored.mark.offset} when offset {stored.offset} was saved: "
            f"what it holds is unknown; {decide}"
        )
    if mark_of(position) == stored.mark:
        return GoOn(stored.offset)  # entries after the position were filtered out or dead-lettered
    if stored.mark is None or position.offset >= stored.mark.offset:
        return GoOn(position.offset)  # a crash between write and save
    return GoOn(
        position.offset,
        warning=(
            f"the destination lost acknowledged writes: it stands at {position.offset}, it had {stored.mark.offset}; "
            "that part is delivered again"
        ),
    )


def _is_decided(position: Position | None, stored: Stored | None, source: str, destination: str) -> bool:
    """Somebody set the offset for this source and destination, knowing what stands there: where an offset cannot be
    kept without an event, the position still names the other ones. Bare offsets can be equal by chance, so only with a
    proof."""
    if position is None or not position.proof or stored is None or stored.mark != mark_of(position):
        return False
    return (stored.source, stored.destination) == (source, destination)
