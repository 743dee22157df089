"""Whose page is polled next when several pipelines and replays want different ones. Pure."""

from __future__ import annotations

from collections.abc import Iterable


class Turns:
    """Every second turn goes to the live end (the highest offset wanted), the others take the rest in order.

    So the live end is never more than two turns away, however many backfills run beside it.
    """

    def __init__(self) -> None:
        self._live_had_the_last = False

    def next(self, wanted: Iterable[int]) -> int:
        """The offset to poll now. `wanted` is in order of asking and never empty."""
        offsets = list(wanted)
        live = max(offsets)
        others = [offset for offset in offsets if offset != live]
        if not others or not self._live_had_the_last:
            self._live_had_the_last = True
            return live
        self._live_had_the_last = False
        return others[0]
