"""Configuration: YAML files and the environment become frozen `Settings`, or one `ConfigError` with every mistake."""

from oplogbridge.config.field_settings import FieldSettings
from oplogbridge.config.listen import Listen, parse_listen
from oplogbridge.config.load import from_data, load
from oplogbridge.config.schema import json_schema
from oplogbridge.config.settings import (
    AdminSettings,
    FilterSettings,
    LogSettings,
    PipelineSettings,
    Settings,
    SinkChoice,
)
from oplogbridge.config.source_settings import AuthSettings, SourceSettings
from oplogbridge.config.starts import parse_start, start_text
from oplogbridge.config.validation import Loaded

__all__ = [
    "AdminSettings",
    "AuthSettings",
    "FieldSettings",
    "FilterSettings",
    "Listen",
    "Loaded",
    "LogSettings",
    "PipelineSettings",
    "Settings",
    "SinkChoice",
    "SourceSettings",
    "from_data",
    "json_schema",
    "load",
    "parse_listen",
    "parse_start",
    "start_text",
]
