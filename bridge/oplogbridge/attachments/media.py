"""Fetching one file from the media host: streamed to disk, bounded, hashed on the way. No credentials go there."""

from __future__ import annotations

import asyncio
import hashlib
import tempfile
from pathlib import Path
from typing import NamedTuple

import aiohttp

REDIRECTS_MAX = 5
PIECE_BYTES = 64 * 1024


class MediaTrouble(Exception):
    """It did not come this time. `of_host`: others would not, either."""

    def __init__(self, text: str, *, of_host: bool = True) -> None:
        super().__init__(text)
        self.of_host = of_host


class TooLarge(Exception):
    """It never will: it is larger than `size_max`."""


class Fetched(NamedTuple):
    file: Path
    media_type: str
    length: int
    sha256: str


class MediaClient:
    def __init__(self, *, size_max: int, timeout_seconds: float, allow_http: bool) -> None:
        self._size_max = size_max
        self._timeout = aiohttp.ClientTimeout(total=timeout_seconds)
        self._schemes = ("https", "http") if allow_http else ("https",)
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def fetch(self, url: str, directory: Path | None) -> Fetched:
        """The file is the caller's to move or remove. Raises MediaTrouble, TooLarge."""
        if self._session is None:
            self._session = aiohttp.ClientSession(
                timeout=self._timeout, cookie_jar=aiohttp.DummyCookieJar(), trust_env=False, auto_decompress=False
            )
        try:
            async with self._session.get(
                url, max_redirects=REDIRECTS_MAX, headers={"Accept-Encoding": "identity"}
            ) as response:
                if any(one.url.scheme not in self._schemes for one in (*response.history, response)):
                    raise MediaTrouble("it is served over http://, and the source is not")
                if response.status != 200:
                    raise MediaTrouble(f"HTTP {response.status}", of_host=response.status >= 500)
                if response.content_type == "text/html":  # with 200: a proxy's page about its own trouble
                    raise MediaTrouble("an HTML page came instead")
                if (response.content_length or 0) > self._size_max:
                    raise TooLarge
                return await self._written(response, directory)
        except (aiohttp.ClientError, TimeoutError, ValueError, OSError) as error:
            raise MediaTrouble(str(error) or type(error).__name__) from error

    async def _written(self, response: aiohttp.ClientResponse, directory: Path | None) -> Fetched:
        digest, length = hashlib.sha256(), 0
        with tempfile.NamedTemporaryFile(dir=directory, prefix=".coming-", delete=False) as file:
            path = Path(file.name)
            try:
                async for piece in response.content.iter_chunked(PIECE_BYTES):
                    length += len(piece)
                    if length > self._size_max:
                        raise TooLarge
                    digest.update(piece)
                    await asyncio.to_thread(file.write, piece)
            except BaseException:
                await asyncio.to_thread(path.unlink, missing_ok=True)
                raise
        return Fetched(path, response.content_type, length, digest.hexdigest())
