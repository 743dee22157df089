"""The server itself: who may ask what, and the routes."""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
import socket
from collections.abc import Awaitable, Callable
from ipaddress import ip_address
from typing import TypeVar

import orjson
import structlog
from aiohttp import web

from oplogbridge.admin.health import not_ready
from oplogbridge.admin.views import html_page, page_view, status_view
from oplogbridge.admin.whole_pages import whole_page_view
from oplogbridge.bridge import Bridge
from oplogbridge.clock import Clock
from oplogbridge.config.starts import parse_start
from oplogbridge.errors import BridgeError, Misconfigured, Unavailable
from oplogbridge.metrics import Metrics
from oplogbridge.source.reader import Reader
from oplogbridge.source.start import resolve
from oplogbridge.values import offset_of

BODY_BYTES_MAX = 64 * 1024
ASK_SECONDS_MAX = 60.0  # a page can take some turns and back-offs
OPEN_PATHS = frozenset({"/livez", "/readyz", "/metrics"})  # probes and scrapers carry no token

_log = structlog.get_logger()

T = TypeVar("T")

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class AdminServer:
    """Serves one bridge. Start it before the bridge: the address goes into the lease."""

    def __init__(
        self, bridge: Bridge, *, host: str, port: int, loopback: bool, token: str | None, clock: Clock
    ) -> None:
        self._bridge = bridge
        self._host = host
        self._port = port
        self._loopback = loopback
        self._token = token
        self._clock = clock
        self._metrics = Metrics(bridge.status, unix=clock.unix)
        self._runner: web.AppRunner | None = None

    async def start(self) -> str:
        """Listen, and return the base URL. Raises Misconfigured when the address is taken."""
        app = web.Application(middlewares=[self._guard], client_max_size=BODY_BYTES_MAX)
        app.add_routes(
            [
                web.get("/livez", self._live),
                web.get("/readyz", self._ready),
                web.get("/metrics", self._scrape),
                web.get("/", self._page),
                web.get("/api/status", self._status),
                web.get("/api/sources/{source}/page", self._source_page),
                web.get("/api/sources/{source}/start", self._source_start),
                web.post("/api/sources/{source}/look", self._look),
                web.put("/api/pipelines/{pipeline}/offset", self._set_offset),
            ]
        )
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, self._host, self._port).start()
        except OSError as error:
            await self.close()
            raise Misconfigured(
                f"cannot listen at {self._host}:{self._port} ({error.strerror or error}): "
                "set another `admin.listen`, or --admin HOST:PORT, or --admin off"
            ) from error
        host, port = self._runner.addresses[0][:2]
        if ipaddress.ip_address(host).is_unspecified:
            host = socket.gethostname()  # what goes into the lease is where others ask, not where we listen
        url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
        _log.info("admin server listens", url=url)
        return url

    async def close(self) -> None:
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.cleanup()

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Probes are open. The rest is for loopback or a token, never for another site's page in somebody's browser."""
        if request.path not in OPEN_PATHS:
            refusal = self._refusal(request)
            if refusal is not None:
                return refusal
        try:
            return await handler(request)
        except BridgeError as error:
            return _json({"error": str(error)}, status=409)

    def _refusal(self, request: web.Request) -> web.Response | None:
        if self._token is None and not self._loopback:
            return _json({"error": "set `admin.token` to open this beyond loopback"}, status=403)
        if self._token is not None:
            given = request.headers.get("Authorization", "")
            if not hmac.compare_digest(given.encode(errors="replace"), f"Bearer {self._token}".encode()):
                return _json({"error": "send `Authorization: Bearer` with `admin.token`"}, status=401)
        elif not _names_loopback(request.host):
            # A name of another site that resolves to 127.0.0.1 (DNS rebinding) arrives with that name in `Host`.
            return _json({"error": "ask by a loopback address"}, status=403)
        if request.method != "GET" and (
            "Origin" in request.headers or request.content_type != "application/json"
        ):  # a browser's form or fetch cannot avoid one of the two
            return _json({"error": "cross-origin changes are refused"}, status=403)
        return None

    async def _live(self, _: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def _ready(self, _: web.Request) -> web.Response:
        reasons = not_ready(self._bridge.status, self._clock.monotonic())
        return _json({"ready": not reasons, "not_ready": reasons}, status=503 if reasons else 200)

    async def _scrape(self, _: web.Request) -> web.Response:
        return web.Response(body=self._metrics.text(), headers={"Content-Type": "text/plain; version=0.0.4"})

    async def _page(self, _: web.Request) -> web.Response:
        html = html_page(self._bridge.status, unix_now=self._clock.unix(), now=self._clock.monotonic())
        policy = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"
        return web.Response(text=html, content_type="text/html", headers={"Content-Security-Policy": policy})

    async def _status(self, _: web.Request) -> web.Response:
        return _json(status_view(self._bridge.status, unix_now=self._clock.unix(), now=self._clock.monotonic()))

    async def _source_page(self, request: web.Request) -> web.Response:
        """`?tail=1` or `?offset=N`: a page within the holder's pace, for `oplog-bridge tail`; with `&whole=1` all
        that is in it, for `oplog-bridge verify`."""
        reader = self._reader(request)
        if "tail" in request.query:
            return _json(page_view(await _within(reader, reader.tail())))
        offset = offset_of(request.query.get("offset"))
        if offset is None:
            return _json({"error": "offset: a whole number from 0 to 2^63"}, status=400)
        view = whole_page_view if "whole" in request.query else page_view
        return _json(view(await _within(reader, reader.page(offset))))

    async def _source_start(self, request: web.Request) -> web.Response:
        """`?at=latest`, or a time: the offset that it means now, for `oplog-bridge offsets reset`."""
        try:
            start = parse_start(request.query.get("at", ""))
        except ValueError as error:
            return _json({"error": f"at: {error}"}, status=400)
        reader = self._reader(request)
        return _json({"offset": str(await _within(reader, resolve(start, reader)))})

    async def _look(self, request: web.Request) -> web.Response:
        """A command has noted what an operator wants: look at it now."""
        runner = self._bridge.runners.get(request.match_info["source"])
        if runner is None:
            raise Misconfigured("this instance does not run that source")
        runner.look()
        return _json({"looks": True})

    def _reader(self, request: web.Request) -> Reader:
        runner = self._bridge.runners.get(request.match_info["source"])
        if runner is None or runner.reader is None:
            raise Misconfigured("this instance does not hold the source's lease now: try again")
        return runner.reader

    async def _set_offset(self, request: web.Request) -> web.Response:
        """Body `{"offset": "N"}`: for a pipeline that is stopped, on the holder."""
        name = request.match_info["pipeline"]
        try:
            body = orjson.loads(await request.read())
            offset = offset_of(body.get("offset"))
        except (orjson.JSONDecodeError, AttributeError):
            offset = None
        if offset is None:
            return _json({"error": 'the body is {"offset": "N"} with 0 <= N <= 2^63'}, status=400)
        before, now = await self._bridge.set_offset(name, offset)
        return _json({"before": None if before is None else str(before), "now": str(now)})


async def _within(reader: Reader, asked: Awaitable[T]) -> T:
    """Whoever asked has gone by then: what nobody waits for must not take turns from the pipelines."""
    try:
        async with asyncio.timeout(ASK_SECONDS_MAX):
            return await asked
    except TimeoutError as error:
        raise Unavailable(reader.error or "the source did not answer in time: try again") from error


def _json(value: object, *, status: int = 200) -> web.Response:
    return web.Response(body=orjson.dumps(value) + b"\n", status=status, content_type="application/json")


def _names_loopback(host: str) -> bool:
    """By the whole name: `127.0.0.1.evil.example` is a name that anybody may own."""
    name = host.rpartition(":")[0] if host.rpartition(":")[2].isdecimal() else host
    if name == "localhost":
        return True
    try:
        return ip_address(name.removeprefix("[").removesuffix("]")).is_loopback
    except ValueError:
        return False
