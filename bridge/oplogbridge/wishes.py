"""What operators want of a source beside its configuration: paused pipelines, and replays. Kept as notes in the state
store, so that it holds for whatever instance runs them, and survives all of them.

    control.SOURCE    paused:PIPELINE -> who and when      replay:NAME -> a `Replay`      wanted -> who queues
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import msgspec

from oplogbridge.errors import Misconfigured
from oplogbridge.state import LeaseToken, StateStore

FORMAT_VERSION = 1  # of a replay's text; a newer one is refused by name
REPLAY_NAME_ALLOWED = "must be a-z, 0-9, _ and -, beginning with a letter or digit (at most 40)"
REPLAYS_MAX = 100  # of a source, finished ones too: the oldest of those make room
_PAUSED, _REPLAY, _WANTED = "paused:", "replay:", "wanted"

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
        # Offsets as text: JSON readers elsewhere would round a number.
        fields = msgspec.structs.asdict(self) | {"from_offset": str(self.from_offset), "to_offset": str(self.to_offset)}
        return msgspec.json.encode({"v": FORMAT_VERSION} | fields).decode()

    @classmethod
    def from_text(cls, text: str) -> Replay:
        """Raises Misconfigured for what a newer version wrote, and for what is not ours."""
        try:
            fields = msgspec.json.decode(text)
            version = fields.pop("v")
            if version > FORMAT_VERSION:
                raise Misconfigured(
                    f"the state store holds a replay of format {version}, this version knows {FORMAT_VERSION}: upgrade "
                    "oplog-bridge"
                )
            offsets = {key: int(fields[key]) for key in ("from_offset", "to_offset")}
            return msgspec.convert(fields | offsets, cls)
        except (msgspec.MsgspecError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise Misconfigured(
                f"the state store holds a replay that cannot be read ({error}): another program writes there; give "
                "oplog-bridge a state store, or a `name`, of its own"
            ) from error


@dataclass(frozen=True, slots=True)
class Wishes:
    """All that is wanted of one source."""

    paused: frozenset[str] = frozenset()  # pipelines
    replays: Mapping[str, Replay] = field(default_factory=dict)  # by name
    queued_by: str | None = None  # an instance that waits for the lease of a command, which gives way
    unreadable: Mapping[str, str] = field(default_factory=dict)  # replays, and why; none of them runs


async def read(store: StateStore, source: str) -> Wishes:
    """Raises Unavailable, Misconfigured."""
    notes = await store.notes(_kind(source))
    replays: dict[str, Replay] = {}
    unreadable: dict[str, str] = {}
    for key, text in sorted(notes.items()):
        if key.startswith(_REPLAY):
            try:
                replays[key.removeprefix(_REPLAY)] = Replay.from_text(text)
            except Misconfigured as error:
                unreadable[key.removeprefix(_REPLAY)] = str(error)
    paused = frozenset(key.removeprefix(_PAUSED) for key in notes if key.startswith(_PAUSED))
    return Wishes(paused, replays, notes.get(_WANTED), unreadable)


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


def is_replay_name(name: str) -> bool:
    """It becomes a part of names at every kind of destination."""
    return re.fullmatch(r"[a-z0-9][a-z0-9_-]{0,39}", name) is not None


def _kind(source: str) -> str:
    return f"control.{source}"
