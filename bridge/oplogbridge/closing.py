"""Ending what must not stay half ended."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any

import structlog

_log = structlog.get_logger()


async def to_the_end(closings: Sequence[Coroutine[Any, Any, None]]) -> None:
    """Wait for all of them, however often we are cancelled meanwhile; each is bounded by its contract."""
    tasks = [asyncio.create_task(closing) for closing in closings]
    try:
        await _all_done(tasks)
    finally:
        for task in tasks:
            failed = None if task.cancelled() else task.exception()
            if failed is not None:
                _log.error("a sink could not be closed", error=repr(failed))


async def given_up(tasks: Sequence[asyncio.Task[Any]]) -> None:
    """Cancel them and wait until they have ended, however often we are cancelled meanwhile; what they raised is
    nobody's business any more."""
    for task in tasks:
        task.cancel()
    try:
        await _all_done(tasks)
    finally:
        for task in tasks:
            if not task.cancelled():
                task.exception()  # retrieved, or asyncio complains about it later


async def _all_done(tasks: Sequence[asyncio.Task[Any]]) -> None:
    """Raises the CancelledError that came meanwhile, when all are done."""
    cancelled: asyncio.CancelledError | None = None
    while not all(task.done() for task in tasks):
        try:
            await asyncio.wait(tasks)
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        raise cancelled
