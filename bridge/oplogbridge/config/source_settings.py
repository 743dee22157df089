"""The keys of a source."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    SecretStr,
    ValidationInfo,
    field_validator,
    model_validator,
)

from oplogbridge.config.checks import refuse_bool
from oplogbridge.config.model import Model, Token, Word, written
from oplogbridge.config.source_urls import api_of, check_encrypted, check_source_url, normal_source_url
from oplogbridge.durations import DurationBetween, SizeBetween


class AuthSettings(Model):
    """Basic (`username`, `password`), or a named token."""

    username: Word | None = Field(default=None, description="Basic: the API user; with password")
    password: Annotated[SecretStr, Field(min_length=1)] | None = Field(default=None, description="Basic: its password")
    token: Token | None = Field(default=None, description="instead of username and password")
    scheme: Literal["Bearer", "Token"] = Field(default="Bearer", description="how the token is sent")

    @field_validator("username")
    @classmethod
    def _fits_basic(cls, username: str | None) -> str | None:
        if username is not None and (":" in username or not username.isprintable()):
            raise ValueError("must be one line without a colon: Basic authentication splits there")
        return username

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if self.token is not None and (self.username is not None or self.password is not None):
            raise ValueError("takes username and password, or a token, not both")
        if self.token is None and (self.username is None or self.password is None):
            raise ValueError("needs username and password, or a token")
        if self.token is None and self.scheme != "Bearer":
            raise ValueError("scheme goes with a token")
        return self


class SourceSettings(Model):
    """One oplog to poll."""

    # Before `url`, whose check asks for it.
    allow_http: bool = Field(default=False, description="http:// to another host, with the credentials in clear text")
    url: Annotated[str, BeforeValidator(check_source_url), AfterValidator(normal_source_url)] = Field(
        description="the API of one deployment: https://…/api/v4/{backend-deployment-id}, or https://…/api/v1"
    )
    api: Literal["v4", "v1"] = Field(default="v4", description="the version of the vendor's API, as `url` has it")
    id: str = Field(default="", description="what stored offsets name; the default is the url", max_length=500)
    auth: AuthSettings | None = Field(default=None, description="username and password, or token")
    poll_interval: Annotated[float, DurationBetween("0s", "1h")] = Field(
        default=written("1s"), description="pause between polls; the vendor allows one a second"
    )
    page_limit: Annotated[int, BeforeValidator(refuse_bool), Field(ge=1, le=1000)] = Field(
        default=1000, description="entries asked for in one poll"
    )
    page_bytes_max: Annotated[int, SizeBetween("64KiB", "1GiB")] = Field(
        default=written("64MiB"), description="a larger answer halves the limit"
    )
    request_timeout: Annotated[float, DurationBetween("100ms", "10m")] = Field(
        default=written("30s"), description="for one whole request"
    )
    settle: Annotated[float, DurationBetween("0s", "1h")] = Field(
        default=written("0s"),
        description="entries younger than this wait, for sources that commit lower sequences late",
    )
    rounded_sequences: Literal["stop", "allow"] = Field(
        default="stop", description="when sequences look as if they went through a float, which hides entries"
    )

    @field_validator("id")
    @classmethod
    def _default_id(cls, value: str, info: ValidationInfo) -> str:
        if not value.isprintable():
            raise ValueError("must be one line of text")
        if not value and info.data.get("api") == "v1":
            raise ValueError("needs an id with api: v1, whose URL does not name the deployment")
        return value or info.data.get("url", "")

    @field_validator("api")
    @classmethod
    def _api_of_url(cls, value: str, info: ValidationInfo) -> str:
        url = info.data.get("url")  # not there: it is a mistake of its own
        if url is not None and value != api_of(url):
            raise ValueError(f"api must be {api_of(url)}, as url has it")
        return value

    @field_validator("url")
    @classmethod
    def _encrypted(cls, url: str, info: ValidationInfo) -> str:
        check_encrypted(url, allow_http=info.data.get("allow_http", True))  # not there: it is a mistake of its own
        return url
