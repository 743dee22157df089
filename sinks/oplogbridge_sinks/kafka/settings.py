"""The keys under `sink:` of `kind: kafka`."""

from __future__ import annotations

import ipaddress
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator

from oplogbridge.durations import DurationBetween
from oplogbridge.templates import Template, TemplateError
from oplogbridge_sinks.kafka.tokens import BearerTokens, ClientCredentials, TokenFile

_REQUESTS_IN_TIMEOUT = 3  # so that an identity provider that hangs is named before the opening's deadline


class _Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class TlsSettings(_Settings):
    ca: Path | None = Field(None, description="PEM file of the authorities to trust; the system's when left out")
    certificate: Path | None = Field(None, description="PEM file of the client's certificate chain")
    key: Path | None = Field(None, description="PEM file of the client's key, when `certificate` does not hold it")
    key_password: SecretStr | None = Field(None, description="what the key is encrypted with")

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
            password = self.key_password.get_secret_value() if self.key_password is not None else None
            context.load_cert_chain(self.certificate, self.key, password)
        return context


class SaslSettings(_Settings):
    """A login with `username` and `password`, or with a bearer token: from `token_url`, or from `token_file`."""

    mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"]
    username: str | None = Field(None, description="of PLAIN and SCRAM")
    password: SecretStr | None = Field(None, description="of PLAIN and SCRAM")
    token_url: str | None = Field(None, description="of OAUTHBEARER: where an identity provider gives tokens")
    client_id: str | None = Field(None, description="for `token_url` (OIDC client credentials)")
    client_secret: SecretStr | None = Field(None, description="for `token_url`")
    scope: str | None = Field(None, description="for `token_url`: what is asked for; several with spaces")
    token_file: Path | None = Field(None, description="of OAUTHBEARER, instead of `token_url`: read at each connection")
    allow_http: bool = Field(False, description="`token_url` may be http:// to another host: the secret in clear text")

    @model_validator(mode="after")
    def _check_login(self) -> Self:
        with_password = self._given("username", "password")
        with_client = self._given("token_url", "client_id", "client_secret")
        optional = self._given("scope") or self.allow_http
        if self.mechanism != "OAUTHBEARER":
            if with_password != 2 or with_client or optional or self.token_file is not None:
                raise ValueError(f"{self.mechanism} takes `username` and `password`, both and nothing else")
        elif with_password or (with_client != 3 if self.token_file is None else with_client or optional):
            raise ValueError(
                "OAUTHBEARER takes `token_url`, `client_id` and `client_secret`, perhaps `scope`; or only `token_file`"
            )
        return self

    def _given(self, *keys: str) -> int:
        return sum(getattr(self, key) is not None for key in keys)

    @field_validator("token_url")
    @classmethod
    def _check_token_url(cls, value: str | None) -> str | None:
        if value is not None:
            parts = urlsplit(value)
            if parts.scheme not in ("https", "http") or not parts.hostname or "@" in parts.netloc or parts.fragment:
                raise ValueError("must be an https:// URL without a user in it")
        return value

    @model_validator(mode="after")
    def _keep_the_secret_secret(self) -> Self:
        parts = urlsplit(self.token_url or "")
        if parts.scheme == "http" and not self.allow_http and not _is_loopback(parts.hostname or ""):
            raise ValueError(
                "`token_url` must be https://: the client's secret would travel in clear text (`allow_http`)"
            )
        return self

    def connection(self, tls: Callable[[], ssl.SSLContext], timeout_seconds: float) -> dict[str, Any]:
        """What aiokafka's clients take to log in. `tls` makes the context for the identity provider."""
        if self.mechanism != "OAUTHBEARER":
            assert self.password is not None, "checked by `_check_login`, as is all below"
            return {
                "sasl_mechanism": self.mechanism,
                "sasl_plain_username": self.username,
                "sasl_plain_password": self.password.get_secret_value(),
            }
        return {"sasl_mechanism": self.mechanism, "sasl_oauth_token_provider": self._tokens(tls, timeout_seconds)}

    def _tokens(self, tls: Callable[[], ssl.SSLContext], timeout_seconds: float) -> BearerTokens:
        if self.token_file is not None:
            return TokenFile(self.token_file)
        assert self.token_url is not None
        assert self.client_id is not None
        assert self.client_secret is not None
        return ClientCredentials(
            self.token_url,
            self.client_id,
            self.client_secret.get_secret_value(),
            self.scope,
            tls=tls(),
            timeout_seconds=timeout_seconds,
        )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class KafkaSettings(_Settings):
    bootstrap_servers: str = Field(description="host:port, several separated by commas")
    topic: str = Field("oplog.{source}", description="template over {source}, {type}, {operation}, {pipeline}")
    create: bool = Field(False, description="make missing topics; an existing topic is never altered")
    partitions: int | None = Field(None, ge=1, description="of topics that `create` makes; the broker's default")
    replication_factor: int | None = Field(
        None, ge=1, description="of topics that `create` makes; the broker's default"
    )
    compression: Literal["zstd", "none", "gzip", "snappy", "lz4"] = "zstd"
    tls: TlsSettings | None = Field(None, description="`true`, or a mapping")
    sasl: SaslSettings | None = None
    timeout: Annotated[float, DurationBetween("100ms", "15m")] = Field(
        default="30s", validate_default=True, description="for each opening and each write as a whole"
    )
    transaction_timeout: Annotated[float, DurationBetween("1s", "15m")] = Field(
        default="60s", validate_default=True, description="after which the broker aborts an abandoned transaction"
    )

    @field_validator("bootstrap_servers", mode="before")
    @classmethod
    def _join_servers(cls, value: Any) -> Any:
        return ",".join(value) if isinstance(value, list) and all(isinstance(host, str) for host in value) else value

    @field_validator("bootstrap_servers")
    @classmethod
    def _check_servers(cls, value: str) -> str:
        for server in value.split(","):
            host, _, port = server.strip().rpartition(":")
            if not host or not port.isdigit() or not 0 < int(port) < 65536:
                raise ValueError(f"{server.strip()!r} is no host:port")
        return value

    @field_validator("topic")
    @classmethod
    def _check_template(cls, value: str) -> str:
        try:
            Template(value)
        except TemplateError as error:
            raise ValueError(str(error)) from error
        return value

    @field_validator("tls", mode="before")
    @classmethod
    def _read_tls_switch(cls, value: Any) -> Any:
        return {True: {}, False: None}[value] if isinstance(value, bool) else value

    @model_validator(mode="after")
    def _write_within_the_transaction(self) -> Self:
        # The broker ends a transaction that outlives its timeout by raising the producer's epoch: the writer would
        # look fenced and give its lease up. So we must always give up first.
        if self.transaction_timeout <= self.timeout:
            raise ValueError("`transaction_timeout` must be longer than `timeout`")
        return self

    @property
    def servers(self) -> list[str]:
        return [server.strip() for server in self.bootstrap_servers.split(",")]

    def connection(self) -> dict[str, Any]:
        """What aiokafka's clients take to connect. Reads the TLS files, so that a renewed certificate is picked up."""
        connection: dict[str, Any] = {
            "bootstrap_servers": self.servers,
            "security_protocol": ("SASL_" if self.sasl else "") + ("SSL" if self.tls is not None else "PLAINTEXT"),
            "ssl_context": self.tls.context() if self.tls is not None else None,
        }
        if self.sasl is not None:
            connection |= self.sasl.connection(self._identity_provider_tls, self.timeout / _REQUESTS_IN_TIMEOUT)
        return connection

    def _identity_provider_tls(self) -> ssl.SSLContext:
        """The system's authorities and `tls.ca`; the client's certificate is for brokers."""
        context = ssl.create_default_context()
        if self.tls is not None and self.tls.ca is not None:
            context.load_verify_locations(self.tls.ca)
        return context
