"""The emulator as something that runs: in process for tests, or until it is cancelled for the command line."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import replace
from types import TracebackType
from typing import Any, Self

import msgspec
from aiohttp import web

from oplogbridge.clock import Clock, SystemClock
from oplogbridge.emulator.app import Backend, routes
from oplogbridge.emulator.entry import entry_body
from oplogbridge.emulator.faults import FaultQueue
from oplogbridge.emulator.log import Log, MemoryLog
from oplogbridge.emulator.ratelimit import TokenBucket
from oplogbridge.emulator.requests import RequestLog
from oplogbridge.emulator.sequences import next_sequence
from oplogbridge.emulator.settings import EmulatorSettings, split_listen
from oplogbridge.emulator.switches import Switches


class Emulator:
    """The vendor's backend for one deployment.

        async with Emulator(password="secret") as emulator:
            emulator.append("create", {"id": "1", "type": "user", "name": "Zoë"})
            emulator.faults.add("500", count=2)
            ... emulator.url ...

    Settings are given whole or by name. The log and all faults outlive `stop()` and `start()`, which make an outage.
    """

    def __init__(
        self, settings: EmulatorSettings | None = None, /, *, clock: Clock | None = None, **changes: Any
    ) -> None:
        self.settings = settings = replace(settings or EmulatorSettings(), **changes)
        self.clock = clock or SystemClock()
        self.log: Log = MemoryLog()
        self.faults = FaultQueue(settings.seed)
        self.requests = RequestLog()
        self._host, self._port = split_listen(settings.listen)
        self._runner: web.AppRunner | None = None
        self._backend = Backend(
            deployment=settings.deployment,
            username=settings.username or settings.deployment,
            password=settings.password,
            tokens=settings.tokens,
            log=self.log,
            faults=self.faults,
            requests=self.requests,
            clock=self.clock,
            bucket=_bucket(settings),
            datamodel_hash=settings.datamodel_hash,
            switches=settings.switches,
        )

    @property
    def url(self) -> str:
        """The base URL, ending in `/api/v4/{deployment}`. The port is known once it was started."""
        host = {"0.0.0.0": "127.0.0.1", "": "127.0.0.1", "::": "::1"}.get(self._host, self._host)  # noqa: S104
        host = f"[{host}]" if ":" in host else host
        return f"http://{host}:{self._port}/api/v4/{self.settings.deployment}"

    @property
    def switches(self) -> Switches:
        return self._backend.switches

    def switch(self, **changes: Any) -> None:
        """Change undocumented behaviour while it runs: `switch(tail_order="descending")`."""
        self._backend.switches = msgspec.convert(msgspec.structs.asdict(self.switches) | changes, Switches)

    @property
    def datamodel_hash(self) -> str:
        return self._backend.datamodel_hash

    @datamodel_hash.setter
    def datamodel_hash(self, text: str) -> None:
        """A deploy of the app: the pages of all history carry the new hash from now on."""
        self._backend.datamodel_hash = text

    def append(self, operation: str, object_: Mapping[str, Any] | bytes, *, sequence: int | None = None) -> int:
        """Write one entry and return its sequence. A sequence below the newest is an entry that was committed late.

        A mapping without `updated_at` gets one; bytes are the object's JSON and are kept as they are.
        """
        sequence = self._mint() if sequence is None else sequence
        self.log.append([sequence], [entry_body(operation, object_)])
        return sequence

    def append_raw(self, text: str | bytes, *, sequence: int | None = None) -> int:
        """Place an entry's own text in the log, served as it stands in every mode: malformed entries are made so."""
        text = text.encode() if isinstance(text, str) else text
        if not text.startswith(b"{"):
            raise ValueError("an entry's text begins with '{'")
        sequence = self._mint() if sequence is None else sequence
        self.log.append([sequence], [text])
        return sequence

    async def start(self) -> None:
        application = web.Application()
        application.add_routes(routes(self._backend))
        runner = web.AppRunner(
            application, access_log=None, handle_signals=False, handler_cancellation=True, shutdown_timeout=0.0
        )
        await runner.setup()
        self._runner = runner
        await web.TCPSite(runner, self._host, self._port).start()
        self._port = runner.addresses[0][1]

    async def stop(self) -> None:
        """Nobody answers at the port any more; the log stays."""
        if self._runner is not None:
            runner, self._runner = self._runner, None
            await runner.cleanup()

    async def __aenter__(self) -> Self:
        try:
            await self.start()
        except BaseException:
            self.log.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.stop()
        self.log.close()

    def _mint(self) -> int:
        return next_sequence(self.log.newest, int(self.clock.unix()))


async def serve(settings: EmulatorSettings, *, ready: Callable[[str], None] | None = None) -> None:
    """Run until cancelled. `ready` is told the base URL once the port answers."""
    async with Emulator(settings) as emulator:
        if ready is not None:
            ready(emulator.url)
        await asyncio.Event().wait()


def _bucket(settings: EmulatorSettings) -> TokenBucket | None:
    if settings.requests_per_second is None:
        return None
    return TokenBucket(settings.requests_per_second, settings.request_burst)
