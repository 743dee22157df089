"""Asking whoever needs to be asked: the process that holds a source, or, when nobody does, the source itself."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import secrets
import socket
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote, urlsplit

import aiohttp
import orjson

from oplogbridge.admin.views import page_view
from oplogbridge.admin.whole_pages import page_of_view
from oplogbridge.assembly import pipeline_of, source_of, store_of
from oplogbridge.clock import SystemClock
from oplogbridge.config import Settings, start_text
from oplogbridge.config.listen import is_loopback
from oplogbridge.errors import BridgeError, Misconfigured, Unavailable
from oplogbridge.lease import Lease
from oplogbridge.source.holding import Held, held_source
from oplogbridge.source.start import Start, resolve
from oplogbridge.spec import PipelineSpec
from oplogbridge.state import Holder, StateStore
from oplogbridge.values import OFFSET_EARLIEST, Page

ASK_SECONDS_MAX = 70.0  # longer than the holder's own limit, so that its reason arrives


class SourceAccess:
    """One source, as a command can reach it: held here, or through its holder's admin server."""

    def __init__(self, settings: Settings, source: str, store: StateStore, held: Held | None, holder: Holder | None):
        self._settings = settings
        self._source = source
        self.store = store
        self.held = held
        self.holder = holder

    @property
    def lease(self) -> Lease | None:
        return None if self.held is None else self.held.lease

    async def tail(self) -> dict[str, Any]:
        """The newest entries, as `page_view` has them."""
        if self.held is not None:
            return page_view(await self._own(self.held.reader.tail()))
        return await self._ask("GET", f"/api/sources/{self._source}/page?tail=1")

    async def page(self, offset: int) -> dict[str, Any]:
        if self.held is not None:
            return page_view(await self._own(self.held.reader.page(offset)))
        return await self._ask("GET", f"/api/sources/{self._source}/page?offset={offset}")

    async def whole_page(self, offset: int) -> Page:
        """With all that an event is made of."""
        if self.held is not None:
            found: Page = await self._own(self.held.reader.page(offset))
            return found
        return page_of_view(await self._ask("GET", f"/api/sources/{self._source}/page?offset={offset}&whole=1"))

    async def resolve(self, start: Start) -> int:
        """The offset that `start` means now."""
        if start.kind in ("earliest", "sequence"):
            return OFFSET_EARLIEST if start.value is None else start.value
        if self.held is not None:
            found: int = await self._own(resolve(start, self.held.reader))
            return found
        answer = await self._ask("GET", f"/api/sources/{self._source}/start?at={quote(start_text(start))}")
        return int(answer["offset"])

    async def set_offset(self, pipeline: str, offset: int) -> dict[str, Any]:
        """Have the holder move the offset of a pipeline that is stopped there."""
        return await self._ask("PUT", f"/api/pipelines/{pipeline}/offset", {"offset": str(offset)})

    async def status(self) -> dict[str, Any] | None:
        """What the holder's admin server knows of itself; None where nobody holds the source, or nobody answers."""
        if self.held is not None or self.holder is None:
            return None
        try:
            return await self._ask("GET", "/api/status")
        except BridgeError:
            return None

    async def look(self) -> bool:
        """Tell the holder that an operator wants something; False where nobody can be told, who finds it by himself."""
        if self.held is not None or self.holder is None:
            return False
        try:
            await self._ask("POST", f"/api/sources/{self._source}/look", {})
        except BridgeError:
            return False
        return True

    async def _own(self, asked: Any) -> Any:
        """Our own reader retries for ever, which is right for a pipeline; a command says what is wrong instead."""
        assert self.held is not None, "asked only where the source is held here"
        try:
            return await asyncio.wait_for(asked, ASK_SECONDS_MAX)
        except TimeoutError as error:
            raise Unavailable(self.held.reader.error or f"source {self._source} did not answer in time") from error

    async def _ask(self, method: str, path: str, body: dict[str, str] | None = None) -> dict[str, Any]:
        if self.holder is None or self.holder.admin_url is None:
            who = "another instance" if self.holder is None else self.holder.instance
            raise Misconfigured(
                f"source {self._source} is held by {who}, whose admin server is off: stop it, or switch `admin` on"
            )
        if self.holder.host != socket.gethostname() and is_loopback(urlsplit(self.holder.admin_url).hostname or ""):
            raise Misconfigured(
                f"source {self._source} is held by {self.holder.instance} on {self.holder.host}, whose admin server "
                "listens on loopback only: run this command there, or set `admin.listen` and `admin.token`"
            )
        token = self._settings.admin.token
        headers = {} if token is None else {"Authorization": f"Bearer {token.get_secret_value()}"}
        try:
            async with (
                aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=ASK_SECONDS_MAX)) as session,
                session.request(method, self.holder.admin_url + path, json=body, headers=headers) as response,
            ):
                answer: dict[str, Any] = orjson.loads(await response.read())
                if response.status != 200:
                    raise Misconfigured(f"{self.holder.instance} refuses: {answer.get('error', response.status)}")
                return answer
        except (aiohttp.ClientError, TimeoutError, orjson.JSONDecodeError) as error:
            raise Unavailable(
                f"{self.holder.instance} holds source {self._source} and does not answer at {self.holder.admin_url}: "
                "try again, or wait until its lease runs out"
            ) from error


@contextlib.asynccontextmanager
async def reach_source(settings: Settings, source: str) -> AsyncIterator[SourceAccess]:
    """Take the lease when nobody holds it, else find out who does. The state store is open meanwhile."""
    clock = SystemClock()
    async with opened_store(settings) as store:
        spec = source_of(settings, source, settings.sources[source], {})
        host, pid = socket.gethostname(), os.getpid()
        holder = Holder(f"{host}-{pid}-{secrets.token_hex(3)}", host, pid, admin_url=None)
        async with held_source(
            name=source,
            make_client=spec.make_client,
            poll_interval_seconds=spec.poll_interval_seconds,
            store=store,
            holder=holder,
            lease_ttl_seconds=settings.lease_ttl,
            clock=clock,
            jitter=random.random,
        ) as held:
            other = None if held is not None else await store.holder(source)
            yield SourceAccess(settings, source, store, held, other)


@contextlib.asynccontextmanager
async def opened_store(settings: Settings) -> AsyncIterator[StateStore]:
    store = store_of(settings, SystemClock())
    try:
        await store.open()
        yield store
    finally:
        await store.close()


def spec_of(settings: Settings, pipeline: str) -> PipelineSpec:
    """The specification of one pipeline of the configuration."""
    chosen = settings.pipelines[pipeline]
    return pipeline_of(settings, pipeline, chosen, settings.sources[chosen.source].id)
