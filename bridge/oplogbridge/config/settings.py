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

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    InstanceOf,
    SecretStr,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
)

from oplogbridge.codec.payloads import Format, Mode
from oplogbridge.config.attachment_settings import AttachmentSettings
from oplogbridge.config.checks import (
    BRIDGE_NAME_CHARACTERS_MAX,
    NAME_CHARACTERS_MAX,
    check_key_template,
    check_subject,
    named,
    refuse_reserved,
)
from oplogbridge.config.field_settings import FieldSettings, FieldsSecret, hashes
from oplogbridge.config.listen import Listen, parse_listen
from oplogbridge.config.model import Model, Token, Word, written
from oplogbridge.config.source_settings import SourceSettings
from oplogbridge.config.starts import ALLOWED as STARTS_ALLOWED
from oplogbridge.config.starts import parse_pipeline_start
from oplogbridge.durations import DurationBetween
from oplogbridge.sink import Refused, SinkPlugin
from oplogbridge.source.start import Start
from oplogbridge.state.urls import check_url
from oplogbridge.templates import KEY_FIELDS, Template

BridgeName = Annotated[
    str, named(r"[A-Za-z0-9][A-Za-z0-9._-]*", BRIDGE_NAME_CHARACTERS_MAX, "letters, digits, dots, _ and -")
]
Name = Annotated[str, named(r"[a-z0-9][a-z0-9._-]*", NAME_CHARACTERS_MAX, "a-z, 0-9, dots, _ and -")]
PipelineName = Annotated[Name, AfterValidator(refuse_reserved)]


class AdminSettings(Model):
    """The admin HTTP server: probes and metrics for machines, a page and its API for people."""

    listen: Annotated[
        Listen | None,
        BeforeValidator(lambda value: value if isinstance(value, Listen) else parse_listen(value)),
        WithJsonSchema({"type": "string"}),
    ] = Field(default=written("127.0.0.1:8090"), description="HOST:PORT, or off")
    token: Token | None = Field(
        default=None, description="needed for / and /api unless listen is loopback; /livez, /readyz, /metrics are open"
    )

    @property
    def serves_api(self) -> bool:
        """Whether `/` and `/api` are served at all."""
        return self.listen is not None and (self.listen.loopback or self.token is not None)


class LogSettings(Model):
    level: Literal["debug", "info", "warning", "error"] = Field(default="info", description="the least that is logged")
    format: Literal["json", "console"] = Field(default="json", description="json for machines, console for people")


class FilterSettings(Model):
    """Which entries are delivered: all three conditions together; one that is not given lets everything pass."""

    types: Annotated[tuple[Word, ...], Field(min_length=1)] | None = Field(
        default=None, description="object types, as the data model spells them"
    )
    operations: Annotated[tuple[Literal["create", "update", "delete"], ...], Field(min_length=1)] | None = Field(
        default=None, description="create, update, delete"
    )
    subjects: Annotated[tuple[Annotated[str, AfterValidator(check_subject)], ...], Field(min_length=1)] | None = Field(
        default=None, description="patterns over {source}.{type}.{operation}: * is one word, a last > is the rest"
    )


@dataclass(frozen=True, slots=True)
class SinkChoice:
    """A sink's plug-in and its checked settings, an instance of `plugin.settings`."""

    kind: str
    plugin: SinkPlugin = field(repr=False)
    settings: Any


AnySink = Annotated[InstanceOf[SinkChoice], WithJsonSchema({"type": "object"})]


def _refuse(info: ValidationInfo, ability: Literal["binary", "tombstones"], text: str) -> None:
    """Raises ValueError when the sink declares that it cannot. A sink that is a mistake itself is not asked."""
    sink: SinkChoice | None = info.data.get("sink")
    if sink is not None and sink.plugin is not None:
        declared = getattr(sink.plugin.traits(sink.settings), ability)
        if isinstance(declared, Refused):
            raise ValueError(f"{text}: {declared.reason}")


class PipelineSettings(Model):
    """One source, one sink, one offset."""

    source: str = Field(description="the name of a source")
    start: Annotated[
        Start,
        BeforeValidator(parse_pipeline_start),
        WithJsonSchema({"type": ["string", "integer"], "description": f"snapshot, {STARTS_ALLOWED}"}),
    ] = Field(
        default=written("earliest"), description="used only where there is no offset yet; snapshot: all objects first"
    )
    format: Format = Field(
        default="cloudevents", description="cloudevents, raw (the entry as received), flat (the object), debezium"
    )
    key: Annotated[str, Field(min_length=1), AfterValidator(check_key_template)] = Field(
        default="{type}/{id}", description="what orders and partitions; over {source}, {type}, {operation}, {id}"
    )
    filter: FilterSettings = Field(
        default_factory=FilterSettings, description="which entries are delivered; all, unless given"
    )
    on_rejected: Literal["stop", "dead_letter"] = Field(
        default="stop", description="when the destination will never take an event, or an entry is malformed"
    )
    on_late: Literal["deliver", "stop", "dead_letter"] = Field(
        default="deliver", description="when a second look finds an entry below what was delivered already"
    )
    dead_letter: AnySink | None = Field(default=None, description="a sink for on_rejected: dead_letter")
    sink: AnySink = Field(description="kind, and the keys of that sink")
    # Behind `sink`, `format` and `key`, which their checks ask.
    guarantee: Literal["exactly_once", "at_least_once"] | None = Field(
        default=None, description="what you rely on: refused where the sink promises less; default: what it promises"
    )
    mode: Mode = Field(default="structured", description="of format cloudevents: binary has attributes in headers")
    tombstones: bool = Field(default=False, description="Kafka: behind a delete, a record of its key without a value")
    fields_secret: FieldsSecret | None = Field(default=None, description="keys the hashes of hash under fields")
    datamodel_events: bool = Field(
        default=False, description="an event for the data model, before the first that is shown by a new one (API v4)"
    )
    attachments: AttachmentSettings | None = Field(
        default=None, description="photos, signatures and files are fetched into a store"
    )
    fields: Mapping[Word, FieldSettings] = Field(default={}, description="what is dropped or hashed, by object type")

    @field_validator("guarantee")
    @classmethod
    def _guaranteed(cls, guarantee: str | None, info: ValidationInfo) -> str | None:
        sink: SinkChoice | None = info.data.get("sink")
        if guarantee is None or sink is None or sink.plugin is None:
            return guarantee
        if guarantee == "exactly_once" and sink.plugin.traits(sink.settings).guarantee != guarantee:
            raise ValueError(
                f"{sink.kind} delivers at least once: choose another sink, or at_least_once and drop copies by id"
            )
        return guarantee

    @field_validator("mode")
    @classmethod
    def _mode_fits(cls, mode: Mode, info: ValidationInfo) -> Mode:
        if mode == "binary":
            if info.data.get("format", "cloudevents") != "cloudevents":
                raise ValueError("binary goes with format: cloudevents")
            _refuse(info, "binary", "binary is not for this sink")
        return mode

    @field_validator("tombstones")
    @classmethod
    def _tombstones_fit(cls, tombstones: bool, info: ValidationInfo) -> bool:
        if tombstones:
            _refuse(info, "tombstones", "are not for this sink")
            if "operation" in Template(info.data.get("key", ""), fields=KEY_FIELDS).varies:
                raise ValueError("need a key without {operation}: a delete must have the key of what it deletes")
        return tombstones

    @field_validator("attachments")
    @classmethod
    def _has_room_for_them(cls, value: AttachmentSettings | None, info: ValidationInfo) -> AttachmentSettings | None:
        if value is not None and info.data.get("format") == "raw":
            raise ValueError("need another format than raw: it delivers entries as received, without a reference")
        return value

    @field_validator("fields")
    @classmethod
    def _hashed_with_a_secret(cls, fields: Mapping[str, FieldSettings], info: ValidationInfo) -> object:
        if info.data.get("fields_secret", ...) is None and hashes(fields):
            raise ValueError("need fields_secret where something is hashed: without one, anybody could look values up")
        return fields


class Settings(Model):
    """The whole configuration. `defaults` has been merged into the pipelines and is empty here."""

    name: BridgeName = Field(default="oplog-bridge", description="prefix of all that is kept anywhere")
    instance: BridgeName | None = Field(
        default=None, description="a unique name: an instance takes its own lease back at once"
    )
    state: SecretStr = Field(
        default=written("sqlite:///oplog-bridge.db"),
        description="where offsets and leases live: sqlite, redis or memory URL",
    )
    lease_ttl: Annotated[float, DurationBetween("1s", "5m")] = Field(
        default=written("10s"), description="a waiting instance takes over within this time"
    )
    shutdown_timeout: Annotated[float, DurationBetween("1s", "1h")] = Field(
        default=written("20s"), description="for finishing the writes in flight after SIGTERM"
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
