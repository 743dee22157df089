"""One poll over HTTP: a request, its bytes, and what an error asks for. Knows nothing of turns or of the pace.

`OplogClient.poll` sends exactly one request, ever: aiohttp on its own would repeat a GET whose reused connection was
reset, and follow redirects; either breaks "at most one poll a second" (tests/integration/test_source_client.py).
"""

from __future__ import annotations

import time
from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import aiohttp
from aiohttp.connector import Connection

from oplogbridge.errors import Misconfigured, Unavailable
from oplogbridge.source.answers import Answer, AnswerTooLarge, LimitTooLarge, error_of
from oplogbridge.source.decode import PageDecoder, PageUnreadable
from oplogbridge.source.one_by_one import ReadPage
from oplogbridge.source.wire_v1 import read_v1
from oplogbridge.source.wire_v4 import read_v4
from oplogbridge.values import OFFSET_EARLIEST, Page

ERROR_BODY_BYTES_MAX = 4096
ANSWERS = frozenset({301, 302, 303, 304, 307, 308, 404, 410, 422})  # to `ask`: what the asker makes something of


@dataclass(frozen=True, slots=True)
class Credentials:
    """What goes into `Authorization`. Never shown: not in a repr, a log or an error."""

    header: str

    def __repr__(self) -> str:
        return "Credentials(…)"

    @classmethod
    def basic(cls, username: str, password: str) -> Credentials:
        return cls("Basic " + b64encode(f"{username}:{password}".encode()).decode())

    @classmethod
    def bearer(cls, token: str) -> Credentials:
        return cls("Bearer " + (token if token.startswith("O:") else f"O:{token}"))

    @classmethod
    def token(cls, token: str) -> Credentials:
        return cls(f"Token {token}")

    def hide(self, text: str) -> str:
        """`text` without what is secret: a proxy's error page may show the request that it could not pass on."""
        scheme, _, sent = self.header.partition(" ")
        secrets = [sent, sent.removeprefix("O:")]
        if scheme == "Basic":
            secrets.append(b64decode(sent).decode().partition(":")[2])
        for secret in secrets:
            text = text.replace(secret, "…") if secret else text
        return text


class _CheckedConnector(aiohttp.TCPConnector):
    """Asks once more whether the request may be sent, when its connection stands; one that may not is not kept open.
    (An exception from aiohttp's tracing hook at this place would leave the connection to nobody.)"""

    def __init__(self, check: Callable[[], None]) -> None:
        super().__init__(limit=1)
        self._check = check

    async def connect(self, *arguments: Any, **named: Any) -> Connection:
        connection = await super().connect(*arguments, **named)
        try:
            self._check()
        except BaseException:
            connection.close()
            raise
        return connection


class Api(NamedTuple):
    """How one version of the vendor's API is asked."""

    path: str
    parameters: Mapping[str, str]
    read: Callable[[bytes, bool], ReadPage]
    has_tail: bool  # it can show its newest entries


APIS = {
    "v4": Api("oplog.json", {"sequence_ids": "true"}, read_v4, has_tail=True),
    "v1": Api("_oplog.json", {}, read_v1, has_tail=False),
}


class OplogClient:
    """The oplog of one deployment."""

    def __init__(
        self,
        *,
        name: str,
        url: str,
        credentials: Credentials | None,
        api: Api = APIS["v4"],
        keep_raw: bool = False,
        rounded_allowed: bool = False,
        page_limit: int,
        page_bytes_max: int,
        request_timeout_seconds: float,
        check: Callable[[], None] = lambda: None,
        unix_seconds: Callable[[], float] = time.time,
    ) -> None:
        """`keep_raw` and `rounded_allowed` are as `PageDecoder` has them. `check` is asked once more between connecting
        and sending, since connecting can take as long as a lease."""
        self._name = name
        self._api = api
        self._root = url.rstrip("/")
        self._headers = {"Accept": "application/json"}
        self._credentials = credentials
        if credentials is not None:
            self._headers["Authorization"] = credentials.header
        self._decoder = PageDecoder(keep_raw, rounded_allowed, api.read)
        self._page_limit = page_limit
        self._page_bytes_max = page_bytes_max
        self._timeout = aiohttp.ClientTimeout(total=request_timeout_seconds)
        self._check = check
        self._unix_seconds = unix_seconds
        self._limit = page_limit  # halved when a page is too large, down to 1
        self._limit_max = page_limit
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def poll(self, offset: int) -> Page:
        """Send one request and return the page that begins at `offset`.

        Raises:
            Unavailable: Try again; a halved limit is among the reasons.
            Misconfigured: Any answer that trying again will not change.
        """
        page = await self._get({"start": str(offset), "limit": str(self._limit), **self._api.parameters}, offset)
        self._limit = min(self._limit * 2, self._limit_max)
        return page

    async def poll_tail(self) -> Page:
        """The newest entries, in ascending order whatever the source's order is. Raises as `poll` does."""
        if not self._api.has_tail:
            raise Misconfigured(
                f"source {self._name}: its API cannot show its newest entries: start from a sequence or `earliest`, or "
                "read it by API v4"
            )
        return await self._get({"tail": "true", **self._api.parameters}, OFFSET_EARLIEST)

    async def ask(
        self, path: str, parameters: Mapping[str, str] | None = None, *, body: object = None, etag: str | None = None
    ) -> Answer:
        """Send one request for another part of the API: GET, or POST where there is a `body` (sent as JSON). `etag` is
        what is known already: then the answer may be 304.

        Raises:
            Unavailable: Try again, later. AnswerTooLarge where the body is larger than `page_bytes_max`.
            Misconfigured: Any answer that trying again will not change, but for those that `Answer` names.
        """
        headers = self._headers if etag is None else {**self._headers, "If-None-Match": etag}
        try:
            return await self._answer(f"{self._root}/{path}", parameters or {}, headers, body, said=ANSWERS)
        except LimitTooLarge as error:
            raise AnswerTooLarge(f"source {self._name}: {error}: raise `page_bytes_max`") from error

    async def _get(self, params: dict[str, str], offset: int) -> Page:
        try:
            answer = await self._answer(f"{self._root}/{self._api.path}", params, self._headers)
            return self._decoder.decode(answer.body, offset)
        except PageUnreadable as error:
            raise Unavailable(f"source {self._name}: {error}") from error
        except LimitTooLarge as error:
            raise self._halved(error) from error

    async def _answer(
        self,
        url: str,
        params: Mapping[str, str],
        headers: Mapping[str, str],
        body: object = None,
        *,
        said: frozenset[int] = frozenset(),
    ) -> Answer:
        session = self._session or self._open()
        try:
            async with session.request(
                "GET" if body is None else "POST", url, params=params, json=body, headers=headers, allow_redirects=False
            ) as response:
                if response.status != 200 and response.status not in said:
                    text = await _beginning(response.content)
                    shown = text if self._credentials is None else self._credentials.hide(text)
                    raise error_of(self._name, response, shown, self._unix_seconds())
                # Read in pieces, so that a body of any size stops at the bound (a gzip bomb too: these are the
                # unpacked bytes).
                pieces: list[bytes] = []
                received = 0
                async for piece in response.content.iter_any():
                    pieces.append(piece)
                    received += len(piece)
                    if received > self._page_bytes_max:
                        response.close()
                        raise LimitTooLarge(
                            f"a page is larger than page_bytes_max ({self._page_bytes_max})", lasting=False
                        )
                found = response.headers
                return Answer(response.status, b"".join(pieces), found.get("ETag"), found.get("Location"))
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            detail = str(error) or type(error).__name__
            raise Unavailable(f"source {self._name}: the poll failed ({detail})") from error

    def _open(self) -> aiohttp.ClientSession:
        session = aiohttp.ClientSession(
            timeout=self._timeout,
            connector=_CheckedConnector(self._check),
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
        )
        session._retry_connection = False  # there is no public switch; a test sees one request per poll
        self._session = session
        return session

    def _halved(self, error: LimitTooLarge) -> Unavailable | Misconfigured:
        if self._limit == 1:
            return Misconfigured(
                f"source {self._name}: {error} with a single entry: raise `page_bytes_max`, or ask the vendor"
            )
        self._limit //= 2
        if error.lasting:
            self._limit_max = self._limit
        return Unavailable(f"source {self._name}: {error}; asking for {self._limit} entries a page")


async def _beginning(content: aiohttp.StreamReader) -> str:
    """The first bytes of an error's body. One `read` would do with what has come so far, perhaps nothing that tells."""
    shown = b""
    while len(shown) < ERROR_BODY_BYTES_MAX and (piece := await content.read(ERROR_BODY_BYTES_MAX - len(shown))):
        shown += piece
    return shown.decode(errors="replace")
