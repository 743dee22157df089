"""The exception tree. A class says what to do next, not what happened; the message ends in the next step.

    BridgeError
    ├── Unavailable      close, back off, open again and go on from the position   (.retry_after_seconds)
    ├── Rejected         everything before `event` is durable, it never will be    (.event)
    ├── Misconfigured    only a person can mend it: this pipeline stops, the others go on
    ├── Fenced           someone newer owns it: give the lease up and queue for it again
    └── ConfigError      the configuration is wrong: exit 2, every mistake listed  (.problems)

Whatever a client library raises is translated into one of these in one place per sink, with the cause attached.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from oplogbridge.values import Event


class BridgeError(Exception):
    """Anything this project raises on purpose."""


class Unavailable(BridgeError):
    """It may work later. The write or poll may or may not have happened: trust nothing in memory.

    `retry_after_seconds` is the least that the other side asks for; `exactly`: it is the operator's schedule.
    """

    def __init__(self, message: str, *, retry_after_seconds: float | None = None, exactly: bool = False) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds
        self.exactly = exactly


class Rejected(BridgeError):
    """The destination will never take `event`. Everything before it in the batch is durable, nothing after it is."""

    def __init__(self, event: Event, reason: str) -> None:
        super().__init__(f"sequence {event.sequence} was rejected: {reason}")
        self.event = event
        self.reason = reason


class Misconfigured(BridgeError):
    """Only a person can mend it."""


class Fenced(BridgeError):
    """Someone newer owns the source or the destination."""


class ConfigError(BridgeError):
    """The configuration is wrong; `problems` holds one line for each mistake."""

    def __init__(self, title: str, problems: Sequence[str]) -> None:
        count = f"{len(problems)} problem" + ("" if len(problems) == 1 else "s")
        super().__init__(f"{title}: {count}\n" + "\n".join(f"  {line}" for line in problems))
        self.problems = tuple(problems)


def first_cause(error: BaseException) -> BaseException:
    """What a TaskGroup wrapped: its first trouble is the one to tell."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
