"""What `run` and `demo` share: a bridge with its admin server and its signals, from start to drained end."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import random
import signal
import sys
from collections.abc import AsyncIterator, Iterator

from oplogbridge.admin.server import AdminServer
from oplogbridge.assembly import sources_of, store_of
from oplogbridge.bridge import Bridge
from oplogbridge.clock import Clock, SystemClock
from oplogbridge.config import Listen, Settings

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8  # <malloc.h>


def bridge_of(
    settings: Settings, clock: Clock, *, only_pipelines: frozenset[str] | None = None, until_caught_up: bool = False
) -> Bridge:
    return Bridge(
        sources_of(settings, only_pipelines=only_pipelines),
        store=store_of(settings, clock),
        clock=clock,
        jitter=random.random,
        lease_ttl_seconds=settings.lease_ttl,
        shutdown_timeout_seconds=settings.shutdown_timeout,
        instance=settings.instance,
        until_caught_up=until_caught_up,
    )


@contextlib.asynccontextmanager
async def admin_of(
    bridge: Bridge, settings: Settings, listen: Listen | None, clock: Clock
) -> AsyncIterator[str | None]:
    """The admin server's base URL, or None when it is off."""
    if listen is None:
        yield None
        return
    token = settings.admin.token
    server = AdminServer(
        bridge,
        host=listen.host,
        port=listen.port,
        loopback=listen.loopback,
        token=None if token is None else token.get_secret_value(),
        clock=clock,
    )
    url = await server.start()
    try:
        yield url
    finally:
        await server.close()


@contextlib.contextmanager
def drained_by_signals(bridge: Bridge) -> Iterator[None]:
    """SIGTERM and SIGINT drain; a second one ends at once, which loses nothing either."""
    loop = asyncio.get_running_loop()
    running = asyncio.current_task()

    def on_signal() -> None:
        if bridge.status.stopping and running is not None:
            running.cancel()
        bridge.stop()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal)
    try:
        yield
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)


def keep_freed_memory() -> None:
    """A page's half megabyte goes and comes back every few milliseconds. By default glibc returns it to the kernel each
    time, which costs 0.4 page faults an entry and up to 1 µs of system time; with 64 MiB kept, next to none.

    One heap for all threads: those that compress or save would each keep what they freed in a heap of their own.
    """
    with contextlib.suppress(AttributeError, OSError):  # not glibc
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_MMAP_THRESHOLD, 32 * 2**20)
        mallopt(_M_TRIM_THRESHOLD, 64 * 2**20)
        mallopt(_M_ARENA_MAX, 1)


async def show_progress(bridge: Bridge, *, seconds: float = 1.0) -> None:
    """One line a second on a terminal, rewritten in place; a plain line every ten seconds elsewhere."""
    clock, tty = SystemClock(), sys.stderr.isatty()
    delivered_before, ticks = 0, 0
    try:
        while True:
            await clock.sleep(seconds)
            ticks += 1
            delivered = sum(p.events_delivered for p in bridge.status.pipelines.values())
            rate = (delivered - delivered_before) / seconds
            delivered_before = delivered
            states = sorted({p.state if not p.caught_up else "caught up" for p in bridge.status.pipelines.values()})
            line = f"{delivered:,} events delivered, {rate:,.0f}/s, {', '.join(states)}"
            if tty:
                sys.stderr.write(f"\r\x1b[K{line}")
                sys.stderr.flush()
            elif ticks % 10 == 0:
                sys.stderr.write(line + "\n")
    finally:
        if tty:
            sys.stderr.write("\r\x1b[K")
