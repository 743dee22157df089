"""How long to wait before the next try. Pure but for the jitter, which is handed in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime

RETRY_AFTER_SECONDS_MAX = 3600.0  # a proxy's "come back tomorrow" must not park a pipeline for a day


@dataclass(slots=True)
class Backoff:
    """Doubles from `first_seconds` to `max_seconds`; `jitter` gives 0 to 1 and spreads instances apart."""

    first_seconds: float
    max_seconds: float
    jitter: Callable[[], float]
    attempts: int = 0

    def next_seconds(self, retry_after_seconds: float | None = None, *, exactly: bool = False) -> float:
        """The next wait: half of it fixed, half of it jitter; never less than what the other side asked for, and
        `exactly` that where it is somebody's schedule."""
        asked = min(retry_after_seconds or 0.0, RETRY_AFTER_SECONDS_MAX)
        whole = min(self.max_seconds, self.first_seconds * 2.0 ** min(self.attempts, 30))
        self.attempts += 1
        wait = whole / 2 + whole / 2 * self.jitter()
        return asked if exactly else max(wait, asked)

    def reset(self) -> None:
        self.attempts = 0


def retry_after_seconds(header: str | None, *, now_unix_seconds: float) -> float | None:
    """What `Retry-After` asks for, as seconds or as an HTTP date; None when it is absent or unreadable. Bounded."""
    if header is None:
        return None
    text = header.strip()
    if text.isascii() and text.isdecimal():
        return min(float(text), RETRY_AFTER_SECONDS_MAX)
    try:
        then = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    seconds = then.replace(tzinfo=then.tzinfo or UTC).timestamp() - now_unix_seconds  # an HTTP date is always GMT
    return min(max(0.0, seconds), RETRY_AFTER_SECONDS_MAX)
