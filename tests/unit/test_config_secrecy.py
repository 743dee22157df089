"""No message shows a secret, whoever wrote the message."""

import pytest
from pydantic import BaseModel, SecretStr, field_validator, model_validator

from oplogbridge import plugins
from oplogbridge.config.problems import Problem
from oplogbridge.config.secrecy import NOT_SHOWN, secrets_of, without_secrets
from oplogbridge.errors import ConfigError
from oplogbridge.sink import SinkPlugin
from unit.config_samples import minimal, mistakes, with_pipeline, with_source

SECRET = "correct-horse"


class TalkativeSettings(BaseModel, frozen=True, extra="forbid"):
    """What a third party may do: put values into its messages."""

    url: SecretStr = SecretStr("")
    topic: str = ""
    password: str = ""

    @field_validator("url", "topic", "password", mode="before")
    @classmethod
    def _tell(cls, value):
        if "!" in value:
            raise ValueError(f"what a value: {value}")
        if "?" in value:
            raise TypeError(value)
        return value

    @model_validator(mode="after")
    def _tell_all(self):
        if self.topic == "tell":
            raise ValueError(f"a mapping with {self.url.get_secret_value()} and {self.password}")
        return self


@pytest.fixture(autouse=True)
def talkative(monkeypatch):
    plugin = SinkPlugin("talkative", "", TalkativeSettings, None, None, None)
    monkeypatch.setattr(plugins, "load_plugin", lambda kind: plugin)


def sink(env=None, **keys):
    return mistakes(with_pipeline(sink={"kind": "talkative", **keys}), env)


def test_a_harmless_value_in_a_message_of_a_sink_is_shown():
    assert sink(topic="a!") == ["pipelines.out.sink.topic: what a value: a!"]


def test_a_value_under_a_secret_key_is_not():
    assert sink(password=f"{SECRET}!") == [f"pipelines.out.sink.password: {NOT_SHOWN}"]


def test_a_password_in_a_url_is_not():
    assert sink(url=f"redis://ada:{SECRET}@host!") == [f"pipelines.out.sink.url: {NOT_SHOWN}"]


def test_what_came_from_a_variable_is_not():
    assert sink({"TOPIC": SECRET}, topic="${TOPIC}!") == [f"pipelines.out.sink.topic: {NOT_SHOWN}"]


def test_what_a_whole_mapping_is_told_is_not_either():
    assert sink(topic="tell", password=SECRET) == [f"pipelines.out.sink: {NOT_SHOWN}"]
    assert sink({"URL": SECRET}, topic="tell", url="${URL}") == [f"pipelines.out.sink: {NOT_SHOWN}"]


def test_a_sink_that_fails_in_its_own_way_is_one_line():
    assert sink(topic="?") == ["pipelines.out.sink: could not be checked by the sink: TypeError"]


@pytest.mark.parametrize("key", ["format", "on_rejected", "source", "start", "key"])
def test_a_wrong_word_from_a_variable_is_not_shown(key):
    lines = mistakes(with_pipeline(**{key: "${X}"}, sink={"kind": "talkative"}), {"X": f"{{{SECRET}}}"})
    assert len(lines) == 1
    assert SECRET not in lines[0]


def test_an_unknown_sink_from_a_variable_is_not_shown(monkeypatch):
    def unknown(kind):
        raise ConfigError("sinks", [f"unknown sink {kind}"])

    monkeypatch.setattr(plugins, "load_plugin", unknown)
    assert mistakes(with_pipeline(sink={"kind": "${X}"}), {"X": SECRET}) == [
        "pipelines.out.sink.kind: names no sink that is installed"
    ]


def test_defaults_from_variables_are_not_shown_in_pipelines():
    data = minimal()
    data["defaults"] = {"sink": {"topic": "${TOPIC}!"}}
    data["pipelines"]["out"]["sink"] = {"kind": "talkative"}
    assert mistakes(data, {"TOPIC": SECRET}) == [f"pipelines.out.sink.topic: {NOT_SHOWN}"]


def test_a_state_url_is_never_shown():
    data = with_pipeline(sink={"kind": "talkative"})
    data["state"] = f"redis://ada:{SECRET}@host:port/x"
    (line,) = mistakes(data)
    assert SECRET not in line


def test_a_source_url_with_a_password_is_never_shown():
    data = with_source(url=f"https://ada:{SECRET}@host/api/v4/x")
    data["pipelines"]["out"]["sink"] = {"kind": "talkative"}
    assert mistakes(data) == ["sources.shop.url: must not hold a user or password: they belong under auth"]


def test_secrets_are_found_under_secret_keys_and_in_urls():
    data = {
        "sasl": {"username": "ada", "password": "one-secret"},
        "urls": ["redis://:two%40secret@host", "amqp://ada:three-secret@host"],
        "state": "redis+sentinel://a,b/service?sentinel_username=ada&sentinel_password=five-secret",
        "tokens": ["four-secret", {"x": 123456}],
        "key": "{type}",
    }
    assert secrets_of(data) == {
        "one-secret",
        "two%40secret",
        "two@secret",
        "three-secret",
        "four-secret",
        "123456",
        "five-secret",
    }


def test_a_very_short_secret_does_not_silence_every_message():
    problem = Problem(("name",), "must not be empty")
    assert without_secrets([problem], {"e", "be"}, {}) == [problem]
