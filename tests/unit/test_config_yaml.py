"""Reading YAML: 1.2's core scalars, no key twice, no bombs, and no text in a message."""

import pytest
import yaml

from oplogbridge.config import yaml_reader
from oplogbridge.config.yaml_reader import YamlMistake, read_yaml


@pytest.fixture(params=["CSafeLoader", "SafeLoader"], autouse=True)
def both_parsers(request, monkeypatch):
    monkeypatch.setattr(yaml_reader, "_Loader", getattr(yaml, request.param))


def value(text):
    return read_yaml(f"key: {text}")[0]["key"]


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("on", "on"),
        ("off", "off"),
        ("yes", "yes"),
        ("true", True),
        ("False", False),
        ("1:30", "1:30"),
        ("2026-11-22T10:00:00Z", "2026-11-22T10:00:00Z"),
        ("2026-11-22", "2026-11-22"),
        ("12", 12),
        ("-3", -3),
        ("1_000", "1_000"),
        ("0x10", "0x10"),
        ("9223372036854775808", 2**63),
        ("9" * 5000, "9" * 5000),
        ("1.5", 1.5),
        (".5e3", 500.0),
        ("1e5", 1e5),
        ("", None),
        ("~", None),
        ("null", None),
        ('"12"', "12"),
        ("'off'", "off"),
        ("!!str 12", "12"),
        ("|\n  two\n  lines", "two\nlines"),
        ("[1, a, {b: c}]", [1, "a", {"b": "c"}]),
    ],
)
def test_scalars_are_what_they_look_like(text, read):
    assert value(text) == read


def test_keys_are_text():
    assert read_yaml("1: a\ntrue: b\n~: c\n2026-11-22: d")[0] == {"1": "a", "true": "b", "~": "c", "2026-11-22": "d"}


def test_an_empty_file_is_no_data():
    assert read_yaml("") == (None, [])
    assert read_yaml("# nothing\n") == (None, [])


def test_a_key_that_is_defined_twice_is_a_mistake_with_its_path_and_lines():
    data, problems = read_yaml("sources:\n  shop: {url: a}\n  other: 1\n  shop: {url: b}\nname: x\nname: y\n")
    assert [problem.line() for problem in problems] == [
        "sources.shop: is defined twice, in line 2 and in line 4",
        "name: is defined twice, in line 5 and in line 6",
    ]
    assert data == {"sources": {"shop": {"url": "a"}, "other": 1}, "name": "x"}


def test_anchors_and_merge_keys_work_and_what_stands_in_the_mapping_wins():
    data, problems = read_yaml("a: &a {x: 1, y: 2}\nb: {<<: *a, y: 3}\nc: {<<: [*a, {z: 4, x: 5}]}\nd: *a\n'<<': e")
    assert problems == []
    assert data == {
        "a": {"x": 1, "y": 2},
        "b": {"x": 1, "y": 3},
        "c": {"x": 1, "y": 2, "z": 4},
        "d": {"x": 1, "y": 2},
        "<<": "e",
    }


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("a: b\nc: *hunter2\n", 2, r"an alias \(\*…\) without an anchor"),
        ("a: &a [*a]\n", 1, r"an alias \(\*…\) without an anchor"),
        ("a: !hunter2\n", 1, r"tags \(!…\) are not supported"),
        ("a: !!python/object/apply:os.system [id]\n", 1, r"tags \(!…\) are not supported"),
        ("a: !!set {x}\n", 1, r"tags \(!…\) are not supported"),
        ("a: !hunter2!x y\n", 1, "tag"),
        ("a:\n  - b\n c: d\n", 3, "."),
        ("a: 'hunter2\n", 2, "."),
        ("a: @hunter2\n", 1, "cannot start any token"),
        ("[a, b]: c\n", 1, "a key must be plain text"),
        ("{a: 1}: c\n", 1, "a key must be plain text"),
        ("a: 1\n---\nb: 2\n", 2, "a second document begins here"),
        ("a: {b: ${PASSWORD}}\n", 1, r"put quotes around"),
        ("a: \x01\n", 1, "."),
        ("a: {<<: 1}\n", 1, "only mappings can be merged"),
        ("a: {<<: [[]]}\n", 1, "only mappings can be merged"),
        ("[" * 60 + "]" * 60, 1, "nested more than 50 deep"),
        ("[" * 100_000, None, "."),
        ("{a: " * 100_000, None, "."),
        ('a: "\\ud800"\n', 1, "."),
        ("%YAML 9.9\n---\na: b\n", 1, "."),
    ],
)
def test_what_cannot_be_read_names_its_line_and_shows_nothing(text, line, message):
    with pytest.raises(YamlMistake, match=message) as caught:
        read_yaml(text)

    assert line is None or abs(caught.value.line - line) <= 1  # the two parsers count an end of file differently
    assert "hunter2" not in str(caught.value)


def test_a_billion_laughs_are_counted_and_not_made():
    lines = ["a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol, lol]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 10)]
    with pytest.raises(YamlMistake, match="expand to too much"):
        read_yaml("\n".join(lines))


def test_a_long_text_cannot_be_multiplied_by_aliases_either():
    with pytest.raises(YamlMistake, match="expand to too much"):
        read_yaml(f"a: &a {'x' * 100_000}\nb: [{', '.join(['*a'] * 1000)}]")
