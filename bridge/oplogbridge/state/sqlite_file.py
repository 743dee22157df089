"""One SQLite file, and what goes wrong with files. Blocking: used by the one worker thread of its store.

Every commit is on the disk when it returns (WAL, synchronous=FULL). After any error the connection is thrown away, and
the next call opens the file again: nothing is trusted that an error may have left half done.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal

from oplogbridge.errors import BridgeError, Misconfigured, Unavailable
from oplogbridge.state import FORMAT_VERSION, kept

_APPLICATION_ID = 0x4F504C42  # "OPLB", in the file's header: tells our file from another program's
_RETRY_SECONDS = 0.01

_SCHEMA = (
    f"PRAGMA application_id = {_APPLICATION_ID}",
    f"PRAGMA user_version = {FORMAT_VERSION}",
    """CREATE TABLE lease (
        name TEXT NOT NULL,
        source TEXT NOT NULL,
        epoch INTEGER NOT NULL,          -- of the newest token; stays when the lease is released
        token TEXT,                      -- NULL: released
        holder TEXT NOT NULL,            -- JSON
        expires_at REAL NOT NULL,        -- CLOCK_BOOTTIME seconds of the boot `boot_id`
        ttl_seconds REAL NOT NULL,
        boot_id TEXT NOT NULL,
        locked INTEGER NOT NULL,         -- 1: the holder has the file lock, so whoever gets it knows the holder dead
        PRIMARY KEY (name, source)
    ) WITHOUT ROWID""",
    """CREATE TABLE stored (
        name TEXT NOT NULL,
        pipeline TEXT NOT NULL,
        text TEXT NOT NULL,              -- of a `Stored`
        PRIMARY KEY (name, pipeline)
    ) WITHOUT ROWID""",
    """CREATE TABLE audit (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        name TEXT NOT NULL,
        record TEXT NOT NULL             -- JSON
    )""",
)
# Came later: a file that has none gets it, and a version that knows none leaves it alone.
_NOTES = """CREATE TABLE IF NOT EXISTS note (
    name TEXT NOT NULL,
    kind TEXT NOT NULL,
    key TEXT NOT NULL,
    text TEXT NOT NULL,
    PRIMARY KEY (name, kind, key)
) WITHOUT ROWID"""


class SqliteFile:
    def __init__(self, path: Path, *, busy_seconds: float) -> None:
        self.path = path
        self._busy_seconds = busy_seconds
        self._connection: sqlite3.Connection | None = None
        self._inode: tuple[int, int] | None = None  # device and inode of the file that the connection has open

    def open(self) -> None:
        """Create the file where it is missing. Raises Misconfigured, Unavailable."""
        if self._connection is not None:
            return
        give_up_at = time.monotonic() + self._busy_seconds
        while True:
            try:
                self._connect()
            except sqlite3.Error as error:
                self.close()
                # Two processes that create or recover one file get "locked" at once, whatever the busy timeout says.
                if _primary_code(error) == sqlite3.SQLITE_BUSY and time.monotonic() < give_up_at:
                    time.sleep(_RETRY_SECONDS)
                    continue
                raise translated(error, self.path) from error
            except OSError as error:
                self.close()
                raise Unavailable(f"{self.path} was removed while it was opened: opening it again") from error
            except BaseException:
                self.close()
                raise
            return

    def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(sqlite3.Error):
                connection.close()

    @contextmanager
    def transaction(self, kind: Literal["IMMEDIATE", "DEFERRED"] = "IMMEDIATE") -> Iterator[sqlite3.Connection]:
        """Commits at the end, rolls back on any exception. IMMEDIATE: nobody else writes between its reads and writes.

        Raises Misconfigured, Unavailable; after either it may or may not have been committed.
        """
        self.open()
        self._check_inode()
        connection = self._connection
        assert connection is not None
        try:
            connection.execute(f"BEGIN {kind}")
            yield connection
            connection.execute("COMMIT")
        except sqlite3.Error as error:
            self.close()
            raise translated(error, self.path) from error
        except BaseException:
            with suppress(sqlite3.Error):
                connection.execute("ROLLBACK")
            raise

    def _connect(self) -> None:
        connection = sqlite3.connect(self.path, timeout=self._busy_seconds, isolation_level=None)
        self._connection = connection
        # In this order: whoever creates the file just now makes tables and id in one step.
        (tables,) = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        if tables and _pragma(connection, "application_id") != _APPLICATION_ID:
            raise Misconfigured(f"{self.path} is another program's SQLite database: name another file in `state:`")
        kept.check_format(_pragma(connection, "user_version"), str(self.path))
        # Where a file system has no shared memory SQLite stays with its rollback journal, which is as durable.
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("BEGIN IMMEDIATE")
        if _pragma(connection, "application_id") != _APPLICATION_ID:
            for statement in _SCHEMA:
                connection.execute(statement)
        connection.execute(_NOTES)
        connection.execute("COMMIT")
        status = self.path.stat()
        self._inode = (status.st_dev, status.st_ino)

    def _check_inode(self) -> None:
        """A file that was removed or replaced goes on being written, unseen by everybody else."""
        try:
            status = self.path.stat()
        except OSError:
            pass
        else:
            if self._inode == (status.st_dev, status.st_ino):
                return
        self.close()
        raise Unavailable(f"{self.path} was removed or replaced while it was open: opening it again")


def translated(error: sqlite3.Error, path: Path) -> BridgeError:
    """What SQLite's error means for the bridge, with the next step. A mistake of our own code is raised as it is."""
    code = _primary_code(error)
    if code is None:
        raise error
    if code == sqlite3.SQLITE_FULL:
        return Unavailable(f"the disk of {path} is full: make room, it goes on by itself")
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return Unavailable(f"{path} is locked by another process: find it with `fuser {path}`")
    if code in (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_FORMAT):
        return Misconfigured(
            f"{path} is damaged or not a SQLite database ({error}): restore it from a backup, or move it away with its "
            "-wal file (where a destination holds its position the bridge finds the offset there)"
        )
    if code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_AUTH):
        user = os.geteuid()
        return Misconfigured(
            f"{path} cannot be written ({error}): its directory must exist, and user {user} must have the right to "
            "write to both"
        )
    if code == sqlite3.SQLITE_ERROR:
        return Misconfigured(
            f"{path} does not hold what oplog-bridge keeps there ({error}): restore it, or move it away"
        )
    return Unavailable(f"{path}: {error}: look at the disk, it goes on by itself")


def _primary_code(error: sqlite3.Error) -> int | None:
    code = getattr(error, "sqlite_errorcode", None)
    return None if code is None else code & 0xFF


def _pragma(connection: sqlite3.Connection, name: str) -> int:
    (value,) = connection.execute(f"PRAGMA {name}").fetchone()
    return int(value)
