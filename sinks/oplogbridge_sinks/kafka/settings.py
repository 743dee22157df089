"""The keys under `sink:` of `kind: kafka`."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator

from oplogbridge.durations import DurationBetween
from oplogbridge.templates import Template, TemplateError


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
    mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"]
    username: str
    password: SecretStr


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
        secured = self.tls is not None
        connection: dict[str, Any] = {
            "bootstrap_servers": self.servers,
            "security_protocol": ("SASL_" if self.sasl else "") + ("SSL" if secured else "PLAINTEXT"),
            "ssl_context": self.tls.context() if self.tls is not None else None,
        }
        if self.sasl is not None:
            connection["sasl_mechanism"] = self.sasl.mechanism
            connection["sasl_plain_username"] = self.sasl.username
            connection["sasl_plain_password"] = self.sasl.password.get_secret_value()
        return connection
