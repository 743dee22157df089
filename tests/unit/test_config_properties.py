"""Whatever stands in the file, `load` returns settings or one ConfigError, and shows no secret."""

from __future__ import annotations

import json
import random

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from oplogbridge.config import load
from oplogbridge.config.yaml_reader import read_yaml
from oplogbridge.errors import ConfigError

SECRET = "correct-horse-battery"
ENV = {"OPLOG_PASSWORD": SECRET, "NAME": "shop", "EMPTY": ""}

# Enough of a configuration that a change of one piece of it reaches every check.
WHOLE = f"""\
name: oplog-bridge
state: redis://ada:{SECRET}@localhost/0
instance: one
lease_ttl: 10s
admin: {{listen: 127.0.0.1:8090, token: {SECRET}}}
log: {{level: info, format: json}}
defaults: {{format: raw, filter: {{types: [user]}}}}
sources:
  shop:
    url: https://run.journeyapps.com/api/v4/533bda53027894f69b001055
    auth: {{username: ada, password: {SECRET}}}
    page_limit: 1000
    page_bytes_max: 64MiB
  other:
    url: https://run.journeyapps.com/api/v4/633bda53027894f69b001055
    auth: {{token: "${{OPLOG_PASSWORD}}", scheme: Token}}
pipelines:
  one:
    source: shop
    start: 2026-11-22T10:00:00Z
    filter: {{operations: [create, update], subjects: ["shop.order.>"]}}
    on_rejected: dead_letter
    dead_letter: {{kind: file, path: dead.jsonl}}
    sink: {{kind: file, path: "{{pipeline}}.jsonl"}}
  two: {{source: other, start: 6112271540663877633, sink: {{kind: memory}}}}
"""
PIECES = [
    "*", "&a", "!x", "[", "]", "{", "}", "${", "${NAME}", "${file:/nowhere}", "${OPLOG_PASSWORD}", "${X:-", ":", "\n",
    " ", "- ", "#", "'", '"', "|", "<<: ", "9" * 50, "1e400", ".nan", "null", "~", "true", "\t", "\x00", "\ud800", "é",
    "kind: ", "\\", "%", "@", "? ", "--- ", "...",
]  # fmt: skip


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return tmp_path_factory.mktemp("config") / "oplog-bridge.yaml"


def check(file, text: str) -> None:
    file.write_bytes(text.encode("utf-8", "surrogatepass"))
    problems = problems_of(file)
    for problem in problems:
        assert "\n" not in problem
        assert SECRET not in problem


def problems_of(file) -> tuple[str, ...]:
    try:
        loaded = load([file], ENV)
    except ConfigError as error:
        return error.problems or ("an error\nwithout a line",)
    return loaded.warnings


@given(st.text(max_size=200))
@example("")
@example("a: &a [*a, *a]")
@example("pipelines: {a: {source: []}}")
@example("sources: []\npipelines: {a: {source: a, sink: {}}}")
@example("defaults: {sink: []}\npipelines: {a: }")
def test_any_text(file, text):
    check(file, text)


@given(st.lists(st.sampled_from([*PIECES, "sources", "pipelines", "sink", "kind", "file"]), max_size=30))
def test_any_row_of_what_means_something_in_yaml(file, pieces):
    check(file, "".join(pieces))


@given(st.integers(0, len(WHOLE)), st.integers(0, 12), st.sampled_from(["", *PIECES]))
def test_a_whole_configuration_with_any_piece_replaced(file, at, removed, piece):
    check(file, WHOLE[:at] + piece + WHOLE[at + removed :])


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from(PIECES[:-1]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@given(st.integers(0), values)
def test_a_whole_configuration_with_any_value_of_another_kind(file, seed, value):
    data = json.loads(json.dumps(WHOLE_DATA))
    holder, key = _any_place(data, random.Random(seed))
    holder[key] = value
    check(file, json.dumps(data))


def _any_place(data, choose):
    while True:
        key = choose.choice(list(data) if isinstance(data, dict) else range(len(data)))
        if not isinstance(data[key], (dict, list)) or not data[key] or choose.random() < 0.3:
            return data, key
        data = data[key]


WHOLE_DATA = read_yaml(WHOLE)[0]


def test_the_whole_configuration_is_right_to_begin_with(file):
    file.write_text(WHOLE)
    loaded = load([file], ENV)
    assert loaded.warnings == ()
    assert SECRET not in repr(loaded)
