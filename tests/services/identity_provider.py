"""An OpenID Connect provider as brokers and clients see it: tokens for client credentials, and the keys that sign them.

In a thread of its own: the broker fetches the keys while the test waits for the broker.
"""

from __future__ import annotations

import base64
import json
import ssl
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs, unquote_plus

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

CLIENT_ID, CLIENT_SECRET = "bridge", "client secret+/:é"
_KEY_ID = "test-key"


class IdentityProvider:
    """`port` stays over `stop` and `start`."""

    def __init__(self, *, like: IdentityProvider | None = None, tls: ssl.SSLContext | None = None) -> None:
        """`like`: its tokens are those of another one, at another address. `tls`: https."""
        self._key = rsa.generate_private_key(public_exponent=65537, key_size=2048) if like is None else like._key
        self._tls = tls
        self.issued: list[str] = []
        self.lifetime_seconds: float = 300
        self.tells_lifetime = True
        self.answer: tuple[int, bytes] | None = None  # instead of a token
        self.scopes: list[str | None] = []
        self.port = 0
        self._server: ThreadingHTTPServer | None = None

    def start(self) -> None:
        provider = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._answer(200, provider._jwks())

            def do_POST(self) -> None:
                form = self.rfile.read(int(self.headers["Content-Length"])).decode()
                self._answer(*provider._token_answer(self.headers.get("Authorization", ""), parse_qs(form)))

            def _answer(self, status: int, body: bytes) -> None:
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        self.port = self._server.server_port
        if self._tls is not None:
            self._server.socket = self._tls.wrap_socket(self._server.socket, server_side=True)
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def stop(self) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def stopped(self) -> bool:
        return self._server is None

    @property
    def token_url(self) -> str:
        return f"{'http' if self._tls is None else 'https'}://127.0.0.1:{self.port}/token"

    @property
    def jwks_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/jwks"

    def token(self, *, lifetime_seconds: float | None = None, audience: str = "kafka") -> str:
        now = time.time()
        life = self.lifetime_seconds if lifetime_seconds is None else lifetime_seconds
        claims = {"iss": "test", "aud": audience, "sub": CLIENT_ID, "scope": "kafka", "iat": int(now)}
        head = {"alg": "RS256", "typ": "JWT", "kid": _KEY_ID}
        signed = f"{_base64url(head)}.{_base64url(claims | {'exp': int(now + life)})}"
        signature = self._key.sign(signed.encode(), padding.PKCS1v15(), hashes.SHA256())
        return f"{signed}.{_encode(signature)}"

    def _token_answer(self, authorization: str, form: dict[str, list[str]]) -> tuple[int, bytes]:
        if self.answer is not None:
            return self.answer
        client_id, _, secret = base64.b64decode(authorization.removeprefix("Basic ")).decode().partition(":")
        if (unquote_plus(client_id), unquote_plus(secret)) != (CLIENT_ID, CLIENT_SECRET):
            return 401, b'{"error":"invalid_client","error_description":"who are you?"}'
        if form.get("grant_type") != ["client_credentials"]:
            return 400, b'{"error":"unsupported_grant_type"}'
        self.scopes.append(form.get("scope", [None])[0])  # type: ignore[list-item]
        self.issued.append(self.token())
        answer: dict[str, Any] = {"access_token": self.issued[-1], "token_type": "Bearer"}
        if self.tells_lifetime:
            answer["expires_in"] = self.lifetime_seconds
        return 200, json.dumps(answer).encode()

    def _jwks(self) -> bytes:
        public = self._key.public_key().public_numbers()
        number = {
            name: _encode(value.to_bytes((value.bit_length() + 7) // 8))
            for name, value in (("n", public.n), ("e", public.e))
        }
        return json.dumps({"keys": [{"kty": "RSA", "kid": _KEY_ID, "use": "sig", "alg": "RS256"} | number]}).encode()


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def _base64url(data: dict[str, Any]) -> str:
    return _encode(json.dumps(data).encode())
