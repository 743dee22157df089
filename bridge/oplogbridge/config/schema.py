"""The JSON Schema of the configuration, for editors: `oplog-bridge config schema`.

Where the configuration takes a number or a word, it also takes text with `${…}` in it, which the schema cannot check.
"""

from __future__ import annotations

from typing import Any

from oplogbridge import plugins
from oplogbridge.config.settings import Settings
from oplogbridge.errors import ConfigError

_SUBSTITUTED = {"type": "string", "pattern": r"\$\{"}
_SCALARS = frozenset({"integer", "number", "boolean"})
_CHECKED_TEXT = ("pattern", "enum", "const", "format", "minLength", "maxLength")


def json_schema() -> dict[str, Any]:
    """Draft 2020-12, with the settings of every installed sink by its kind."""
    schema = Settings.model_json_schema()
    definitions: dict[str, Any] = schema["$defs"]
    sinks = [{"$ref": f"#/$defs/{_add_sink(kind, definitions)}"} for kind in plugins.sink_kinds()]
    pipeline = definitions["PipelineSettings"]
    for key in ("sink", "dead_letter"):
        description = pipeline["properties"][key].get("description", "")
        pipeline["properties"][key] = {"oneOf": sinks, "description": description}
    defaults = {key: value for key, value in pipeline.items() if key != "required"}
    definitions["PipelineDefaults"] = {**defaults, "title": "PipelineDefaults"}
    schema["properties"]["defaults"] = {"$ref": "#/$defs/PipelineDefaults"}
    schema["properties"]["pipelines"]["minProperties"] = 1
    for model in (schema, *definitions.values()):
        for key, value in model.get("properties", {}).items():
            if key != "kind":
                model["properties"][key] = _or_substituted(value)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "oplog-bridge", **schema}


def _add_sink(kind: str, definitions: dict[str, Any]) -> str:
    """Put the settings of a sink among the definitions and return their name there."""
    name = f"Sink_{kind}"
    try:
        plugin = plugins.load_plugin(kind)
    except ConfigError as error:  # its extra is not installed: any keys, with the reason
        definitions[name] = {"type": "object", "description": error.problems[0], "properties": {}}
    else:
        schema = plugin.settings.model_json_schema(ref_template=f"#/$defs/{name}_{{model}}")
        for inner, value in schema.pop("$defs", {}).items():
            definitions[f"{name}_{inner}"] = value
        definitions[name] = {**schema, "title": f"{kind} sink", "description": plugin.summary}
    sink = definitions[name]
    sink["properties"] = {"kind": {"const": kind}, **sink.get("properties", {})}
    sink["required"] = ["kind", *sink.get("required", [])]
    return name


def _or_substituted(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema of a value that may also be text with `${…}` in it."""
    members = schema.get("anyOf")
    if isinstance(members, list):
        if any(_is_checked_scalar(member) for member in members):
            return {**schema, "anyOf": [*members, _SUBSTITUTED]}
        return schema
    if not _is_checked_scalar(schema):
        return schema
    about: dict[str, Any] = {key: schema[key] for key in ("title", "description", "default") if key in schema}
    return {**about, "anyOf": [{key: value for key, value in schema.items() if key not in about}, _SUBSTITUTED]}


def _is_checked_scalar(schema: dict[str, Any]) -> bool:
    kind = schema.get("type")
    if isinstance(kind, list) or "enum" in schema:
        return True
    return kind in _SCALARS or (kind == "string" and any(key in schema for key in _CHECKED_TEXT))
