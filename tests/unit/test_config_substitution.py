"""`${…}` in strings, after parsing."""

import pytest

from oplogbridge.config.substitution import VALUE_CHARACTERS_MAX, substitute

ENV = {"USER": "ada", "EMPTY": "", "DIRECTORY": "/run/secrets", "TRICKY": "${USER} $${x} #'\"\n: {"}
FILES = {"/run/secrets/password": "hunter2"}


def read(path):
    if path == "/binary":
        raise ValueError("it is not UTF-8 text")
    if path not in FILES:
        raise FileNotFoundError(2, "No such file or directory", path)
    return FILES[path]


def filled(text):
    result = substitute({"key": text}, ENV, read)
    assert result.problems == []
    return result.data["key"]


def mistake(text):
    (problem,) = substitute({"key": text}, ENV, read).problems
    return problem.line()


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("plain", "plain"),
        ("$USER and } and {x}", "$USER and } and {x}"),
        ("${USER}", "ada"),
        ("<${USER}/${USER}>", "<ada/ada>"),
        ("${NOBODY:-grace}", "grace"),
        ("${EMPTY:-grace}", "grace"),
        ("${USER:-grace}", "ada"),
        ("x${EMPTY}y", "xy"),
        ("${NOBODY:-oplog.{source}}", "oplog.{source}"),
        ("${NOBODY:-${USER}}", "ada"),
        ("${NOBODY:-a:-b}", "a:-b"),
        ("$${USER}", "${USER}"),
        ("$$${USER}", "$${USER}"),
        ("a $${ b", "a ${ b"),
        ("${file:/run/secrets/password}", "hunter2"),
        ("${file:${DIRECTORY}/password}", "hunter2"),
    ],
)
def test_a_reference_becomes_its_value(text, value):
    assert filled(text) == value


def test_a_value_is_not_substituted_again():
    assert filled("${TRICKY}") == ENV["TRICKY"]


def test_keys_numbers_and_lists_stay_what_they_are():
    result = substitute({"${USER}": 1, "list": ["${USER}", None, True]}, ENV, read)
    assert result.data == {"${USER}": 1, "list": ["ada", None, True]}


def test_an_optional_value_that_comes_out_empty_counts_as_not_given():
    assert filled("${NOBODY:-}") is None
    assert filled("${EMPTY}") == ""
    assert filled("x${NOBODY:-}") == "x"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("${NOBODY}", "key: the variable NOBODY is not set, and has no default"),
        ("${USR}", 'key: the variable USR is not set, and has no default (did you mean "USER"?)'),
        ("${A1} ${A2} ${A1}", "key: the variables A1 and A2 are not set, and have no default"),
        ("${", "key: a ${ is never closed: write $${ for a literal ${"),
        ("pass${word", "key: a ${ is never closed: write $${ for a literal ${"),
        ("${}", "key: write ${NAME}, ${NAME:-default} or ${file:/path}; $${ is a literal ${"),
        ("${hunter 2}", "key: write ${NAME}, ${NAME:-default} or ${file:/path}; $${ is a literal ${"),
        ("${file:/nowhere}", "key: the file in ${file:…} cannot be read: No such file or directory"),
        ("${file:/binary}", "key: the file in ${file:…} cannot be used: it is not UTF-8 text"),
        ("${file:${NOBODY}/x}", "key: the variable NOBODY is not set, and has no default"),
        ("${A:-" * 7 + "}" * 7, "key: nests ${…} more than 5 deep"),
    ],
)
def test_what_cannot_be_substituted_is_one_line_without_the_text(text, line):
    assert mistake(text) == line


def test_a_string_cannot_grow_without_bound():
    env = {"A": "x" * 1024}
    result = substitute(["${A}" * 2000], env, read)
    assert str(VALUE_CHARACTERS_MAX) in result.problems[0].text
    assert result.data == [None]


def test_what_was_substituted_is_remembered_as_hidden_by_place():
    result = substitute({"a": ["x", "${USER}"], "b": "${NOBODY}"}, ENV, read)
    assert result.hidden == {("a", 1): frozenset({"ada"})}
    assert result.broken == {("b",)}
