"""A webhook receiver: a real HTTP server that keeps every request and answers as a test tells it.

receiver.answer(503, headers={"Retry-After": "7"})   # the next request; after the script it acknowledges
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from aiohttp import web


@dataclass(frozen=True, slots=True)
class Post:
    headers: Mapping[str, str]
    body: bytes


@dataclass(slots=True)
class Receiver:
    posts: list[Post] = field(default_factory=list)
    acknowledged: list[Post] = field(default_factory=list)  # answered with 2xx, and not "still working"
    refuse: Callable[[Post], bool] = lambda _: False  # 413: these are too large
    port: int = 0
    _script: deque[tuple[int, dict[str, str], str]] = field(default_factory=deque)
    _runner: web.AppRunner | None = None

    def answer(self, status: int, *, headers: dict[str, str] | None = None, text: str = "", times: int = 1) -> None:
        self._script.extend([(status, headers or {}, text)] * times)

    def hang(self) -> None:
        """The next request is never answered."""
        self._script.append((0, {}, ""))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook"

    @property
    def ids(self) -> list[str]:
        """Of what was acknowledged."""
        return [post.headers["webhook-id"] for post in self.acknowledged]

    async def _handle(self, request: web.Request) -> web.Response:
        post = Post(request.headers.copy(), await request.read())
        self.posts.append(post)
        status, headers, text = self._script.popleft() if self._script else (204, {}, "")
        if self.refuse(post):
            status, headers, text = 413, {}, "too large"
        if status == 0:
            await asyncio.Event().wait()
        if 200 <= status < 300 and "Oplog-Ack" not in headers:
            self.acknowledged.append(post)
        return web.Response(status=status, headers=headers, text=text or None)

    async def __aenter__(self) -> Self:
        app = web.Application(client_max_size=2**28)
        app.router.add_post("/hook", self._handle)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port)
        await site.start()
        self.port = self._runner.addresses[0][1]
        return self

    async def __aexit__(self, *_: Any) -> None:
        assert self._runner is not None
        await self._runner.cleanup()
