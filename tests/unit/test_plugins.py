"""Sinks are found by entry point, and only the one asked for is imported."""

from dataclasses import dataclass, field
from importlib.metadata import EntryPoint, entry_points

import pytest
from pydantic import BaseModel

from oplogbridge import plugins
from oplogbridge.errors import ConfigError
from oplogbridge.plugins import load_plugin, sink_kinds
from oplogbridge.sink import SinkPlugin


class Settings(BaseModel, frozen=True, extra="forbid"):
    pass


good = SinkPlugin("good", "does nothing", Settings, None, None, None)
not_a_plugin = object()


class Metadata:
    def __init__(self, extras):
        self._extras = extras

    def get_all(self, name):
        assert name == "Provides-Extra"
        return self._extras


@dataclass
class Distribution:
    name: str
    extras: list[str] = field(default_factory=list)

    @property
    def metadata(self):
        return Metadata(self.extras or None)


@pytest.fixture
def offer(monkeypatch):
    """Put entry points in place of the installed ones: (kind, value, distribution)."""

    def offer(*offers):
        found = []
        for kind, value, distribution in offers:
            point = EntryPoint(kind, value, plugins.GROUP)
            vars(point).update(dist=distribution)
            found.append(point)
        monkeypatch.setattr(plugins, "entry_points", lambda group: found)

    return offer


def refusal(kind):
    with pytest.raises(ConfigError) as caught:
        load_plugin(kind)
    (line,) = caught.value.problems
    return line


def test_the_sink_asked_for_is_loaded_and_no_other(offer):
    offer(("good", f"{__name__}:good", Distribution("a")), ("bad", "no.such.module:plugin", Distribution("b")))
    assert load_plugin("good") is good
    assert sink_kinds() == {"bad": "b", "good": "a"}


def test_an_unknown_kind_is_told_the_nearest(offer):
    offer(("kafka", "x:y", Distribution("a")), ("file", "x:y", Distribution("a")))
    assert refusal("kafak") == 'unknown sink "kafak" (did you mean "kafka"? allowed: file, kafka)'
    assert refusal("xyz") == 'unknown sink "xyz" (allowed: file, kafka)'


def test_a_sink_whose_own_module_is_missing_does_not_ask_for_an_extra(offer):
    offer(("kafka", "missing_module.sink:plugin", Distribution("oplog-bridge", ["kafka"])))
    assert refusal("kafka") == ("sink \"kafka\" of oplog-bridge cannot be imported: No module named 'missing_module'")


def test_a_missing_client_library_asks_for_the_extra(offer, tmp_path, monkeypatch):
    (tmp_path / "sink_that_wants_a_client.py").write_text("import no_such_client_library\n")
    monkeypatch.syspath_prepend(tmp_path)
    offer(
        ("kafka", "sink_that_wants_a_client:plugin", Distribution("oplog-bridge", ["kafka"])),
        ("theirs", "sink_that_wants_a_client:plugin", Distribution("their-sink")),
    )
    assert refusal("kafka") == "sink \"kafka\" needs an extra: pip install 'oplog-bridge[kafka]'"
    assert refusal("theirs") == (
        "sink \"theirs\" of their-sink cannot be imported: No module named 'no_such_client_library'"
    )


def test_two_distributions_with_one_name_are_both_named(offer):
    offer(("good", f"{__name__}:good", Distribution("one")), ("good", f"{__name__}:good", Distribution("two")))
    assert refusal("good") == 'sink "good" is offered by one and by two: uninstall one of them'


def test_one_distribution_found_twice_on_the_path_is_one(offer):
    offer(("good", f"{__name__}:good", Distribution("one")), ("good", f"{__name__}:good", Distribution("one")))
    assert load_plugin("good") is good


def test_an_import_that_fails_in_any_way_is_one_line(offer, tmp_path, monkeypatch):
    (tmp_path / "sink_that_breaks.py").write_text("1 / 0\n")
    monkeypatch.syspath_prepend(tmp_path)
    offer(("breaks", "sink_that_breaks:plugin", Distribution("theirs")))
    assert refusal("breaks") == 'sink "breaks" of theirs cannot be imported: ZeroDivisionError: division by zero'


@pytest.mark.parametrize("name", ["not_a_plugin", "good"])
def test_what_is_no_plugin_of_that_kind_is_refused(offer, name):
    offer(("other", f"{__name__}:{name}", Distribution("theirs")))
    assert refusal("other") == f'sink "other" of theirs: {__name__}:{name} is no SinkPlugin of that kind'


def test_our_own_sinks_are_plugins_like_anyones():
    ours = {found.name for found in entry_points(group=plugins.GROUP) if found.dist.name == "oplog-bridge"}
    assert ours == {"file", "kafka", "memory", "nats", "redis", "stdout", "webhook"}
    assert load_plugin("file").kind == "file"
