"""How often each event was sent. A NATS server would count; here it is this process."""

from __future__ import annotations


class Attempts:
    """Of one pipeline. Outlives its sink, since trouble may close and open that; a new process counts from 1.

    Bounded by the events that can be under way: beyond that, the oldest is an event that somebody passed.
    """

    def __init__(self) -> None:
        self._times: dict[int, int] = {}  # by sequence, of events that are not acknowledged

    def begin(self, sequence: int, *, pending_max: int) -> int:
        """Once more; the count."""
        times = self._times.pop(sequence, 0) + 1
        self._times[sequence] = times
        while len(self._times) > pending_max:
            del self._times[next(iter(self._times))]
        return times

    def forgive(self, sequence: int) -> None:
        """It did not count: the receiver is still working on it."""
        self._times[sequence] = self._times.get(sequence, 1) - 1

    def end(self, sequence: int) -> None:
        """Acknowledged, or rejected."""
        self._times.pop(sequence, None)


_by_owner: dict[str, Attempts] = {}  # one entry a pipeline


def attempts_of(owner: str) -> Attempts:
    return _by_owner.setdefault(owner, Attempts())
