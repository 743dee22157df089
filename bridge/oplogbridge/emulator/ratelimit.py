"""The vendor's rate limit: a token bucket for the whole deployment, a sustained rate and a burst."""

from __future__ import annotations

import math


class TokenBucket:
    def __init__(self, requests_per_second: float, burst: int) -> None:
        self._requests_per_second = requests_per_second
        self._burst = burst
        self._tokens = float(burst)
        self._at_seconds: float | None = None

    def take(self, now_seconds: float) -> bool:
        passed = 0.0 if self._at_seconds is None else now_seconds - self._at_seconds
        self._tokens = min(self._burst, self._tokens + passed * self._requests_per_second)
        self._at_seconds = now_seconds
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True

    def retry_after_seconds(self) -> int:
        """Whole seconds until a request would be let in again."""
        return max(1, math.ceil((1 - self._tokens) / self._requests_per_second))
