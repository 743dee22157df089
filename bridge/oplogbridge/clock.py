"""Time, handed in, so that tests and the simulation own it."""

from __future__ import annotations

import asyncio
import time
from typing import Protocol

# CLOCK_BOOTTIME goes on while the machine sleeps; CLOCK_MONOTONIC on Linux does not. A lease held by a laptop that was
# shut for an hour must count as lost (design: "a clock that also counts suspension").
_BOOT_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


class Clock(Protocol):
    def monotonic(self) -> float:
        """Seconds that only grow, suspension included."""

    def unix(self) -> float:
        """Wall-clock seconds, for what people read. Never for a decision about order or ownership."""

    async def sleep(self, seconds: float) -> None: ...


class SystemClock:
    def monotonic(self) -> float:
        return time.clock_gettime(_BOOT_CLOCK)

    def unix(self) -> float:
        return time.time()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
