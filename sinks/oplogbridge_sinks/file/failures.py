"""From what the operating system says to what the pipeline should do next: the one place."""

from __future__ import annotations

import errno
import os

from oplogbridge.errors import BridgeError, Misconfigured, Unavailable

DEADLINE_SECONDS = 30.0  # a disk that takes longer for a batch is treated as gone

_PERSON_MENDS = frozenset(
    {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP}
    | {errno.ENAMETOOLONG, errno.ENOTSUP, errno.ENOLCK}
)


def translate(error: OSError, destination: str) -> BridgeError:
    if isinstance(error, TimeoutError) and error.errno is None:
        return Unavailable(f"{destination}: the disk did not answer in {DEADLINE_SECONDS:g}s; it will be tried again")
    reason = os.strerror(error.errno) if error.errno else type(error).__name__
    if error.errno in _PERSON_MENDS:
        return Misconfigured(f"{destination}: {reason}; mend the path or its permissions")
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):  # the disk, a quota, a limit on the file's size
        return Unavailable(f"{destination}: {reason}; it goes on when there is room again")
    return Unavailable(f"{destination}: {reason}; it will be tried again")
