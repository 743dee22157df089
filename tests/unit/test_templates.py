"""Templates of keys and destinations."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oplogbridge.templates import KEY_FIELDS, Template, TemplateError


def test_constants_are_filled_in_once_and_the_rest_remains() -> None:
    template = Template("oplog.{source}.{type}", constants={"source": "shop", "pipeline": "p"})

    assert (template.constant, template.varies) == (None, {"type"})
    assert template.fill({"type": "user"}) == "oplog.shop.user"


def test_a_template_without_fields_is_constant() -> None:
    assert Template("oplog").constant == "oplog"
    assert Template("oplog:{source}", constants={"source": "shop"}).constant == "oplog:shop"
    assert Template("").constant == ""


def test_doubled_braces_are_literal() -> None:
    assert Template("{{{source}}}:{{x}}", constants={"source": "shop"}).constant == "{shop}:{x}"


@pytest.mark.parametrize("text", ["{", "}", "a{b", "a}b", "{source", "{{}", "{so{urce}}"])
def test_a_single_brace_is_a_mistake_that_says_how_to_write_it(text: str) -> None:
    with pytest.raises(TemplateError, match=r"single|unknown field"):
        Template(text)


@pytest.mark.parametrize("text", ["{id}", "{}", "{ type }", "{type!r}", "{type.x}", "{0}"])
def test_an_unknown_field_is_a_mistake_that_names_the_known_ones(text: str) -> None:
    with pytest.raises(TemplateError, match=r"allowed are \{operation\}, \{pipeline\}, \{source\}, \{type\}"):
        Template(text)


def test_values_are_escaped_and_the_operators_own_text_is_not() -> None:
    template = Template(
        "a.b.{source}.{type}", constants={"source": "x.y"}, escape=lambda value: value.replace(".", "_")
    )

    assert template.destination("u.v", "create") == "a.b.x_y.u_v"


def test_a_value_that_looks_like_a_field_is_not_filled_in_again() -> None:
    template = Template("{type}/{id}", fields=KEY_FIELDS)

    assert template.fill({"type": "{id}", "id": "{type}"}) == "{id}/{type}"


@given(st.text(max_size=30), st.text(max_size=10))
def test_any_text_can_be_written_as_a_template(text: str, value: str) -> None:
    escaped = text.replace("{", "{{").replace("}", "}}")

    assert Template(escaped + "{type}" + escaped).fill({"type": value}) == text + value + text


def test_what_a_template_remembers_is_bounded() -> None:
    template = Template("{type}.{operation}")
    for n in range(Template.CACHE_ENTRIES_MAX + 5):
        assert template.destination(f"t{n}", "create") == f"t{n}.create"

    assert len(template._cache) <= Template.CACHE_ENTRIES_MAX
