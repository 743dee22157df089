"""How long to wait before the next try. Pure but for the jitter, which is handed in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

RETRY_AFTER_SECONDS_MAX = 3600.0  # a proxy's "come back tomorrow" must not park a pipeline for a day


@dataclass(slots=True)
class Backoff:
    """Doubles from `first_seconds` to `max_seconds`; `jitter` gives 0 to 1 and spreads instances apart."""

    first_seconds: float
    max_seconds: float
    jitter: Callable[[], float]
    attempts: int = 0

    def next_seconds(self, retry_after_seconds: float | None = None) -> float:
        """The next wait: half of it fixed, half of it jitter; never less than what the other side asked for."""
        whole = min(self.max_seconds, self.first_seconds * 2.0 ** min(self.attempts, 30))
        self.attempts += 1
        wait = whole / 2 + whole / 2 * self.jitter()
        return max(wait, min(retry_after_seconds or 0.0, RETRY_AFTER_SECONDS_MAX))

    def reset(self) -> None:
        self.attempts = 0
