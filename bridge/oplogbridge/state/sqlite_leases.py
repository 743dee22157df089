"""Leases in an SQLite file: a row that expires, and a file lock that dies with its holder.

Every look at a lock happens inside a write transaction, so a lock that is taken only to see whether its holder lives is
never in anybody's way. Who may take a lease that has not expired:

    row                                   file lock      why
    `locked`, the holder took the lock    can be taken   the holder is dead: at once
    `locked`                              is held        nobody: the holder lives
    not `locked`                          -              nobody: its holder took the row over from a stopped process
                                                         that still has the lock, and gets it when it renews
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from oplogbridge.clock import Clock
from oplogbridge.state import Holder, kept
from oplogbridge.state.file_lock import FileLocks

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_ROUNDING_SECONDS = 1.0
_LOOKING = "looking"  # no nonce: the lock is held only to see whether it can be


class _Row(NamedTuple):
    epoch: int
    token: str | None
    holder: str
    expires_at: float
    ttl_seconds: float
    boot_id: str
    locked: int


@dataclass(frozen=True, slots=True)
class Ask:
    """One request for a lease. `unanswered` are nonces of this store's requests whose answer never reached a caller."""

    source: str
    holder: Holder
    ttl_seconds: float
    nonce: str
    unanswered: tuple[str, ...]


class SqliteLeases:
    """Blocking, and inside the caller's transaction (IMMEDIATE, except `is_held`)."""

    def __init__(self, name: str, clock: Clock, locks: FileLocks) -> None:
        self._name = name
        self._clock = clock
        self._locks = locks
        self._boot_id = _boot_id()

    def acquire(self, sql: sqlite3.Connection, ask: Ask) -> str | None:
        """The token, or None. The file lock, where it could be had, goes with the lease of `ask.nonce`."""
        row = self._row(sql, ask.source)
        if row is not None and row.token is not None:
            # The lock of a lease of ours that somebody else took over meanwhile is kept from them no longer.
            self._locks.let_go_unless(ask.source, with_nonce=kept.nonce_of(row.token))
            if not self._may_take(row, ask):
                return None
        epoch = 1 if row is None else row.epoch + 1
        token = kept.token(epoch, ask.nonce)
        locked = self._locks.try_take(ask.source, ask.nonce)
        sql.execute(
            "INSERT OR REPLACE INTO lease VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                self._name,
                ask.source,
                epoch,
                token,
                kept.holder_to_text(ask.holder),
                self._clock.monotonic() + ask.ttl_seconds,
                ask.ttl_seconds,
                self._boot_id,
                int(locked),
            ),
        )
        return token

    def renew(self, sql: sqlite3.Connection, source: str, token: str, ttl_seconds: float) -> bool:
        """Whether the token is the lease's; then it holds for `ttl_seconds` more."""
        if not self.is_held(sql, source, token):
            return False
        locked = self._locks.try_take(source, kept.nonce_of(token))
        sql.execute(
            "UPDATE lease SET expires_at = ?, ttl_seconds = ?, boot_id = ?, locked = ? WHERE name = ? AND source = ?",
            (self._clock.monotonic() + ttl_seconds, ttl_seconds, self._boot_id, int(locked), self._name, source),
        )
        return True

    def release(self, sql: sqlite3.Connection, source: str, token: str) -> None:
        sql.execute(
            "UPDATE lease SET token = NULL WHERE name = ? AND source = ? AND token = ?", (self._name, source, token)
        )

    def holder(self, sql: sqlite3.Connection, source: str) -> Holder | None:
        row = self._row(sql, source)
        if row is None or row.token is None or self._expired(row) or self._holder_died(row, source, _LOOKING):
            self._locks.let_go(source, with_nonce=_LOOKING)
            return None
        return kept.holder_from_text(row.holder)

    def is_held(self, sql: sqlite3.Connection, source: str, token: str) -> bool:
        row = self._row(sql, source)
        return row is not None and row.token == token and row.boot_id == self._boot_id and not self._expired(row)

    def _may_take(self, row: _Row, ask: Ask) -> bool:
        assert row.token is not None
        if ask.holder.reclaims and kept.holder_from_text(row.holder).instance == ask.holder.instance:
            return True
        if kept.nonce_of(row.token) in ask.unanswered:
            return True
        return self._expired(row) or self._holder_died(row, ask.source, ask.nonce)

    def _expired(self, row: _Row) -> bool:
        if row.boot_id != self._boot_id:
            # Another boot's clock says nothing. After a reboot the lock is free; where it is held all the same, the
            # file is shared between machines, and its holder lives.
            return not row.locked
        left = row.expires_at - self._clock.monotonic()
        return left <= 0 or left > row.ttl_seconds + _ROUNDING_SECONDS  # the clock began again: a boot without an id

    def _holder_died(self, row: _Row, source: str, nonce: str) -> bool:
        """Then the file lock is held, and goes with the lease of `nonce`."""
        return bool(row.locked) and not self._locks.holds(source) and self._locks.try_take(source, nonce)

    def _row(self, sql: sqlite3.Connection, source: str) -> _Row | None:
        row = sql.execute(
            "SELECT epoch, token, holder, expires_at, ttl_seconds, boot_id, locked FROM lease "
            "WHERE name = ? AND source = ?",
            (self._name, source),
        ).fetchone()
        return None if row is None else _Row(*row)


def _boot_id() -> str:
    try:
        return _BOOT_ID.read_text().strip()
    except OSError:
        return ""  # not Linux
