"""Dead letters as they are read back, and what an operator did with them. Pure but for the notes.

A destination's log is never changed: a letter that was redriven or dropped stays where it is, and a note says so.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from typing import Any, Literal

import msgspec

from oplogbridge.sink import Delivered
from oplogbridge.state import StateStore

HANDLED_MAX = 100_000  # notes of one pipeline; 5 MiB

Handled = Literal["redriven", "dropped"]


class _Data(msgspec.Struct):
    sequence: str
    pipeline: str
    reason: str
    rejected: str


class _Letter(msgspec.Struct):
    id: str
    type: str
    partitionkey: str
    data: _Data


class Letter(msgspec.Struct, frozen=True):
    """`id` is that of the event, which is its sequence; of a snapshot's event it is a place."""

    id: str
    key: str
    reason: str
    rejected: bytes
    at: str  # where it stands
    handled: str | None = None

    @property
    def sequence(self) -> int | None:
        """Of an entry of the log, which can be read again."""
        return int(self.id) if self.id.isdecimal() else None

    @property
    def is_malformed(self) -> bool:
        return self.key.startswith("malformed/")

    def shown(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "key": self.key,
            "reason": self.reason,
            "bytes": len(self.rejected),
            "at": self.at,
            "handled": self.handled,
        }


def letters_of(found: Iterable[Delivered], pipeline: str, handled: Mapping[str, str]) -> list[Letter]:
    """Those of this pipeline among what stands at a destination. Pure."""
    letters: list[Letter] = []
    for one in found:
        if one.payload is None:
            continue
        try:
            told = msgspec.json.decode(one.payload, type=_Letter)
            rejected = base64.b64decode(told.data.rejected)
        except (msgspec.MsgspecError, ValueError, RecursionError):
            continue  # somebody else's
        if told.type == "oplog.dead_letter" and told.data.pipeline == pipeline:
            at = f"{one.lane} {one.at}"
            key, reason = told.partitionkey, told.data.reason
            letters.append(Letter(told.id, key, reason, rejected, at, handled.get(told.id)))
    return letters


async def handled(store: StateStore, pipeline: str) -> dict[str, str]:
    return await store.notes(_kind(pipeline))


async def note_handled(store: StateStore, pipeline: str, ids: Iterable[str], what: Handled) -> None:
    await store.note(_kind(pipeline), dict.fromkeys(ids, what))


def _kind(pipeline: str) -> str:
    return f"letters.{pipeline}"
