"""A webhook receiver: a real HTTP server that keeps every request and answers as a test tells it.

receiver.answer(503, headers={"Retry-After": "7"})   # the next request; after the script it acknowledges
receiver.decide = lambda post: Answer(503) if "user/1" in post.key else None   # by request; None: as the script says
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

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]

    @property
    def key(self) -> str:
        return self.headers["Oplog-Key"]


@dataclass(frozen=True, slots=True)
class Answer:
    status: int = 204
    headers: Mapping[str, str] = field(default_factory=dict)
    text: str = ""
    after: asyncio.Event | None = None  # is waited for before answering
    lost: bool = False  # the request is taken, and the connection reset before its answer


def never() -> Answer:
    return Answer(after=asyncio.Event())


@dataclass(slots=True)
class Receiver:
    posts: list[Post] = field(default_factory=list)
    acknowledged: list[Post] = field(default_factory=list)  # answered with 2xx, and not "still working"
    refuse: Callable[[Post], bool] = lambda _: False  # 413: these are too large
    decide: Callable[[Post], Answer | None] = lambda _: None
    port: int = 0
    at_once_max: int = 0  # requests that were under way together
    _at_once: int = 0
    _script: deque[Answer] = field(default_factory=deque)
    _runner: web.AppRunner | None = None

    def answer(self, status: int, *, headers: dict[str, str] | None = None, text: str = "", times: int = 1) -> None:
        self._script.extend([Answer(status, headers or {}, text)] * times)

    def hang(self) -> None:
        """The next request is never answered."""
        self._script.append(never())

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook"

    @property
    def ids(self) -> list[str]:
        """Of what was acknowledged."""
        return [post.id for post in self.acknowledged]

    @property
    def kept(self) -> list[Post]:
        """What a receiver keeps that drops copies by their id."""
        return list({post.id: post for post in reversed(self.acknowledged)}.values())[::-1]

    async def _handle(self, request: web.Request) -> web.Response:
        self._at_once += 1
        self.at_once_max = max(self.at_once_max, self._at_once)
        try:
            return await self._answered(request)
        finally:
            self._at_once -= 1

    async def _answered(self, request: web.Request) -> web.Response:
        post = Post(request.headers.copy(), await request.read())
        self.posts.append(post)
        answer = self.decide(post) or (self._script.popleft() if self._script else Answer())
        if self.refuse(post):
            answer = Answer(413, text="too large")
        if answer.after is not None:
            await answer.after.wait()
        if 200 <= answer.status < 300 and "Oplog-Ack" not in answer.headers:
            self.acknowledged.append(post)
        if answer.lost and request.transport is not None:
            request.transport.abort()
        return web.Response(status=answer.status, headers=answer.headers, text=answer.text or None)

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
