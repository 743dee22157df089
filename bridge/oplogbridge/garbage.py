"""When Python's garbage collector runs. Its own rule counts objects, and it cannot know that a page is a megabyte.

What pages are made of is not tracked, so millions of entries start no collection (measured: one in 300,000 entries)
and need none. A line that broke, though, leaves exceptions, frames and client objects that refer to each other in
circles, and in them its pages: before this, each lost lease left 10 MiB (`make soak` found it). So it also runs here.
"""

from __future__ import annotations

import gc
import time

BETWEEN_SECONDS_MIN = 5.0  # of a thousand pipelines that break together, only the first pays: some 50 ms

_collected_at: float | None = None  # None: not our process


def leave_what_is_loaded() -> None:
    """For a process that does nothing but run a bridge: modules and settings are never looked at again."""
    global _collected_at
    gc.freeze()
    _collected_at = float("-inf")


def collect_after_failure() -> None:
    """At most every few seconds, and only in such a process."""
    global _collected_at
    if _collected_at is not None and time.monotonic() - _collected_at >= BETWEEN_SECONDS_MIN:
        gc.collect()
        _collected_at = time.monotonic()
