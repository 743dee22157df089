"""The annotated file, the examples, the table and the JSON Schema say the same as the models."""

import re
from pathlib import Path

import pytest
from pydantic import BaseModel

from oplogbridge import plugins
from oplogbridge.config import PipelineSettings, Settings, SourceSettings, json_schema, load
from oplogbridge.config.problems import keys_of, model_at
from oplogbridge.config.yaml_reader import read_yaml
from oplogbridge.errors import ConfigError
from oplogbridge.plugins import load_plugin, sink_kinds

ROOT = Path(__file__).parents[2]
REFERENCE = ROOT / "deploy" / "oplog-bridge.yaml"
EXAMPLES = sorted((ROOT / "deploy" / "examples").glob("*.yaml"))
TABLE = ROOT / "docs" / "configuration.md"
ENV = {"OPLOG_USER": "ada", "OPLOG_PASSWORD": "correct-horse"}

SINKS = [kind for kind in sink_kinds() if kind != "memory"]  # that one is for tests
NAMED = ("sources", "pipelines", "fields")  # mappings by a name of one's own
_COMMENTED_KEY = re.compile(r"^(\s*)#(  )?(\w+:(?: .*)?)$", re.MULTILINE)  # `#token: …`, `#  ca: …` below `#tls:`


def every_key():
    """(section, key) of all models, ours and the sinks'."""
    models = [("", Settings)] + [(kind, load_plugin(kind).settings) for kind in SINKS]
    while models:
        section, model = models.pop(0)
        for key in keys_of(model):
            yield section, key
            inner = model_at(model, [key])
            if key in NAMED:
                inner = model_at(model, [key, "any name"])
            if keys_of(inner):
                models.append((f"{section}.{key}".removeprefix("."), inner))


def keys_written(data, section=""):
    """(section, key) of what stands in a reference file, in the sections of `every_key`."""
    for key, value in data.items():
        yield section, key
        if key in NAMED:
            for named in [one for one in value.values() if isinstance(one, dict)]:
                yield from keys_written(named, f"{section}.{key}".removeprefix("."))
        elif key == "sink":
            yield from keys_written({name: item for name, item in value.items() if name != "kind"}, value["kind"])
        elif isinstance(value, dict) and key not in ("defaults", "dead_letter"):
            yield from keys_written(value, f"{section}.{key}".removeprefix("."))


def test_the_reference_file_loads_without_a_warning():
    assert load([REFERENCE], ENV).warnings == ()


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_each_example_loads_without_a_warning(path):
    assert load([path], ENV).warnings == ()


def test_the_reference_file_has_every_key_and_no_other():
    text = _COMMENTED_KEY.sub(lambda found: f"{found[1]}{found[2] or ''}{found[3]}", REFERENCE.read_text())
    data, problems = read_yaml(text)
    assert problems == []
    assert set(every_key()) == set(keys_written(data))


def test_what_stands_in_the_reference_file_is_the_default():
    settings = load([REFERENCE], ENV).settings
    source, pipeline = settings.sources["shop"], settings.pipelines["shop-to-kafka"]

    # These have no default that could be written, or none that would show anything.
    assert_defaults(settings, Settings(), but={"sources", "pipelines"})
    assert_defaults(source, SourceSettings(url=source.url), but={"auth"})
    assert_defaults(pipeline, PipelineSettings(source="shop", sink=pipeline.sink), but={"filter"})
    for each in settings.pipelines.values():
        required = {
            name: getattr(each.sink.settings, name)
            for name, field in each.sink.plugin.settings.model_fields.items()
            if field.is_required()
        }
        assert_defaults(each.sink.settings, each.sink.plugin.settings(**required), but=set())


def assert_defaults(written: BaseModel, default: BaseModel, but: set[str]) -> None:
    for name in type(written).model_fields:
        if name not in but:
            assert getattr(written, name) == getattr(default, name), name


def test_the_table_names_every_key():
    sections = re.split(r"^#{2,3} ", TABLE.read_text(), flags=re.MULTILINE)
    text = {"": section_of(sections, "Top"), "sources": section_of(sections, "Sources")}
    text |= {"pipelines": section_of(sections, "Pipelines"), "sources.auth": section_of(sections, "`auth`")}
    text |= {f"pipelines.{name}": section_of(sections, f"`{name}`") for name in ("filter", "fields", "attachments")}
    text |= {name: section_of(sections, f"`{name}`") for name in ("admin", "log")}
    text |= {kind: section_of(sections, f"`kind: {kind}`") for kind in SINKS}
    missing = [
        f"{section}: {key}"
        for section, key in every_key()
        if f"`{key}`" not in text.get(section, text.get(section.split(".")[0], ""))
    ]
    assert missing == []


def section_of(sections: list[str], title: str) -> str:
    return next(section for section in sections if section.startswith(f"{title}\n"))


def test_the_schema_has_every_key_and_each_sink_by_its_kind():
    schema = json_schema()
    definitions = schema["$defs"]

    assert set(schema["properties"]) == set(keys_of(Settings))
    assert set(definitions["PipelineSettings"]["properties"]) == set(keys_of(PipelineSettings))
    assert schema["properties"]["defaults"] == {"$ref": "#/$defs/PipelineDefaults"}
    assert "required" not in definitions["PipelineDefaults"]
    sinks = [
        choice["$ref"].rpartition("/")[2] for choice in definitions["PipelineSettings"]["properties"]["sink"]["oneOf"]
    ]
    for kind, name in zip(sink_kinds(), sinks, strict=True):
        assert definitions[name]["properties"]["kind"] == {"const": kind}
        assert set(definitions[name]["properties"]) == {"kind", *keys_of(load_plugin(kind).settings)}


def test_every_reference_within_the_schema_leads_somewhere():
    schema = json_schema()
    for name in re.findall(r"'\$ref': '#/\$defs/([^']+)'", str(schema)):
        assert name in schema["$defs"]


def test_the_schema_shows_defaults_as_they_are_written_and_lets_variables_stand_for_numbers():
    source = json_schema()["$defs"]["SourceSettings"]["properties"]
    assert source["poll_interval"]["default"] == "1s"
    assert source["page_bytes_max"]["default"] == "64MiB"
    assert {"type": "string", "pattern": r"\$\{"} in source["page_limit"]["anyOf"]
    assert {"type": "string", "pattern": r"\$\{"} in source["poll_interval"]["anyOf"]


def test_a_sink_whose_extra_is_missing_is_in_the_schema_with_the_reason(monkeypatch):
    def missing(kind):
        raise ConfigError("sinks", [f'sink "{kind}" needs an extra'])

    monkeypatch.setattr(plugins, "load_plugin", missing)
    sink = json_schema()["$defs"]["Sink_kafka"]
    assert sink["description"] == 'sink "kafka" needs an extra'
    assert sink["properties"] == {"kind": {"const": "kafka"}}
