"""Holding back entries that are too young, for sources that commit lower sequences late. Pure."""

from __future__ import annotations

from dataclasses import replace

from oplogbridge.source.start import unix_seconds
from oplogbridge.values import Page


def settled(page: Page, *, settle_seconds: float, unix_now: float) -> Page:
    """The page up to its first entry younger than `settle_seconds`; what is cut off is asked for again.

    An entry without a readable `updated_at` counts as old: nothing would ever release it.
    """
    if settle_seconds <= 0:
        return page
    for index, entry in enumerate(page.entries):
        written = unix_seconds(entry.updated_at)
        if written is not None and written > unix_now - settle_seconds:
            kept = page.entries[:index]
            malformed = [one for one in page.malformed if one.sequence < entry.sequence]
            last = max(
                kept[-1].sequence if kept else page.from_offset - 1,
                malformed[-1].sequence if malformed else page.from_offset - 1,
            )
            # Not `entry.sequence`: a lower one that is committed late may still come between.
            return replace(page, entries=kept, malformed=malformed, next_offset=last + 1, more=True, held_back=True)
    return page
