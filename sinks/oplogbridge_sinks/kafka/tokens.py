"""Bearer tokens for SASL OAUTHBEARER: fetched from an identity provider (OIDC client credentials), or read from a file
that somebody keeps fresh. One object serves one opening of the sink, so an opening never begins with an old token.

aiokafka asks for a token whenever it connects. Whatever goes wrong then must be a KafkaError: anything else would kill
the task that keeps its metadata, and nobody would notice before the deadline.
"""

from __future__ import annotations

import asyncio
import base64
import ssl
import time
from abc import abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast
from urllib.parse import quote_plus

import aiohttp
import aiokafka.conn
import orjson
from aiokafka import errors as kafka
from aiokafka.abc import AbstractTokenProvider

from oplogbridge.errors import BridgeError, Misconfigured, Unavailable

FETCH_SECONDS_MAX = 10.0
ANSWER_BYTES_MAX = 64 << 10  # tokens of a few KiB are usual; brokers take no larger request before the login
RENEW_AT_PART = 0.8  # of a token's life, as the Java client: a fifth of it remains to wait for a provider that is down
_REASON_CHARACTERS_MAX = 200
_RETRY_LATER = frozenset({408, 425, 429})


class NoToken(kafka.KafkaError):
    def __init__(self, why: BridgeError) -> None:
        super().__init__(str(why))
        self.why = why


class BearerTokens(AbstractTokenProvider):
    @abstractmethod
    async def valid(self) -> str:
        """A token. Raises Unavailable or Misconfigured."""

    async def token(self) -> str:
        """For aiokafka. Raises NoToken."""
        try:
            return await self.valid()
        except BridgeError as error:
            why = error
        raise NoToken(why)  # out here, or each would be the other's cause when `why` is raised in its place


class TokenFile(BearerTokens):
    """Read anew for each connection: such a file is replaced before its token expires."""

    def __init__(self, path: Path) -> None:
        self._path = path

    async def valid(self) -> str:
        try:
            token = self._path.read_bytes().decode("ascii").strip()
        except (OSError, ValueError) as error:
            raise Misconfigured(f"kafka: cannot read `sasl.token_file` ({error})") from error
        if not is_token(token):
            raise Misconfigured(f"kafka: {self._path} holds no bearer token: see `sasl.token_file`")
        return token


class ClientCredentials(BearerTokens):
    """RFC 6749, section 4.4, as OpenID Connect providers have it."""

    def __init__(
        self,
        url: str,
        client_id: str,
        client_secret: str,
        scope: str | None,
        *,
        tls: ssl.SSLContext,
        timeout_seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._url = url
        self._secret = client_secret
        # The RFC has both encoded as form values first; for most it makes no difference.
        self._authorization = _basic(quote_plus(client_id), quote_plus(client_secret))
        self._form = {"grant_type": "client_credentials"} | ({"scope": scope} if scope else {})
        self._tls = tls
        self._timeout = aiohttp.ClientTimeout(total=min(timeout_seconds, FETCH_SECONDS_MAX))
        self._clock = clock
        self._one_fetch = asyncio.Lock()  # connections that are made together wait for the same token
        self._token = ""
        self._renew_at_seconds = self._expires_at_seconds = float("-inf")

    async def valid(self) -> str:
        async with self._one_fetch:
            if self._clock() >= self._renew_at_seconds:
                try:
                    await self._renew()
                except Unavailable:
                    if self._clock() >= self._expires_at_seconds:
                        raise
            return self._token

    async def _renew(self) -> None:
        began_seconds = self._clock()  # a token's life is counted from when it was issued, which is later
        status, body = await self._ask()
        if status != 200:
            raise self._refusal(status, body)
        answer = _json_object(body)
        token = answer.get("access_token")
        if not isinstance(token, str) or not is_token(token):
            raise Misconfigured(f"kafka: {self._url} answered without an access_token: see `sasl.token_url`")
        try:
            lifetime_seconds = float(answer.get("expires_in", 0))  # some tell it as text
        except (TypeError, ValueError):
            lifetime_seconds = 0.0  # the token is for the connection that asks, and the next one asks again
        self._token = token
        self._renew_at_seconds = began_seconds + lifetime_seconds * RENEW_AT_PART
        self._expires_at_seconds = began_seconds + lifetime_seconds

    async def _ask(self) -> tuple[int, bytes]:
        headers = {"Authorization": self._authorization, "Accept": "application/json"}
        try:
            async with (
                aiohttp.ClientSession(timeout=self._timeout, cookie_jar=aiohttp.DummyCookieJar()) as session,
                session.post(
                    self._url, data=self._form, headers=headers, ssl=self._tls, allow_redirects=False
                ) as response,
            ):
                return response.status, await _read(response)
        except (aiohttp.ClientConnectorCertificateError, aiohttp.ClientConnectorSSLError) as error:
            raise Misconfigured(
                f"kafka: no TLS with {self._url} ({error}): see `sasl.token_url` and `tls.ca`"
            ) from error
        except aiohttp.InvalidURL as error:
            raise Misconfigured(f"kafka: {self._url} is no URL: see `sasl.token_url`") from error
        except TimeoutError as error:
            raise Unavailable(
                f"kafka: {self._url} gave no token within {self._timeout.total:g}s: is the identity provider up?"
            ) from error
        except (aiohttp.ClientError, OSError) as error:
            said = " ".join(str(error).split()) or type(error).__name__
            raise Unavailable(f"kafka: no token from {self._url} ({said}): is the identity provider up?") from error

    def _refusal(self, status: int, body: bytes) -> BridgeError:
        answer = _json_object(body)
        words = [str(answer[key]) for key in ("error", "error_description") if key in answer]
        reason = " ".join(" ".join(words).split())[:_REASON_CHARACTERS_MAX]
        if self._secret in reason:
            reason = ""
        said = f"{status} {reason}".strip()
        if status >= 500 or status in _RETRY_LATER:
            return Unavailable(f"kafka: no token from {self._url} ({said}): is the identity provider up?")
        if 300 <= status < 400:
            return Misconfigured(
                f"kafka: {self._url} redirects ({said}), and a secret is not sent on: see `sasl.token_url`"
            )
        return Misconfigured(
            f"kafka: {self._url} refused the client ({said}): see `sasl.client_id`, `client_secret` and `scope`"
        )


def is_token(text: str) -> bool:
    """One word of printable ASCII: it stands in a line of its own in what aiokafka sends, ended by a control."""
    return bool(text) and text.isascii() and text.isprintable() and " " not in text


def _basic(username: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{username}:{password}".encode()).decode()


async def _read(response: aiohttp.ClientResponse) -> bytes:
    body = b""
    async for part in response.content.iter_any():
        body += part
        if len(body) > ANSWER_BYTES_MAX:
            raise Misconfigured(f"kafka: {response.url} answers more than a token: see `sasl.token_url`")
    return body


def _json_object(body: bytes) -> dict[str, Any]:
    try:
        answer = orjson.loads(body)
    except ValueError:
        return {}
    return answer if isinstance(answer, dict) else {}


class _OAuthAuthenticator(aiokafka.conn.OAuthAuthenticator):
    """aiokafka takes any answer for a good one. A broker that refuses a token says so in its first answer, waits until
    the client has acknowledged that, and only then sends an error; without it, the next request would meet a closed
    connection, as if the broker were down."""

    _refused = False

    async def step(self, payload: bytes | None) -> tuple[bytes, bool] | None:
        if not payload:
            step: Any = super().step
            return cast("tuple[bytes, bool] | None", await step(payload))
        if self._refused:
            raise kafka.SaslAuthenticationFailed(payload.decode(errors="replace"))
        self._refused = True
        return b"\x01", True


_connections: Any = aiokafka.conn
_connections.OAuthAuthenticator = _OAuthAuthenticator
