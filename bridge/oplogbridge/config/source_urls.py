"""What a source's URL must look like. Pure. No message holds the URL: it may hold a password, which is the mistake."""

from __future__ import annotations

import re
from urllib.parse import SplitResult, urlsplit

from oplogbridge.config.listen import is_loopback

_PATHS = {
    "v4": re.compile(r"(/[A-Za-z0-9._~%-]+)*/api/v4/[A-Za-z0-9._~-]+/?"),
    "v1": re.compile(r"(/[A-Za-z0-9._~%-]+)*/api/v1/?"),  # the deployment is told by the credentials
}
_DEFAULT_PORTS = {"https": 443, "http": 80}


def check_source_url(value: object) -> object:
    """`value`, if it is the URL of one deployment's API. Raises ValueError otherwise."""
    if not isinstance(value, str):
        return value  # pydantic says that it must be text
    parts = _split(value)
    if parts is None or parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("must be a URL: https://HOST/api/v4/{backend-deployment-id}")
    if "@" in parts.netloc:
        raise ValueError("must not hold a user or password: they belong under auth")
    if "?" in value or "#" in value:
        raise ValueError("must not hold a query or a fragment")
    if not any(path.fullmatch(parts.path) for path in _PATHS.values()):
        raise ValueError("must end in /api/v4/{backend-deployment-id} or in /api/v1")
    return value


def api_of(url: str) -> str:
    """The version of the API that a checked URL is of."""
    path = urlsplit(url).path
    return next(version for version, form in _PATHS.items() if form.fullmatch(path))


def normal_source_url(url: str) -> str:
    """One spelling for one place, so that equal sources are seen to be equal and an `id` made of it stays the same."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    port = "" if parts.port in (None, _DEFAULT_PORTS[parts.scheme]) else f":{parts.port}"
    return f"{parts.scheme}://{f'[{host}]' if ':' in host else host}{port}{parts.path.rstrip('/')}"


def check_encrypted(url: str, *, allow_http: bool) -> None:
    """Raises ValueError when credentials would travel in clear text without anybody's leave."""
    if url.startswith("http:") and not allow_http and not host_is_loopback(url):
        raise ValueError(
            "must begin with https:// (or say allow_http: true, which sends the credentials in clear text)"
        )


def host_is_loopback(url: str) -> bool:
    return is_loopback(urlsplit(url).hostname or "")


def _split(text: str) -> SplitResult | None:
    if re.search(r"[\s\x00-\x1f\x7f\\]", text):  # urlsplit would drop line breaks silently
        return None
    try:
        parts = urlsplit(text)
        _ = parts.port  # is checked only when asked for
    except ValueError:
        return None
    return parts
