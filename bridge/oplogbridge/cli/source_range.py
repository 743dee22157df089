"""A range of a source's log for a command that reads long: at the source's pace, and never in a bridge's way.

Whoever holds the source is asked. Where nobody does the lease is taken, and given back now and then: a bridge that
waits for it then goes on, and is asked from there.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator

from oplogbridge.cli.holder import reach_source
from oplogbridge.clock import SystemClock
from oplogbridge.config import Settings
from oplogbridge.errors import BridgeError, ConfigError
from oplogbridge.values import Page

HOLD_SECONDS_MAX = 60.0
_TRIES_MAX = 5  # to find who holds the source now, a lease's time apart


async def source_range(settings: Settings, source: str, begin: int, end: int) -> AsyncGenerator[Page, None]:
    """Pages from `begin` on, until one ends at or beyond `end` or nothing more follows.

    Raises:
        BridgeError: The source, or whoever holds it, does not answer.
    """
    clock = SystemClock()
    offset, tries = begin, 0
    while offset < end:
        until = clock.monotonic() + HOLD_SECONDS_MAX
        try:
            async with reach_source(settings, source) as access:
                while offset < end and (access.lease is None or clock.monotonic() < until):
                    page = await access.whole_page(offset)
                    tries = 0
                    yield page
                    if not page.more and not page.entries:
                        return
                    offset = page.next_offset
        except ConfigError:
            raise
        except BridgeError:
            tries += 1
            if offset == begin or tries >= _TRIES_MAX:
                raise  # else whoever held it has ended meanwhile, or somebody took it from us
        if offset < end:
            await clock.sleep(settings.lease_ttl)
