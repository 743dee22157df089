"""Whose page is polled next when several pipelines and replays want different ones. Pure."""

from __future__ import annotations

from collections.abc import Iterable

# Of so many turns pipelines leave one to all else (`Reader.ask`). At the live end, where a poll an interval is what
# there is, an entry then waits 1.4 times as long for its poll; with every second turn it would be twice.
BESIDE_EVERY = 5


class Turns:
    """Every second turn goes to the live end (the highest offset wanted), the others take the rest in order.

    So the live end is never more than two turns away, however many backfills run beside it.
    """

    def __init__(self) -> None:
        self._live_had_the_last = False
        self._polls_since_beside = 0

    def leaves_one(self) -> bool:
        """Whether this turn is for what stands beside the pipelines, though they want one too."""
        return self._polls_since_beside >= BESIDE_EVERY - 1

    def beside_took_one(self) -> None:
        self._polls_since_beside = 0

    def next(self, wanted: Iterable[int]) -> int:
        """The offset to poll now. `wanted` is in order of asking and never empty."""
        self._polls_since_beside += 1
        offsets = list(wanted)
        live = max(offsets)
        others = [offset for offset in offsets if offset != live]
        if not others or not self._live_had_the_last:
            self._live_had_the_last = True
            return live
        self._live_had_the_last = False
        return others[0]
