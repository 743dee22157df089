"""When Python's garbage collector runs. Its own rule counts objects, and it cannot know that a page is a megabyte.

What pages are made of is not tracked, so millions of entries start no collection (measured: one in 300,000 entries)
and need none. A line that broke, though, leaves exceptions, frames and client objects that refer to each other in
circles, and in them its pages: before this, each lost lease left 10 MiB (`make soak` found it). So it also runs here.
"""

from __future__ import annotations

import asyncio
import gc
import time

BETWEEN_SECONDS_MIN = 5.0  # of a thousand pipelines that break together, the first pays and one more: some 50 ms each

_collected_at: float | None = None  # None: not our process
_another: asyncio.TimerHandle | None = None


def leave_what_is_loaded() -> None:
    """For a process that does nothing but run a bridge: modules and settings are never looked at again."""
    global _collected_at
    gc.freeze()
    _collected_at = float("-inf")


def collect_after_failure() -> None:
    """At most every few seconds, and only in such a process. What breaks in between is collected once they are over."""
    global _another
    if _collected_at is None:
        return
    wait_seconds = _collected_at + BETWEEN_SECONDS_MIN - time.monotonic()
    if wait_seconds <= 0:
        _collect()
    elif _another is None:
        _another = asyncio.get_running_loop().call_later(wait_seconds, _collect)


def _collect() -> None:
    global _collected_at, _another
    if _another is not None:
        _another.cancel()
        _another = None
    gc.collect()
    _collected_at = time.monotonic()
