"""Ending what must not stay half ended: to its end, however often whoever waits is cancelled."""

from __future__ import annotations

import asyncio

import pytest

from oplogbridge.closing import given_up


async def test_a_task_that_is_given_up_has_ended_even_when_its_giver_is_cancelled_meanwhile() -> None:
    ends = asyncio.Event()

    async def slow_to_end() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await ends.wait()
            raise ValueError("nobody's business")

    task = asyncio.create_task(slow_to_end())
    await asyncio.sleep(0)
    giving = asyncio.create_task(given_up([task]))
    for _ in range(3):
        await asyncio.sleep(0)
        giving.cancel()
    await asyncio.sleep(0)
    assert not giving.done()

    ends.set()
    with pytest.raises(asyncio.CancelledError):
        await giving

    assert task.done()
