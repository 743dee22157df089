"""The keys under `sink:` of `kind: redis`."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import BaseModel, Field, SecretStr, field_validator, model_validator

from oplogbridge.durations import DurationBetween, SizeBetween
from oplogbridge.redis_nodes.address import RedisAddress, redis_address
from oplogbridge.templates import Template
from oplogbridge_sinks.redis.names import has_one_slot


class RedisSettings(BaseModel, frozen=True, extra="forbid", hide_input_in_errors=True):
    url: SecretStr  # see `redis_nodes.address`
    stream: str = "oplog:{source}"
    max_entries: int | None = Field(default=None, ge=1)  # about so many are kept in each stream
    wait_replicas: int = Field(default=0, ge=0)  # so many must have a batch before it counts
    timeout: Annotated[float, DurationBetween("100ms", "10m")] = Field(default="30s", validate_default=True)
    event_bytes_max: Annotated[int, SizeBetween("1B", "512MiB")] = Field(  # a larger event is rejected
        default="512MiB",
        validate_default=True,  # the server's proto-max-bulk-len, unless somebody changed it
    )

    @field_validator("url")
    @classmethod
    def _is_url(cls, url: SecretStr) -> SecretStr:
        redis_address(url.get_secret_value())
        return url

    @field_validator("stream")
    @classmethod
    def _is_template(cls, stream: str) -> str:
        Template(stream)
        if stream == "":
            raise ValueError("must name a stream")
        return stream

    @model_validator(mode="after")
    def _has_one_slot(self) -> Self:
        if self.address.cluster and not has_one_slot(self.stream):
            raise ValueError(
                "on Redis Cluster the streams of a pipeline must share a slot: write one constant {{tag}} into "
                "`stream`, such as {{oplog}}:{source}:{type}"
            )
        return self

    @property
    def address(self) -> RedisAddress:
        return redis_address(self.url.get_secret_value())
