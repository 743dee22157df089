"""The embedded state store: one SQLite file beside the process, for instances on one machine.

Its lease is a row with an expiry on CLOCK_BOOTTIME, and a file lock besides, so that a restart after a crash takes over
at once. A process that is stopped in the middle of a commit holds SQLite's own lock: everybody else gets `Unavailable`
until it goes on or dies. A closed store has let go of its locks, as a dead process has.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import ParamSpec, TypeVar

from oplogbridge.clock import Clock
from oplogbridge.errors import BridgeError, Unavailable
from oplogbridge.state import AuditRecord, Holder, LeaseToken, Stored, kept
from oplogbridge.state.file_lock import FileLocks
from oplogbridge.state.sqlite_file import SqliteFile
from oplogbridge.state.sqlite_leases import Ask, SqliteLeases

_DEADLINE_SECONDS = 5.0  # of one call, the wait for its turn included
_BUSY_SHARE = 0.4  # of the deadline: what SQLite itself waits for a lock that another process holds
_CLOSE_SECONDS = 2.0
_UNANSWERED_MAX = 8
_P = ParamSpec("_P")
_T = TypeVar("_T")


class SqliteStateStore:
    """Implements `StateStore`. One worker thread does all that blocks, in the order of the calls."""

    def __init__(self, path: Path, *, name: str, clock: Clock, deadline_seconds: float = _DEADLINE_SECONDS) -> None:
        self._path = path.absolute()
        self._name = name
        self._deadline_seconds = deadline_seconds
        self._worker: ThreadPoolExecutor | None = None
        self._unanswered: dict[str, deque[str]] = {}  # see `Ask`
        # Only the worker thread touches these.
        self._file = SqliteFile(self._path, busy_seconds=deadline_seconds * _BUSY_SHARE)
        self._locks = FileLocks(self._path)
        self._leases = SqliteLeases(name, clock, self._locks)

    def __repr__(self) -> str:
        return f"SqliteStateStore({str(self._path)!r}, {self._name})"

    async def open(self) -> None:
        if self._worker is None:
            self._worker = ThreadPoolExecutor(1, thread_name_prefix="oplog-bridge-state")
        try:
            await self._in_worker(self._file.open)
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        worker, self._worker = self._worker, None
        if worker is None:
            return
        closed = asyncio.wrap_future(worker.submit(self._close))
        worker.shutdown(wait=False)
        with suppress(TimeoutError):  # a disk that hangs: the thread closes the file when it comes back
            async with asyncio.timeout(_CLOSE_SECONDS):
                await asyncio.shield(closed)

    async def acquire(self, source: str, holder: Holder, ttl_seconds: float) -> str | None:
        unanswered = self._unanswered.setdefault(source, deque(maxlen=_UNANSWERED_MAX))
        ask = Ask(source, holder, ttl_seconds, kept.new_nonce(), tuple(unanswered))
        try:
            return await self._in_worker(self._acquire, ask)
        except BaseException:  # cancelled too: it may have happened, or may yet
            unanswered.append(ask.nonce)
            raise

    async def renew(self, source: str, token: str, ttl_seconds: float) -> None:
        await self._in_worker(self._renew, source, token, ttl_seconds)

    async def release(self, source: str, token: str) -> None:
        await self._in_worker(self._release, source, token)

    async def holder(self, source: str) -> Holder | None:
        return await self._in_worker(self._holder, source)

    async def load(self, source: str, token: str, pipeline: str) -> Stored | None:
        return await self._in_worker(self._load, source, token, pipeline)

    async def save(self, source: str, token: str, pipeline: str, stored: Stored, *, replacing: Stored | None) -> None:
        await self._in_worker(self._save, source, token, pipeline, stored, replacing)

    async def peek(self, pipeline: str) -> Stored | None:
        return await self._in_worker(self._peek, pipeline)

    async def notes(self, kind: str) -> dict[str, str]:
        return await self._in_worker(self._notes, kind)

    async def note(
        self,
        kind: str,
        changes: Mapping[str, str | None],
        *,
        expected: Mapping[str, str | None] | None = None,
        under: LeaseToken | None = None,
    ) -> bool:
        return await self._in_worker(self._note, kind, dict(changes), dict(expected or {}), under)

    async def record(self, record: AuditRecord) -> None:
        await self._in_worker(self._record, record)

    async def audit(self, records_max: int) -> list[AuditRecord]:
        return await self._in_worker(self._audit, records_max)

    async def _in_worker(self, work: Callable[_P, _T], *arguments: _P.args, **keywords: _P.kwargs) -> _T:
        if self._worker is None:
            raise Unavailable("the state store is not open")
        try:
            async with asyncio.timeout(self._deadline_seconds):
                # Cancelled while it waits for its turn, it never happens; once begun, it may.
                return await asyncio.wrap_future(self._worker.submit(work, *arguments, **keywords))
        except TimeoutError:
            raise Unavailable(f"{self._path} did not answer within {self._deadline_seconds:g} s") from None

    # From here on: the worker thread.

    def _close(self) -> None:
        self._locks.let_go_all()
        self._file.close()

    def _acquire(self, ask: Ask) -> str | None:
        try:
            with self._file.transaction() as sql:
                return self._leases.acquire(sql, ask)
        except BridgeError:
            self._locks.let_go(ask.source, with_nonce=ask.nonce)
            raise

    def _renew(self, source: str, token: str, ttl_seconds: float) -> None:
        with self._file.transaction() as sql:
            held = self._leases.renew(sql, source, token, ttl_seconds)
        self._check_held(held, source, token)

    def _release(self, source: str, token: str) -> None:
        with self._file.transaction() as sql:
            self._leases.release(sql, source, token)
        self._locks.let_go(source, with_nonce=kept.nonce_of(token))

    def _holder(self, source: str) -> Holder | None:
        with self._file.transaction() as sql:
            return self._leases.holder(sql, source)

    def _load(self, source: str, token: str, pipeline: str) -> Stored | None:
        with self._file.transaction("DEFERRED") as sql:
            held = self._leases.is_held(sql, source, token)
            text = self._text(sql, pipeline)
        self._check_held(held, source, token)
        return None if text is None else Stored.from_text(text)

    def _save(self, source: str, token: str, pipeline: str, stored: Stored, replacing: Stored | None) -> None:
        expected = None if replacing is None else replacing.to_text()
        with self._file.transaction() as sql:
            held = self._leases.is_held(sql, source, token)
            replaces = self._text(sql, pipeline) == expected
            if held and replaces:
                sql.execute("INSERT OR REPLACE INTO stored VALUES (?, ?, ?)", (self._name, pipeline, stored.to_text()))
        self._check_held(held, source, token)
        if not replaces:
            raise kept.replaced_meanwhile(pipeline)

    def _peek(self, pipeline: str) -> Stored | None:
        with self._file.transaction("DEFERRED") as sql:
            text = self._text(sql, pipeline)
        return None if text is None else Stored.from_text(text)

    def _notes(self, kind: str) -> dict[str, str]:
        with self._file.transaction("DEFERRED") as sql:
            return dict(sql.execute("SELECT key, text FROM note WHERE name = ? AND kind = ?", (self._name, kind)))

    def _note(
        self, kind: str, changes: dict[str, str | None], expected: dict[str, str | None], under: LeaseToken | None
    ) -> bool:
        with self._file.transaction() as sql:
            held = under is None or self._leases.is_held(sql, *under)
            fits = all(self._note_text(sql, kind, key) == text for key, text in expected.items())
            if held and fits:
                kept_texts = [(self._name, kind, key, text) for key, text in changes.items() if text is not None]
                forgotten = [(self._name, kind, key) for key, text in changes.items() if text is None]
                sql.executemany("INSERT OR REPLACE INTO note VALUES (?, ?, ?, ?)", kept_texts)
                sql.executemany("DELETE FROM note WHERE name = ? AND kind = ? AND key = ?", forgotten)
        if under is not None:
            self._check_held(held, *under)
        return fits

    def _note_text(self, sql: sqlite3.Connection, kind: str, key: str) -> str | None:
        asked = "SELECT text FROM note WHERE name = ? AND kind = ? AND key = ?"
        row = sql.execute(asked, (self._name, kind, key)).fetchone()
        return None if row is None else str(row[0])

    def _record(self, record: AuditRecord) -> None:
        with self._file.transaction() as sql:
            sql.execute("INSERT INTO audit (name, record) VALUES (?, ?)", (self._name, kept.record_to_text(record)))
            sql.execute(
                "DELETE FROM audit WHERE name = ? AND id <= "
                "(SELECT id FROM audit WHERE name = ? ORDER BY id DESC LIMIT 1 OFFSET ?)",
                (self._name, self._name, kept.AUDIT_RECORDS_MAX),
            )

    def _audit(self, records_max: int) -> list[AuditRecord]:
        with self._file.transaction("DEFERRED") as sql:
            rows = sql.execute(
                "SELECT record FROM audit WHERE name = ? ORDER BY id DESC LIMIT ?", (self._name, max(records_max, 0))
            ).fetchall()
        return [kept.record_from_text(text) for (text,) in rows]

    def _check_held(self, held: bool, source: str, token: str) -> None:
        if not held:
            self._locks.let_go(source, with_nonce=kept.nonce_of(token))
            raise kept.fenced(source)

    def _text(self, sql: sqlite3.Connection, pipeline: str) -> str | None:
        row = sql.execute("SELECT text FROM stored WHERE name = ? AND pipeline = ?", (self._name, pipeline)).fetchone()
        return None if row is None else str(row[0])
