"""What the source answers, and what an answer other than the one hoped for asks for."""

from __future__ import annotations

import re
from typing import NamedTuple
from urllib.parse import urlsplit

import aiohttp

from oplogbridge.backoff import retry_after_seconds
from oplogbridge.errors import Misconfigured, Unavailable

RATE_LIMITED_SECONDS_MIN = 1.0  # vendor: "wait at least 1 second" after a 429
TRY_LATER = frozenset({408, 425, 429})


class Answer(NamedTuple):
    """`status` is 200, 304, 404, 410, 422 or a redirect; all else was raised. `location` is where a redirect leads."""

    status: int
    body: bytes
    etag: str | None
    location: str | None


class AnswerTooLarge(Unavailable):
    """Ask for less."""


class LimitTooLarge(Exception):
    """The source, or our own bound on a body, wants fewer entries a page. `lasting`: the source said so."""

    def __init__(self, message: str, *, lasting: bool) -> None:
        super().__init__(message)
        self.lasting = lasting


def error_of(
    name: str, response: aiohttp.ClientResponse, body: str, now_unix_seconds: float
) -> Unavailable | Misconfigured | LimitTooLarge:
    """What an answer other than 200 asks for."""
    status = response.status
    said = f"source {name}: HTTP {status}{_summary(body)}"
    if status >= 500 or status in TRY_LATER:
        wait = retry_after_seconds(response.headers.get("Retry-After"), now_unix_seconds=now_unix_seconds)
        if status == 429:
            wait = max(wait or 0.0, RATE_LIMITED_SECONDS_MIN)
        return Unavailable(said, retry_after_seconds=wait)
    if status in (400, 413, 422) and re.search(r"\blimit\b", body, re.IGNORECASE):
        return LimitTooLarge(said, lasting=True)
    if status == 401:
        return Misconfigured(f"{said}: check `auth` of the source")
    if 300 <= status < 400:
        return Misconfigured(
            f"{said}: it redirects to {_host_of(response.headers.get('Location', ''))}; redirects are not followed, "
            "set `url` to where the API is"
        )
    if status == 404:
        return Misconfigured(
            f"{said}: check `url` of the source, it ends in /api/v4/ and the backend deployment's id, or in /api/v1"
        )
    return Misconfigured(f"{said}: check the source's settings, or ask the vendor")


def _host_of(location: str) -> str:
    try:
        return urlsplit(location).hostname or "another path"
    except ValueError:
        return "a place that is no URL"


def _summary(body: str) -> str:
    """The vendor's `type` or the first words of the body, on one line and bounded."""
    found = re.search(r'"type"\s*:\s*"([A-Z_]{1,60})"', body)
    text = found.group(1) if found else " ".join(re.sub(r"<[^>]*>", " ", body).split())[:80]
    return f" ({text})" if text else ""
