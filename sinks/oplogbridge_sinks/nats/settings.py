"""The keys under `sink:` of `kind: nats`."""

from __future__ import annotations

import re
import ssl
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import unquote, urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator

from oplogbridge.durations import DurationBetween, SizeBetween
from oplogbridge.templates import Template

_SCHEMES = ("nats", "tls")
_SUBJECT_TOKEN = re.compile(r"[^\s.*>\x00-\x1f\x7f]+")
_STREAM_NAME = re.compile(r"[^\s.*>/\\\x00-\x1f\x7f]+")


class _Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class TlsSettings(_Settings):
    ca: Path | None = Field(
        default=None, description="PEM file of the authorities to trust; the system's when left out"
    )
    certificate: Path | None = Field(default=None, description="PEM file of the client's certificate chain")
    key: Path | None = Field(
        default=None, description="PEM file of the client's key, when `certificate` does not hold it"
    )

    @model_validator(mode="after")
    def _key_needs_its_certificate(self) -> Self:
        if self.key is not None and self.certificate is None:
            raise ValueError("a `key` needs its `certificate`")
        return self

    def context(self) -> ssl.SSLContext:
        """Raises OSError (a file is missing or unreadable) or ssl.SSLError (it is not what it should be)."""
        for file in (self.ca, self.certificate, self.key):
            if file is not None:
                file.open("rb").close()  # its error names the file, OpenSSL's does not
        context = ssl.create_default_context(cafile=self.ca)
        if self.certificate is not None:
            context.load_cert_chain(self.certificate, self.key)
        return context


class NatsSettings(_Settings):
    url: SecretStr = Field(description="nats://host:4222 or tls://host:4222, several with commas; user:password@ in it")
    stream: str = Field("OPLOG_{source}", description="of this pipeline alone")
    subject: str = Field("oplog.{source}.{type}.{operation}", description="of an event; the stream must have it")
    credentials: Path | None = Field(default=None, description="file with a user's JWT and key (.creds)")
    nkey: Path | None = Field(default=None, description="file with a user's nkey seed")
    token: SecretStr | None = None
    tls: TlsSettings | None = Field(
        default=None, description="certificates; tls:// alone trusts the system's authorities"
    )
    inbox_prefix: str = Field("_INBOX", description="of the subjects on which answers come, where rights are narrow")
    create: bool = Field(False, description="make the stream when it is missing; one that is there stays as it is")
    replicas: int = Field(1, ge=1, le=5, description="of a stream that is made")
    storage: Literal["file", "memory"] = Field("file", description="of a stream that is made")
    max_age: Annotated[float, DurationBetween("1s", "3650d")] | None = Field(
        default=None, description="how long events stay"
    )
    max_bytes: Annotated[int, SizeBetween("1MiB", "1000000GiB")] | None = Field(
        default=None, description="the oldest go first"
    )
    max_messages: int | None = Field(None, ge=1, description="the oldest go first")
    timeout: Annotated[float, DurationBetween("100ms", "10m")] = Field(default="30s", validate_default=True)

    @field_validator("url")
    @classmethod
    def _is_url(cls, url: SecretStr) -> SecretStr:
        servers = url.get_secret_value().split(",")
        for server in servers:
            try:
                parts = urlsplit(server)
                good = (
                    parts.scheme in _SCHEMES and parts.hostname and (parts.port or 4222) and not parts.path.strip("/")
                )
            except ValueError:
                good = False
            if not good or parts.query or parts.fragment:
                raise ValueError(
                    "must be nats://host:4222 or tls://host:4222, several with commas; special characters of a "
                    "password are percent-encoded"
                )
        if len({urlsplit(server).scheme for server in servers}) > 1:
            raise ValueError("must have one scheme for all servers")
        return url

    @field_validator("stream")
    @classmethod
    def _is_stream(cls, stream: str) -> str:
        if not Template(stream).varies <= {"source", "pipeline"}:
            raise ValueError("must be one stream: use {source} and {pipeline} only; types have subjects of their own")
        if not _STREAM_NAME.fullmatch(stream):
            raise ValueError("must be a stream's name: no white space, `.`, `*`, `>`, `/` or `\\`")
        return stream

    @field_validator("subject")
    @classmethod
    def _is_subject(cls, subject: str) -> str:
        Template(subject)
        if not all(_SUBJECT_TOKEN.fullmatch(token) for token in subject.split(".")):
            raise ValueError("must be a subject without wildcards: words and {fields}, with a dot between two")
        return subject

    @field_validator("inbox_prefix")
    @classmethod
    def _is_prefix(cls, prefix: str) -> str:
        if not all(_SUBJECT_TOKEN.fullmatch(token) for token in prefix.split(".")):
            raise ValueError("must be a subject without wildcards")
        return prefix

    @model_validator(mode="after")
    def _has_one_login(self) -> Self:
        if (
            sum([self.user is not None, self.credentials is not None, self.nkey is not None, self.token is not None])
            > 1
        ):
            raise ValueError("takes one login: user and password in the url, `credentials`, `nkey` or `token`")
        return self

    @property
    def servers(self) -> list[str]:
        return self.url.get_secret_value().split(",")

    @property
    def addresses(self) -> list[str]:
        """The servers without the login: nats-py would send a percent-encoded password as it stands."""
        return [f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}" for parts in map(urlsplit, self.servers)]

    @property
    def user(self) -> tuple[str, str] | None:
        """Name and password, where the url has them."""
        for parts in map(urlsplit, self.servers):
            if parts.username is not None:
                return unquote(parts.username), unquote(parts.password or "")
        return None

    @property
    def speaks_tls(self) -> bool:
        return self.tls is not None or self.servers[0].startswith("tls://")

    def secrets(self) -> list[str]:
        """What no message may show."""
        found = [urlsplit(server).password or "" for server in self.servers] + ([self.user[1]] if self.user else [])
        return [one for one in found if one] + ([self.token.get_secret_value()] if self.token is not None else [])
