"""Of lines that break together, the last is collected too."""

from __future__ import annotations

import asyncio
import gc
import time
import weakref

import pytest

from oplogbridge import garbage


class Circle:
    def __init__(self) -> None:
        self.itself = self


async def test_what_breaks_right_after_a_collection_is_collected_once_more_when_the_pause_is_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(garbage, "BETWEEN_SECONDS_MIN", 0.05)
    monkeypatch.setattr(garbage, "_collected_at", time.monotonic())  # the first of them has just paid
    gone = asyncio.Event()
    gc.disable()
    try:
        circle = Circle()
        weakref.finalize(circle, gone.set)
        del circle
        garbage.collect_after_failure()
        garbage.collect_after_failure()
        assert not gone.is_set()
        async with asyncio.timeout(20.0):
            await gone.wait()
        assert garbage._another is None
    finally:
        gc.enable()
