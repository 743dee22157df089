"""The emulator as something that runs: in process for tests, or until it is cancelled for the command line."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from aiohttp import web

from oplogbridge.clock import Clock
from oplogbridge.emulator import app, control
from oplogbridge.emulator.backend import Backend
from oplogbridge.emulator.deployments import Deployments
from oplogbridge.emulator.settings import EmulatorSettings, split_listen

BODY_BYTES_MAX = 64 << 20  # a photo in base64, or a batch of long texts
SHUTDOWN_SECONDS = 0.01  # answers under way are dropped, as in an outage; aiohttp takes 0 for "wait for ever"


class Emulator(Backend):
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
        super().__init__(settings, clock=clock, **changes)
        self._host, self._port = split_listen(self.settings.listen)
        self.more = [Backend(one, clock=clock) for one in self.settings.more]
        self._runner: web.AppRunner | None = None
        self._writing: list[asyncio.Task[None]] = []

    @property
    def url(self) -> str:
        """The base URL, ending in `/api/v4/{deployment}`. The port is known once it was started."""
        return f"{self.root}/api/v4/{self.settings.deployment}"

    @property
    def root(self) -> str:
        if self.settings.origin is not None:
            return self.settings.origin.rstrip("/")
        host = {"0.0.0.0": "127.0.0.1", "": "127.0.0.1", "::": "::1"}.get(self._host, self._host)  # noqa: S104
        host = f"[{host}]" if ":" in host else host
        return f"http://{host}:{self._port}"

    async def start(self) -> None:
        """Answer at the port. After a `stop()` it is the same port."""
        application = web.Application(client_max_size=BODY_BYTES_MAX)
        deployments = Deployments([self, *self.more])
        application.add_routes([*control.routes(deployments), *app.routes(deployments)])
        runner = web.AppRunner(
            application,
            access_log=None,
            handle_signals=False,
            handler_cancellation=True,  # a client that gave up does not leave a held answer behind
            shutdown_timeout=SHUTDOWN_SECONDS,
        )
        await runner.setup()
        self._runner = runner
        await web.TCPSite(runner, self._host, self._port).start()
        self._port = runner.addresses[0][1]
        for one in deployments:
            one.objects.attachments.root = self.root

    async def stop(self) -> None:
        """Nobody answers at the port any more, and open connections are closed; the log stays."""
        if self._runner is not None:
            runner, self._runner = self._runner, None
            await runner.cleanup()

    async def run(self) -> None:
        """Wait until cancelled, or until the background writes fail."""
        await (asyncio.gather(*self._writing) if self._writing else asyncio.Event().wait())

    async def __aenter__(self) -> Self:
        every: list[Backend] = [self, *self.more]
        try:
            for one in every:
                one.fill()
            await self.start()
        except BaseException:
            await self.stop()
            for one in every:
                one.log.close()
            raise
        self._writing = [
            asyncio.create_task(one.write_on(), name="emulator writes") for one in every if one.settings.rate > 0
        ]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            for writing in self._writing:
                writing.cancel()
            await asyncio.gather(*self._writing, return_exceptions=True)
        finally:
            await self.stop()
            for one in (self, *self.more):
                one.log.close()


async def serve(settings: EmulatorSettings, *, ready: Callable[[str], None] | None = None) -> None:
    """Run until cancelled. `ready` is told the base URL once the port answers.

    Raises ConfigError for what a file of the settings has wrong, OSError for a port that is taken.
    """
    async with Emulator(settings) as emulator:
        if ready is not None:
            ready(emulator.url)
        await emulator.run()
