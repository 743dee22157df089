"""What the configuration says, checked: frozen models with one attribute for each key.

    Settings
    ├── admin: AdminSettings        listen, token
    ├── log: LogSettings            level, format
    ├── sources: {name: SourceSettings}
    │     └── auth: AuthSettings    username, password | token, scheme
    └── pipelines: {name: PipelineSettings}
          ├── filter: FilterSettings
          └── sink, dead_letter: SinkChoice   kind, plugin, settings (the plug-in's own model)

Durations are floats of seconds, sizes ints of bytes, secrets `SecretStr`. Each field's description is the one in the
JSON Schema; docs/configuration.md and deploy/oplog-bridge.yaml are tested to hold every key.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    InstanceOf,
    SecretStr,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from oplogbridge.config.durations import DurationBetween, SizeBetween
from oplogbridge.config.listen import Listen, parse_listen
from oplogbridge.config.source_urls import check_encrypted, check_source_url, normal_source_url
from oplogbridge.config.starts import ALLOWED as STARTS_ALLOWED
from oplogbridge.config.starts import parse_start
from oplogbridge.sink import SinkPlugin
from oplogbridge.source.start import Start
from oplogbridge.state.urls import check_url
from oplogbridge.templates import KEY_FIELDS, Template

NAME_CHARACTERS_MAX = 100
# `{name}.{pipeline}.dead-letters.checkpoint` must fit into the 249 characters of a Kafka topic, with room for the id
# of a replay.
BRIDGE_NAME_CHARACTERS_MAX = 63
# Owners of what we keep at destinations: a pipeline of such a name would share its transactional id with another's
# dead letters or replay, and they would fence each other for ever.
_RESERVED = re.compile(r".*\.dead-letters|.*\.replay\..*")

_FORBIDDEN_IN_HEADER = re.compile(r"[^\x20-\x7e]")


def _named(pattern: str, characters_max: int, allowed: str) -> AfterValidator:
    compiled = re.compile(pattern)

    def check(name: str) -> str:
        if len(name) > characters_max or not compiled.fullmatch(name):
            raise ValueError(f"must begin with a letter or digit and hold only {allowed} (at most {characters_max})")
        return name

    return AfterValidator(check)


def _later(*words: str) -> BeforeValidator:
    def check(value: object) -> object:
        if isinstance(value, str) and value in words:
            raise ValueError(f"{value} comes in a later version")
        return value

    return BeforeValidator(check)


def _written(default: str) -> Any:
    """A default as it would stand in the file: `validate_default` makes the value of it, the JSON Schema shows it."""
    return default


def _no_bool(value: object) -> object:
    if isinstance(value, bool):  # pydantic would take `true` for 1
        raise ValueError("must be a whole number")
    return value


def _key_template(text: str) -> str:
    Template(text, fields=KEY_FIELDS)
    return text


def _subject(pattern: str) -> str:
    tokens = pattern.split(".")
    if any(not token or re.search(r"\s", token) for token in tokens):
        raise ValueError("must be words with single dots between them, like shop.order.>")
    if ">" in tokens[:-1] or any(len(token) > 1 and re.search(r"[*>]", token) for token in tokens):
        raise ValueError("* stands for one whole word, > only at the end and for all that follow")
    return pattern


def _header_safe(secret: SecretStr) -> SecretStr:
    if _FORBIDDEN_IN_HEADER.search(secret.get_secret_value()):
        raise ValueError("must be one line of printable ASCII")
    return secret


def _not_reserved(name: str) -> str:
    if _RESERVED.fullmatch(name):
        raise ValueError("must not end in .dead-letters or contain .replay. (what we keep for those has such names)")
    return name


BridgeName = Annotated[
    str, _named(r"[A-Za-z0-9][A-Za-z0-9._-]*", BRIDGE_NAME_CHARACTERS_MAX, "letters, digits, dots, _ and -")
]
Name = Annotated[str, _named(r"[a-z0-9][a-z0-9._-]*", NAME_CHARACTERS_MAX, "a-z, 0-9, dots, _ and -")]
PipelineName = Annotated[Name, AfterValidator(_not_reserved)]
Token = Annotated[SecretStr, Field(min_length=1), AfterValidator(_header_safe)]
Word = Annotated[str, Field(min_length=1)]


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, hide_input_in_errors=True)


class AdminSettings(_Model):
    """The admin HTTP server: probes and metrics for machines, a page and its API for people."""

    listen: Annotated[
        Listen | None,
        BeforeValidator(lambda value: value if isinstance(value, Listen) else parse_listen(value)),
        WithJsonSchema({"type": "string"}),
    ] = Field(default=_written("127.0.0.1:8090"), description="HOST:PORT, or off")
    token: Token | None = Field(
        default=None, description="needed for / and /api unless listen is loopback; /livez, /readyz, /metrics are open"
    )

    @property
    def serves_api(self) -> bool:
        """Whether `/` and `/api` are served at all."""
        return self.listen is not None and (self.listen.loopback or self.token is not None)


class LogSettings(_Model):
    level: Literal["debug", "info", "warning", "error"] = Field(default="info", description="the least that is logged")
    format: Literal["json", "console"] = Field(default="json", description="json for machines, console for people")


class AuthSettings(_Model):
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


class SourceSettings(_Model):
    """One oplog to poll."""

    # Before `url`, whose check asks for it.
    allow_http: bool = Field(default=False, description="http:// to another host, with the credentials in clear text")
    url: Annotated[str, BeforeValidator(check_source_url), AfterValidator(normal_source_url)] = Field(
        description="the API of one deployment: https://…/api/v4/{backend-deployment-id}"
    )
    api: Annotated[Literal["v4"], _later("v1")] = Field(default="v4", description="the vendor's API")
    id: str = Field(default="", description="what stored offsets name; the default is the url", max_length=500)
    auth: AuthSettings | None = Field(default=None, description="username and password, or token")
    poll_interval: Annotated[float, DurationBetween("1ms", "1h")] = Field(
        default=_written("1s"), description="pause between polls; the vendor allows one a second"
    )
    page_limit: Annotated[int, BeforeValidator(_no_bool), Field(ge=1, le=1000)] = Field(
        default=1000, description="entries asked for in one poll"
    )
    page_bytes_max: Annotated[int, SizeBetween("64KiB", "1GiB")] = Field(
        default=_written("64MiB"), description="a larger answer halves the limit"
    )
    request_timeout: Annotated[float, DurationBetween("100ms", "10m")] = Field(
        default=_written("30s"), description="for one whole request"
    )
    settle: Annotated[float, DurationBetween("0s", "1h")] = Field(
        default=_written("0s"),
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
        return value or info.data.get("url", "")

    @field_validator("url")
    @classmethod
    def _encrypted(cls, url: str, info: ValidationInfo) -> str:
        check_encrypted(url, allow_http=info.data.get("allow_http", True))  # not there: it is a mistake of its own
        return url


class FilterSettings(_Model):
    """Which entries are delivered: all three conditions together; one that is not given lets everything pass."""

    types: Annotated[tuple[Word, ...], Field(min_length=1)] | None = Field(
        default=None, description="object types, as the data model spells them"
    )
    operations: Annotated[tuple[Literal["create", "update", "delete"], ...], Field(min_length=1)] | None = Field(
        default=None, description="create, update, delete"
    )
    subjects: Annotated[tuple[Annotated[str, AfterValidator(_subject)], ...], Field(min_length=1)] | None = Field(
        default=None, description="patterns over {source}.{type}.{operation}: * is one word, a last > is the rest"
    )


@dataclass(frozen=True, slots=True)
class SinkChoice:
    """A sink's plug-in and its checked settings, an instance of `plugin.settings`."""

    kind: str
    plugin: SinkPlugin = field(repr=False)
    settings: Any


AnySink = Annotated[InstanceOf[SinkChoice], WithJsonSchema({"type": "object"})]


class PipelineSettings(_Model):
    """One source, one sink, one offset."""

    source: str = Field(description="the name of a source")
    start: Annotated[
        Start,
        BeforeValidator(parse_start),
        WithJsonSchema({"type": ["string", "integer"], "description": STARTS_ALLOWED}),
    ] = Field(default=_written("earliest"), description="used only where there is no offset yet")
    format: Annotated[Literal["cloudevents", "raw"], _later("flat", "debezium")] = Field(
        default="cloudevents", description="cloudevents (structured JSON), or raw (the entry as received)"
    )
    key: Annotated[str, Field(min_length=1), AfterValidator(_key_template)] = Field(
        default="{type}/{id}", description="what orders and partitions; over {source}, {type}, {operation}, {id}"
    )
    filter: FilterSettings = Field(
        default_factory=FilterSettings, description="which entries are delivered; all, unless given"
    )
    on_rejected: Literal["stop", "dead_letter"] = Field(
        default="stop", description="when the destination will never take an event, or an entry is malformed"
    )
    dead_letter: AnySink | None = Field(default=None, description="a sink for on_rejected: dead_letter")
    sink: AnySink = Field(description="kind, and the keys of that sink")


class Settings(_Model):
    """The whole configuration. `defaults` has been merged into the pipelines and is empty here."""

    name: BridgeName = Field(default="oplog-bridge", description="prefix of all that is kept anywhere")
    instance: BridgeName | None = Field(
        default=None, description="a unique name: an instance takes its own lease back at once"
    )
    state: SecretStr = Field(
        default=_written("sqlite:///oplog-bridge.db"),
        description="where offsets and leases live: sqlite, redis or memory URL",
    )
    lease_ttl: Annotated[float, DurationBetween("1s", "5m")] = Field(
        default=_written("10s"), description="a waiting instance takes over within this time"
    )
    shutdown_timeout: Annotated[float, DurationBetween("1s", "1h")] = Field(
        default=_written("20s"), description="for finishing the writes in flight after SIGTERM"
    )
    admin: AdminSettings = Field(default_factory=AdminSettings, description="the admin HTTP server")
    log: LogSettings = Field(default_factory=LogSettings, description="logs go to stderr")
    defaults: Mapping[str, Any] = Field(default={}, description="any key of a pipeline, for those that lack it")
    sources: Mapping[Name, SourceSettings] = Field(default={}, description="the oplogs, by name")
    pipelines: Mapping[PipelineName, PipelineSettings] = Field(default={}, description="at least one, by name")

    @field_validator("state")
    @classmethod
    def _known_store(cls, state: SecretStr) -> SecretStr:
        wrong = check_url(state.get_secret_value())
        if wrong is not None:
            raise ValueError(wrong)
        return state
