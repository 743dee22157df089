"""What operators want of a source beside its configuration: paused pipelines, replays and interludes. Kept as notes in
the state store, so that it holds for whatever instance runs them, and survives all of them.

    control.SOURCE    paused:PIPELINE -> who    replay:NAME -> a `Replay`    interlude:PIPELINE -> an `Interlude`
                      wanted -> who queues for the lease      told:PIPELINE -> the data model's hash
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

import msgspec

from oplogbridge.errors import Misconfigured, Unavailable
from oplogbridge.state import LeaseToken, StateStore

FORMAT_VERSION = 1  # of the texts of replays and interludes; a newer one is refused by name
REPLAY_NAME_ALLOWED = "must be a-z, 0-9, _ and -, beginning with a letter or digit (at most 40)"
REPLAYS_MAX = 100  # of a source, finished ones too: the oldest of those make room
_PAUSED, _REPLAY, _INTERLUDE, _TOLD, _WANTED = "paused:", "replay:", "interlude:", "told:", "wanted"

ReplayState = Literal["wanted", "paused", "cancelled", "done"]


class Narrowing(msgspec.Struct, frozen=True):
    """Which entries of the range are delivered; empty means all. The pipeline's own filter counts besides."""

    types: tuple[str, ...] = ()
    operations: tuple[str, ...] = ()
    ids: tuple[str, ...] = ()


class Replay(msgspec.Struct, frozen=True):
    """A range of the log that is to be delivered once more, by a line of its own: how far it came is its own stored
    offset, under the name `line`."""

    name: str
    pipeline: str
    from_offset: int
    to_offset: int  # beyond the last sequence
    into: dict[str, Any] = {}  # keys of the pipeline's sink that differ; `kind` for another kind of sink
    live: bool = False  # into the live destination: its events say `replayid`
    narrowing: Narrowing = Narrowing()
    state: ReplayState = "wanted"
    by: str = ""
    at_unix_seconds: float = 0.0

    @property
    def line(self) -> str:
        return f"{self.pipeline}.replay.{self.name}"

    def to_text(self) -> str:
        return _text_of(self)

    @classmethod
    def from_text(cls, text: str) -> Replay:
        """Raises Misconfigured for what a newer version wrote, and for what is not ours."""
        return _read(text, cls)


Phase = Literal["wanted", "telling", "closing", "done"]


class Interlude(msgspec.Struct, frozen=True):
    """Events that are none of the log's, delivered by the pipeline itself while it stands still at `at_offset`: in the
    destination they stand behind all that is below it and before all that comes (`interlude`)."""

    kind: Literal["snapshot", "datamodel", "late", "redrive"]
    pipeline: str
    phase: Phase = "wanted"
    at_offset: int = 0  # from the phase `telling` on
    first_place: int = 1  # the number of its first event behind `at_offset - 1`
    events: int = 0  # from the phase `closing` on
    types: tuple[str, ...] = ()  # of a snapshot; empty means all
    reconcile: bool = False  # of a snapshot: tell also what the destination has, and the source has no more
    datamodel_hash: str | None = None  # of a data model, that of the page that waits for it
    sequences: tuple[str, ...] = ()  # of entries that were committed late, or are redriven; ascending
    as_letters: bool = False  # they become dead letters: `on_late: dead_letter`
    only_new: bool = False  # not where the pipeline has an offset already
    by: str = ""
    at_unix_seconds: float = 0.0

    def to_text(self) -> str:
        return _text_of(self)

    @classmethod
    def from_text(cls, text: str) -> Interlude:
        """As `Replay.from_text`."""
        return _read(text, cls)


def source_during(wanted: Interlude, source_id: str) -> str:
    """What positions name while it is told. `log_of` finds the source again."""
    return f"{source_id}#{wanted.kind}@{wanted.at_offset}"


_OFFSETS = ("from_offset", "to_offset", "at_offset")
_Kept = TypeVar("_Kept", Replay, Interlude)


def _text_of(kept: Replay | Interlude) -> str:
    fields = msgspec.structs.asdict(kept)
    # Offsets as text: JSON readers elsewhere would round a number.
    offsets = {key: str(fields[key]) for key in _OFFSETS if key in fields}
    return msgspec.json.encode({"v": FORMAT_VERSION} | fields | offsets).decode()


def _read(text: str, shape: type[_Kept]) -> _Kept:
    try:
        fields = msgspec.json.decode(text)
        version = fields.pop("v")
        if version > FORMAT_VERSION:
            raise Misconfigured(
                f"the state store holds a {shape.__name__.lower()} of format {version}, this version knows "
                f"{FORMAT_VERSION}: upgrade oplog-bridge"
            )
        offsets = {key: int(fields[key]) for key in _OFFSETS if key in fields}
        return msgspec.convert(fields | offsets, shape)
    except (msgspec.MsgspecError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise Misconfigured(
            f"the state store holds a {shape.__name__.lower()} that cannot be read ({error}): another program writes "
            "there; give oplog-bridge a state store, or a `name`, of its own"
        ) from error


@dataclass(frozen=True, slots=True)
class Wishes:
    """All that is wanted of one source."""

    paused: dict[str, str] = field(default_factory=dict)  # by pipeline, by whom or why
    replays: dict[str, Replay] = field(default_factory=dict)  # by name
    interludes: dict[str, Interlude] = field(default_factory=dict)  # by pipeline, the last one of each
    told: dict[str, str] = field(default_factory=dict)  # by pipeline, the hash of the data model that it told last
    queued_by: str | None = None  # an instance that waits for the lease of a command, which gives way
    unreadable: dict[str, str] = field(default_factory=dict)  # keys, and why; none of them is carried out


async def read(store: StateStore, source: str) -> Wishes:
    """Raises Unavailable, Misconfigured."""
    notes = await store.notes(_kind(source))
    found = Wishes(_named(notes, _PAUSED), told=_named(notes, _TOLD), queued_by=notes.get(_WANTED))
    for name, text in _named(notes, _REPLAY).items():
        try:
            found.replays[name] = Replay.from_text(text)
        except Misconfigured as error:
            found.unreadable[name] = str(error)
    for pipeline, text in _named(notes, _INTERLUDE).items():
        found.interludes[pipeline] = Interlude.from_text(text)  # raised: its pipeline must not go on without
    return found


def _named(notes: Mapping[str, str], kind: str) -> dict[str, str]:
    return {key.removeprefix(kind): text for key, text in sorted(notes.items()) if key.startswith(kind)}


async def pause(store: StateStore, source: str, pipeline: str, who: str) -> bool:
    """False when it is paused already."""
    key = _PAUSED + pipeline
    return await store.note(_kind(source), {key: who}, expected={key: None})


async def resume(store: StateStore, source: str, pipeline: str) -> bool:
    """False when it is not paused."""
    key = _PAUSED + pipeline
    if key not in await store.notes(_kind(source)):
        return False
    return await store.note(_kind(source), {key: None})


async def want_lease(store: StateStore, source: str, instance: str | None) -> None:
    """Ask a command that holds the lease to give way; None: nobody asks any more."""
    await store.note(_kind(source), {_WANTED: instance})


async def add_replay(store: StateStore, source: str, replay: Replay) -> None:
    """Raises Misconfigured when there is one of this name, or too many that are not finished."""
    known = (await read(store, source)).replays
    finished = [one for one in known.values() if one.state in ("done", "cancelled")]
    oldest = sorted(finished, key=lambda one: one.at_unix_seconds)[: max(0, len(known) - REPLAYS_MAX + 1)]
    if len(known) - len(oldest) >= REPLAYS_MAX:
        raise Misconfigured(f"source {source} has {REPLAYS_MAX} replays that are not finished: cancel some of them")
    key = _REPLAY + replay.name
    forgotten = {_REPLAY + one.name: None for one in oldest}
    if not await store.note(_kind(source), {**forgotten, key: replay.to_text()}, expected={key: None}):
        raise Misconfigured(f"there is a replay {replay.name} already: choose another --name")


async def change_replay(
    store: StateStore, source: str, before: Replay, state: ReplayState, *, under: LeaseToken | None = None
) -> bool:
    """Whether it was still as it was read."""
    key = _REPLAY + before.name
    after = msgspec.structs.replace(before, state=state)
    return await store.note(_kind(source), {key: after.to_text()}, expected={key: before.to_text()}, under=under)


async def add_interlude(store: StateStore, source: str, wanted: Interlude) -> None:
    """Raises Misconfigured while another one of the pipeline is under way, or the pipeline is paused."""
    key = _INTERLUDE + wanted.pipeline
    notes = await store.notes(_kind(source))
    before = notes.get(key)
    if _PAUSED + wanted.pipeline in notes:
        raise Misconfigured(
            f"pipeline {wanted.pipeline} is paused: resume it first, with `oplog-bridge pipelines resume "
            f"{wanted.pipeline}`"
        )
    if before is not None:
        last = Interlude.from_text(before)
        if last.phase != "done":
            raise Misconfigured(
                f"pipeline {wanted.pipeline} has a {last.kind} under way ({last.phase}): wait until it is done"
            )
        # Told at the same offset, it goes on counting places behind the last one.
        first_place = last.first_place + last.events
        wanted = msgspec.structs.replace(wanted, at_offset=last.at_offset, first_place=first_place)
    if not await store.note(_kind(source), {key: wanted.to_text()}, expected={key: before}):
        raise Misconfigured(f"somebody else wants something of pipeline {wanted.pipeline} just now: look at it again")


async def change_interlude(
    store: StateStore, source: str, before: Interlude, after: Interlude, *, under: LeaseToken
) -> None:
    """Raises Unavailable when it is not as it was read, Fenced."""
    key = _INTERLUDE + before.pipeline
    changes: dict[str, str | None] = {key: after.to_text()}
    if after.kind == "datamodel" and after.phase == "done":
        changes[_TOLD + after.pipeline] = after.datamodel_hash
    if not await store.note(_kind(source), changes, expected={key: before.to_text()}, under=under):
        raise Unavailable(f"the {before.kind} of pipeline {before.pipeline} is not as it was read: reading it again")


def is_replay_name(name: str) -> bool:
    """It becomes a part of names at every kind of destination."""
    return re.fullmatch(r"[a-z0-9][a-z0-9_-]{0,39}", name) is not None


def _kind(source: str) -> str:
    return f"control.{source}"
