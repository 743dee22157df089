"""What can be set under `sink:` with `kind: webhook`. The names are those of a NATS consumer."""

from __future__ import annotations

import re
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, Field, SecretStr, field_validator, model_validator

from oplogbridge.durations import DurationBetween
from oplogbridge_sinks.webhook.signature import key_of

_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_OURS = re.compile(r"content-(type|length)|host|transfer-encoding|ce-.*|nats-.*|oplog-.*|webhook-.*", re.IGNORECASE)
PENDING_MAX_BY_KEY = 100  # requests at once, each with a connection of its own; also what a crash repeats at most
Wait = Annotated[float, DurationBetween("0s", "1h")]


class WebhookSettings(BaseModel, frozen=True, extra="forbid", hide_input_in_errors=True):
    url: str
    secret: SecretStr | None = None
    secrets: Annotated[tuple[SecretStr, ...], Field(min_length=1, max_length=2)] | None = None  # both sign: rotation
    headers: dict[str, SecretStr] = Field(default_factory=dict)  # such as Authorization
    batch_max: int = Field(default=1, ge=1, le=1000)  # events in one request
    ordering: Literal["ordered", "key"] = "ordered"
    max_ack_pending: int | None = Field(default=None, ge=1, le=1000)
    ack_wait: Annotated[float, DurationBetween("100ms", "10m")] = Field(default="30s", validate_default=True)
    max_deliver: int | None = Field(default=None, ge=1)  # None: for ever
    backoff: Annotated[tuple[Wait, ...], Field(min_length=1, max_length=100)] | None = None  # the last one repeats
    allow_private_addresses: bool = False
    allow_http: bool = False

    @field_validator("url")
    @classmethod
    def _is_url(cls, url: str) -> str:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or re.search(r"[\s\\]", url):
            raise ValueError("must be a URL: https://HOST/PATH")
        if "@" in parts.netloc or parts.fragment:
            raise ValueError("must not hold a user, a password or a fragment: credentials belong under headers")
        return url

    @field_validator("secret", "secrets")
    @classmethod
    def _are_keys(cls, value: SecretStr | tuple[SecretStr, ...] | None) -> object:
        for secret in (value,) if isinstance(value, SecretStr) else value or ():
            key_of(secret.get_secret_value())
        return value

    @field_validator("headers")
    @classmethod
    def _are_headers(cls, headers: dict[str, SecretStr]) -> dict[str, SecretStr]:
        for name, value in headers.items():
            if not _HEADER_NAME.fullmatch(name) or not value.get_secret_value().isprintable():
                raise ValueError(f"{name[:50]!r} is no header of one line")
            if _OURS.fullmatch(name):
                raise ValueError(f"{name} is set by the bridge itself")
        return headers

    @model_validator(mode="after")
    def _together(self) -> Self:
        if self.secret is not None and self.secrets is not None:
            raise ValueError("takes secret, or two under secrets while they are exchanged, not both")
        if self.url.startswith("http:") and not self.allow_http:
            raise ValueError("url must begin with https:// (or say allow_http: true, which sends events in clear text)")
        if self.ordering == "ordered" and self.max_ack_pending not in (None, 1):
            raise ValueError(
                "max_ack_pending above 1 needs `ordering: key`: in order, one request is under way at a time"
            )
        if self.ordering == "key" and self.batch_max > 1:
            raise ValueError(
                "batch_max above 1 needs `ordering: ordered`: a batch holds events of several keys, and one of them "
                "would hold up the others"
            )
        return self

    @property
    def pending_max(self) -> int:
        """Events that may be under way at once."""
        if self.ordering == "ordered":
            return 1
        return PENDING_MAX_BY_KEY if self.max_ack_pending is None else self.max_ack_pending

    @property
    def keys(self) -> list[bytes]:
        secrets = self.secrets or ((self.secret,) if self.secret else ())
        return [key_of(secret.get_secret_value()) for secret in secrets]
