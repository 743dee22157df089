"""The log in a SQLite file (WAL), so that it outlives the process. Reads are short and run on the event loop."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path

from oplogbridge.emulator.log import Body, Row, check_sequences
from oplogbridge.values import SEQUENCE_MAX

_SCHEMA = "CREATE TABLE IF NOT EXISTS entries (sequence INTEGER PRIMARY KEY, body BLOB NOT NULL) STRICT"


class SqliteLog:
    """One process at a time: `newest` and the number of rows are remembered, not asked for."""

    def __init__(self, path: Path) -> None:
        self._connection = sqlite3.connect(path, isolation_level=None)
        self.version = 0
        self._newest = 0
        self._count = 0
        try:
            self._connection.execute("PRAGMA journal_mode = WAL")
            self._connection.execute("PRAGMA synchronous = NORMAL")  # a power cut may take a test log's last entries
            self._connection.execute(_SCHEMA)
            self._survey()
        except BaseException:
            self._connection.close()
            raise

    def append(self, sequences: Sequence[int], bodies: Sequence[Body]) -> None:
        check_sequences(sequences)
        rows = [
            (sequence, body if isinstance(body, bytes) else body.at(sequence))
            for sequence, body in zip(sequences, bodies, strict=True)
        ]
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            self._connection.executemany("INSERT INTO entries VALUES (?, ?)", rows)
        except sqlite3.IntegrityError as error:
            self._connection.execute("ROLLBACK")
            raise ValueError("the log already holds one of these sequences") from error
        except BaseException:
            self._connection.execute("ROLLBACK")
            raise
        self._connection.execute("COMMIT")
        if rows and min(sequences) < self._newest:
            self.version += 1
        self._newest = max(self._newest, *sequences) if rows else self._newest
        self._count += len(rows)

    def read(self, start: int, end: int, limit: int) -> list[Row]:
        return self._select("ASC", start, end, limit)

    def tail(self, start: int, end: int, limit: int) -> list[Row]:
        return self._select("DESC", start, end, limit)[::-1]

    def cut_before(self, sequence: int) -> None:
        # `<=`, since one more than the greatest sequence is a legal bound that SQLite's integers cannot hold
        self._cut("DELETE FROM entries WHERE sequence <= ?", sequence - 1)

    def cut_from(self, sequence: int) -> None:
        self._cut("DELETE FROM entries WHERE sequence > ?", sequence - 1)

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
        return self._connection.execute(
            f"SELECT sequence, body FROM entries WHERE sequence BETWEEN ? AND ? ORDER BY sequence {order} LIMIT ?",  # noqa: S608
            (start, end - 1, limit),
        ).fetchall()

    def _cut(self, statement: str, bound: int) -> None:
        if self._connection.execute(statement, (bound,)).rowcount:
            self.version += 1
            self._survey()

    def _survey(self) -> None:
        self._newest = self._number("SELECT max(sequence) FROM entries")
        self._count = self._number("SELECT count(*) FROM entries")

    def _number(self, query: str) -> int:
        (number,) = self._connection.execute(query).fetchone()
        return int(number or 0)
