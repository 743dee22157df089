"""`snapshot --reconcile`: what a destination has and the source has no more, deleted where the log does not reach.

The destination's own log is read, whose last event of each key says whether its object is there. Kept in a temporary
SQLite file, so that ten million keys need no memory.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from oplogbridge.errors import Misconfigured
from oplogbridge.sink import Delivered, DestinationReader
from oplogbridge.values import OFFSET_MAX

PAGE_KEYS = 1000


class Reconciliation:
    """`told_behind`: events with a place behind this sequence are of the snapshot itself, and say what is there."""

    def __init__(self, told_behind: int) -> None:
        self._prefix = f"{told_behind}-"
        self._sql = sqlite3.connect("")  # a temporary file, gone with the connection
        self._sql.execute("CREATE TABLE last (key TEXT PRIMARY KEY, gone INTEGER NOT NULL) WITHOUT ROWID")

    async def read(self, reader: DestinationReader) -> None:
        """All that stands there. Raises as readers do, and Misconfigured for what cannot be understood."""
        try:
            for lane in await reader.open():
                async for page in reader.pages(lane, 0, OFFSET_MAX):
                    self.take(page)
        finally:
            await reader.close()

    def take(self, page: Sequence[Delivered]) -> None:
        """In the destination's order, in which a key's events stand."""
        rows: dict[str, bool] = {}
        for one in page:
            if one.key is None or one.payload is None or one.replay is not None:
                continue
            key = one.key.decode(errors="replace")
            if "/" not in key or key.startswith("datamodel/"):
                continue
            told = one.place is not None and one.place.startswith(self._prefix)
            rows[key] = told or _is_delete(one)
        # Of what the snapshot told there is nothing to say, as of what is deleted.
        self._sql.executemany("INSERT OR REPLACE INTO last VALUES (?, ?)", rows.items())

    def missing(self, after: str) -> list[tuple[str, str]]:
        """Objects that nothing told of, by type and id, behind `TYPE/ID`; so many at once."""
        found = self._sql.execute(
            "SELECT key FROM last WHERE gone = 0 AND key > ? ORDER BY key LIMIT ?", (after, PAGE_KEYS)
        )
        return list(_keys(found))

    def close(self) -> None:
        self._sql.close()


def _keys(rows: sqlite3.Cursor) -> Iterator[tuple[str, str]]:
    for (key,) in rows:
        type_, _, id_ = str(key).partition("/")
        yield type_, id_


def _is_delete(one: Delivered) -> bool:
    """In every format, and in binary mode by the header."""
    told = dict(one.headers)
    kind = told.get("ce_type") or told.get("ce-type")
    if kind is not None:
        return kind.endswith(b".delete")
    try:
        payload: dict[str, Any] = msgspec.json.decode(one.payload or b"{}", type=dict[str, Any])
    except (msgspec.MsgspecError, RecursionError) as error:
        raise Misconfigured(
            f"{one.lane} {one.at} cannot be understood ({error}): a snapshot cannot reconcile"
        ) from error
    if "__deleted" in payload:
        return bool(payload["__deleted"])
    if "op" in payload:
        return bool(payload["op"] == "d")
    data = payload.get("data")
    operation = data.get("operation") if isinstance(data, dict) else payload.get("operation")
    return bool(operation == "delete")
