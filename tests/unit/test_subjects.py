"""Subjects in the manner of NATS: safe tokens, patterns, and filters over them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oplogbridge.codec.subjects import Filter
from oplogbridge.templates import matches, token


@pytest.mark.parametrize(
    ("value", "safe"),
    [
        ("user", "user"),
        ("a.b", "a%2Eb"),
        ("*", "%2A"),
        (">", "%3E"),
        ("50%", "50%25"),
        ("a/b", "a%2Fb"),
        ("a b\t", "a%20b%09"),
        ("\0\x7f", "%00%7F"),
        ("é", "é"),
        ("a\u2003b", "a%E2%80%83b"),
        ("", ""),
    ],
)
def test_what_would_end_or_widen_a_token_is_percent_encoded(value: str, safe: str) -> None:
    assert token(value) == safe


@given(st.text(max_size=20), st.text(max_size=20))
def test_a_token_is_one_token_and_two_values_never_become_the_same(one: str, other: str) -> None:
    assert not any(char in ".*>/" or char.isspace() for char in token(one))
    assert (token(one) == token(other)) == (one == other)


@pytest.mark.parametrize(
    ("pattern", "subject", "covered"),
    [
        ("a.b.c", "a.b.c", True),
        ("a.b.c", "a.b", False),
        ("a.b", "a.b.c", False),
        ("a.*.c", "a.x.c", True),
        ("a.*", "a.b.c", False),
        ("*.*.*", "a.b.c", True),
        ("a.>", "a.b.c", True),
        ("a.>", "a", False),
        (">", "a", True),
        ("a.b.c.>", "a.b.c", False),
        ("a.>.c", "a.b.c", False),  # `>` counts only at the end
        ("A.b.c", "a.b.c", False),
        ("a.b*.c", "a.bx.c", False),
    ],
)
def test_a_pattern_covers_subjects_as_nats_has_it(pattern: str, subject: str, covered: bool) -> None:
    assert matches(pattern, subject) is covered


def accepted(filter_: Filter) -> set[str]:
    pairs = [(type_, operation) for type_ in ("user", "order") for operation in ("create", "delete")]
    return {f"{type_} {operation}" for type_, operation in pairs if filter_.accepts(type_, operation)}


def test_an_empty_filter_passes_all() -> None:
    assert Filter("shop").passes_all
    assert len(accepted(Filter("shop"))) == 4


@pytest.mark.parametrize(
    ("conditions", "passed"),
    [
        ({"types": frozenset({"user"})}, {"user create", "user delete"}),
        ({"operations": frozenset({"delete"})}, {"user delete", "order delete"}),
        ({"subjects": ["shop.order.>"]}, {"order create", "order delete"}),
        ({"subjects": ["shop.order.create", "shop.user.delete"]}, {"order create", "user delete"}),
        ({"subjects": ["other.>"]}, set()),
        ({"types": frozenset({"user"}), "operations": frozenset({"delete"})}, {"user delete"}),
        ({"types": frozenset({"user"}), "subjects": ["shop.order.>"]}, set()),
    ],
)
def test_the_conditions_of_a_filter_are_anded_and_their_values_ored(
    conditions: dict[str, object], passed: set[str]
) -> None:
    filter_ = Filter("shop", **conditions)  # type: ignore[arg-type]

    assert not filter_.passes_all
    assert accepted(filter_) == passed
    assert accepted(filter_) == passed  # from what it remembers


def test_a_type_with_a_dot_is_one_token_of_the_subject() -> None:
    filter_ = Filter("my.shop", subjects=["my%2Eshop.a%2Eb.*"])

    assert filter_.accepts("a.b", "create")
    assert not filter_.accepts("a", "b.create")


def test_what_a_filter_remembers_is_bounded() -> None:
    filter_ = Filter("shop", types=frozenset({"user"}))
    for n in range(Filter.KNOWN_MAX + 5):
        assert not filter_.accepts(f"t{n}", "create")

    assert len(filter_._known) <= Filter.KNOWN_MAX
