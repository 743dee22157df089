"""The log and the objects in a SQLite file (WAL), so that they outlive the process: also one that is killed.

Reads are short and run on the event loop.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import msgspec
import orjson

from oplogbridge.emulator.attachments import Attachment
from oplogbridge.emulator.log import NOTHING_BESIDE, Beside, Body, Kept, Row, Stamped, Written, check_sequences
from oplogbridge.values import SEQUENCE_MAX

_SCHEMA = """
CREATE TABLE IF NOT EXISTS entries (sequence INTEGER PRIMARY KEY, body BLOB NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS written (
    sequence INTEGER PRIMARY KEY, datamodel_hash TEXT NOT NULL, written BLOB NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS objects (
    type TEXT NOT NULL, id TEXT NOT NULL, updated_at TEXT NOT NULL, state BLOB NOT NULL, PRIMARY KEY (type, id)
) STRICT;
CREATE TABLE IF NOT EXISTS attachments (
    id TEXT PRIMARY KEY, state TEXT NOT NULL, filename TEXT NOT NULL, content BLOB NOT NULL
) STRICT;
"""
_INSERT = "INSERT INTO entries VALUES (?, ?)"
_INSERT_WRITTEN = "INSERT INTO written VALUES (?, ?, ?)"
_KEEP = """
INSERT INTO objects VALUES (?, ?, ?, ?)
ON CONFLICT DO UPDATE SET updated_at = excluded.updated_at, state = excluded.state
"""
_FORGET = "DELETE FROM objects WHERE type = ? AND id = ?"
_ATTACH = "INSERT OR REPLACE INTO attachments VALUES (?, ?, ?, ?)"
_read_written = msgspec.msgpack.Decoder(Written)


class SqliteLog:
    """One process at a time: `newest` and the number of rows are remembered, not asked for."""

    def __init__(self, path: Path) -> None:
        self._connection = sqlite3.connect(path, isolation_level=None)
        self.version = 0
        self.datamodel_hash = ""
        self._show: Callable[[Written], bytes] | None = None
        self._newest = 0
        self._count = 0
        self._written_count = 0
        try:
            self._connection.execute("PRAGMA journal_mode = WAL")
            self._connection.execute("PRAGMA synchronous = NORMAL")  # a power cut may take a test log's last entries
            self._connection.executescript(_SCHEMA)
            self._survey()
        except BaseException:
            self._connection.close()
            raise

    def show_by(self, datamodel_hash: str, show: Callable[[Written], bytes]) -> None:
        self.datamodel_hash, self._show = datamodel_hash, show

    def objects(self) -> Iterable[Kept]:
        for type_, id_, updated_at, state in self._connection.execute("SELECT * FROM objects ORDER BY rowid"):
            yield Kept(type_, id_, updated_at, orjson.loads(state))

    def attachments(self) -> Iterable[Attachment]:
        for row in self._connection.execute("SELECT * FROM attachments"):
            yield Attachment(*row)

    def append(self, sequences: Sequence[int], bodies: Sequence[Body], beside: Beside = NOTHING_BESIDE) -> None:
        check_sequences(sequences)
        rows = [(sequence, _bytes(sequence, body)) for sequence, body in zip(sequences, bodies, strict=True)]
        written = [
            (sequence, body.datamodel_hash, msgspec.msgpack.encode(body._replace(body=b"")))
            for sequence, body in zip(sequences, bodies, strict=True)
            if isinstance(body, Written)
        ]
        execute = self._connection.executemany
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            execute(_INSERT, rows)
            execute(_INSERT_WRITTEN, written)
            execute(_KEEP, [(one.type, one.id, one.updated_at, orjson.dumps(one.state)) for one in beside.kept])
            execute(_FORGET, beside.gone)
            execute(_ATTACH, [(one.id, one.state, one.filename, one.content) for one in beside.attachments])
            self._connection.execute("COMMIT")
        except BaseException as error:
            if self._connection.in_transaction:  # SQLite may have rolled back by itself, as when the disk is full
                self._connection.execute("ROLLBACK")
            if isinstance(error, sqlite3.IntegrityError):
                raise ValueError("the log already holds one of these sequences") from error
            raise
        if rows and min(sequences) < self._newest:
            self.version += 1
        self._newest = max(self._newest, *sequences) if rows else self._newest
        self._count += len(rows)
        self._written_count += len(written)

    def read(self, start: int, end: int, limit: int) -> list[Row]:
        return self._select("ASC", start, end, limit)

    def tail(self, start: int, end: int, limit: int) -> list[Row]:
        return self._select("DESC", start, end, limit)[::-1]

    def cut_before(self, sequence: int) -> None:
        # `<=`, since one more than the greatest sequence is a legal bound that SQLite's integers cannot hold
        self._cut("<=", sequence - 1)

    def cut_from(self, sequence: int) -> None:
        self._cut(">", sequence - 1)

    @property
    def oldest(self) -> int:
        return self._number("SELECT min(sequence) FROM entries")

    @property
    def newest(self) -> int:
        return self._newest

    def __len__(self) -> int:
        return self._count

    def close(self) -> None:
        self._connection.close()

    def _select(self, order: str, start: int, end: int, limit: int) -> list[Row]:
        if start > SEQUENCE_MAX:
            return []
        bounds = (start, end - 1, limit)
        rows: list[Row] = self._connection.execute(
            f"SELECT sequence, body FROM entries WHERE sequence BETWEEN ? AND ? ORDER BY sequence {order} LIMIT ?",  # noqa: S608
            bounds,
        ).fetchall()
        if not self._written_count or not rows or self._show is None:
            return rows
        return self._shown(rows)

    def _shown(self, rows: list[Row]) -> list[Row]:
        """By the model of today, where they were written under another."""
        assert self._show is not None
        lowest, highest = min(rows[0][0], rows[-1][0]), max(rows[0][0], rows[-1][0])
        found = self._connection.execute(
            "SELECT sequence, written FROM written WHERE sequence BETWEEN ? AND ? AND datamodel_hash != ?",
            (lowest, highest, self.datamodel_hash),
        )
        anew = {sequence: self._show(_read_written.decode(packed)) for sequence, packed in found}
        return [(sequence, anew.get(sequence, body)) for sequence, body in rows] if anew else rows

    def _cut(self, comparison: str, bound: int) -> None:
        execute = self._connection.execute
        execute("BEGIN IMMEDIATE")
        try:
            execute(f"DELETE FROM written WHERE sequence {comparison} ?", (bound,))  # noqa: S608
            cut = execute(f"DELETE FROM entries WHERE sequence {comparison} ?", (bound,)).rowcount  # noqa: S608
            execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                execute("ROLLBACK")
            raise
        if cut:
            self.version += 1
            self._survey()

    def _survey(self) -> None:
        self._newest = self._number("SELECT max(sequence) FROM entries")
        self._count = self._number("SELECT count(*) FROM entries")
        self._written_count = self._number("SELECT count(*) FROM written")

    def _number(self, query: str) -> int:
        (number,) = self._connection.execute(query).fetchone()
        return int(number or 0)


def _bytes(sequence: int, body: Body) -> bytes:
    if isinstance(body, bytes):
        return body
    return body.at(sequence) if isinstance(body, Stamped) else body.body
