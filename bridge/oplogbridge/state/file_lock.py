"""A lock that dies with its process: how a restart after a crash knows at once that the old holder is gone."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from oplogbridge.errors import Misconfigured, Unavailable

_NAME_LENGTH_MAX = 80


@dataclass(slots=True)
class _Held:
    descriptor: int
    nonce: str  # of the lease that it goes with


class FileLocks:
    """The locks that one store holds, one per source, on `{database}.{source}.lock`.

    flock belongs to the open file, so two stores in one process exclude each other as two processes do. The files stay:
    removing one would let two processes lock two files of the same name.
    """

    def __init__(self, database: Path) -> None:
        self._database = database
        self._held: dict[str, _Held] = {}

    def holds(self, source: str) -> bool:
        return source in self._held

    def try_take(self, source: str, nonce: str) -> bool:
        """Whether this store holds the lock now; it goes with the lease of this nonce from here on.

        Raises Misconfigured or Unavailable when the file cannot be made.
        """
        if source in self._held:
            self._held[source].nonce = nonce
            return True
        path = self._path(source)
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOSPC, errno.EDQUOT, errno.EIO):
                raise Unavailable(f"{path} cannot be opened now ({error.strerror})") from error
            raise Misconfigured(
                f"{path} cannot be made ({error.strerror}): check the rights on its directory"
            ) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:  # somebody has it; or the file system has no locks, then leases end by their TTL alone
            os.close(descriptor)
            return False
        self._held[source] = _Held(descriptor, nonce)
        return True

    def let_go(self, source: str, *, with_nonce: str) -> None:
        """Release the lock if it goes with this lease, which was lost, given up or never committed."""
        if source in self._held and self._held[source].nonce == with_nonce:
            self._close(source)

    def let_go_unless(self, source: str, *, with_nonce: str) -> None:
        """Release the lock if it goes with another lease than this one, which is the source's now."""
        if source in self._held and self._held[source].nonce != with_nonce:
            self._close(source)

    def let_go_all(self) -> None:
        for source in list(self._held):
            self._close(source)

    def _close(self, source: str) -> None:
        os.close(self._held.pop(source).descriptor)

    def _path(self, source: str) -> Path:
        safe = quote(source, safe="")
        if len(safe) > _NAME_LENGTH_MAX:
            safe = f"{safe[:_NAME_LENGTH_MAX]}-{hashlib.sha256(source.encode()).hexdigest()[:16]}"
        return self._database.with_name(f"{self._database.name}.{safe}.lock")
