"""An event loop in a thread: proxies, the webhook receiver and asynchronous clients, for tests that block."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any, Self, TypeVar

from oplogbridge.testing.proxy import Direction, FaultProxy

T = TypeVar("T")
WITHIN_SECONDS = 60.0


class Background:
    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="chaos loop", daemon=True)

    def run(self, call: Coroutine[Any, Any, T], within_seconds: float = WITHIN_SECONDS) -> T:
        """What the coroutine returns; TimeoutError when it takes longer."""
        future = asyncio.run_coroutine_threadsafe(call, self._loop)
        try:
            return future.result(within_seconds)
        except TimeoutError:
            future.cancel()
            raise

    def started(self, call: Coroutine[Any, Any, T]) -> Future[T]:
        """It goes on until it is cancelled."""
        return asyncio.run_coroutine_threadsafe(call, self._loop)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


class Wire:
    """A `FaultProxy` for callers that block: the same verbs."""

    def __init__(self, background: Background, target_port: int, *, port: int = 0) -> None:
        self._background = background
        self._proxy = FaultProxy("127.0.0.1", target_port, port=port)
        background.run(self._proxy.__aenter__())
        self.port = self._proxy.port

    def heal(self) -> None:
        self._now(self._proxy.heal)

    def cut(self) -> None:
        self._now(self._proxy.cut)

    def refuse(self) -> None:
        self._now(self._proxy.refuse)

    def stall(self, *directions: Direction) -> None:
        self._now(self._proxy.stall, *directions)

    def slow(self, bytes_per_second: float) -> None:
        self._now(self._proxy.slow, bytes_per_second)

    def lead_to(self, target_port: int) -> None:
        """What is connected is cut; who comes from now on reaches another server."""
        self._now(self._proxy.lead_to, "127.0.0.1", target_port)

    def cut_after(self, direction: Direction, count_bytes: int) -> asyncio.Event:
        event: asyncio.Event = self._now(self._proxy.cut_after, direction, count_bytes)
        return event

    def reset_before_reply(self, request: Callable[[bytes], bool] = bool) -> asyncio.Event:
        event: asyncio.Event = self._now(self._proxy.reset_before_reply, request)
        return event

    def saw(self, request: Callable[[bytes], bool]) -> asyncio.Event:
        """Tells of the next such request, which passes as all do."""
        seen = asyncio.Event()

        def look(chunk: bytes) -> bool:
            if request(chunk):
                seen.set()
            return False

        self._now(self._proxy.reset_before_reply, look)
        return seen

    def happened(self, event: asyncio.Event, within_seconds: float) -> bool:
        try:
            return self._background.run(event.wait(), within_seconds)
        except TimeoutError:
            return False

    def close(self) -> None:
        self._background.run(self._proxy.__aexit__(None, None, None))

    def _now(self, command: Any, *arguments: Any) -> Any:
        async def call() -> Any:
            return command(*arguments)

        return self._background.run(call())
