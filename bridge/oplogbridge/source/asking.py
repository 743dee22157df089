"""Asking the source beside the pages until it answers: for whoever has time (replays, snapshots)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

import structlog

from oplogbridge.backoff import Backoff
from oplogbridge.clock import Clock
from oplogbridge.errors import Unavailable
from oplogbridge.source.answers import AnswerTooLarge
from oplogbridge.source.reader import Client, Reader

T = TypeVar("T")

_log = structlog.get_logger()


class Patience:
    """Of one who asks one question after the other."""

    def __init__(self, reader: Reader, what: str, *, clock: Clock, jitter: Callable[[], float]) -> None:
        self._reader = reader
        self._what = what
        self._clock = clock
        self._backoff = Backoff(first_seconds=0.5, max_seconds=30.0, jitter=jitter)

    async def ask(self, question: Callable[[Client], Awaitable[T]]) -> T:
        """Waits out every fault that may pass; raises as `Reader.page`, and AnswerTooLarge."""
        while True:
            try:
                answer = await self._reader.ask(question)
            except AnswerTooLarge:
                raise
            except Unavailable as error:
                _log.info("the source did not answer", to=self._what, error=str(error))
                await self._clock.sleep(self._backoff.next_seconds(error.retry_after_seconds))
                continue
            self._backoff.reset()
            return answer
