"""What a request says: brackets in names, conditions, order, and the expressions of `query.json`. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from oplogbridge.emulator.datamodel import ATTACHMENT_TYPES, Field, Model
from oplogbridge.emulator.log import Kept
from oplogbridge.emulator.page import BadParameter
from oplogbridge.emulator.representation import InvalidValue, kept_value

LIST_MAX = 1000
DEPTH_MAX = 10  # of a parameter's name, `a[b][c]`: the vendor's go three deep
_PARTS = re.compile(r"^([^\[\]]+)((?:\[[^\[\]]*\])*)$")
_EXPRESSION = re.compile(
    r"\s*(\w+)\s*(==|=|!=|<=|<|>=|>|not\s+in\b|in\b|contains\b|starts\s+with\b)\s*\?\s*(and\b|$)", re.IGNORECASE
)
_SIGNS = {"=": "eq", "==": "eq", "!=": "ne", "<": "lt", "<=": "lte", ">": "gt", ">=": "gte"}
_UPDATED_AT = Field("updated_at", None, "datetime")
_ID = Field("id", None, "text")

Test = Callable[[Any], bool]


def nested(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """`a[b][c]=1` is {"a": {"b": {"c": "1"}}}, and `a[]=1&a[]=2` a list. What is no such name is kept as it stands."""
    found: dict[str, Any] = {}
    for name, value in pairs:
        shape = _PARTS.match(name)
        if shape is None:
            found[name] = value
            continue
        keys = [shape[1], *re.findall(r"\[([^\[\]]*)\]", shape[2])]
        if len(keys) > DEPTH_MAX:
            raise BadParameter(f"A parameter's name has at most {DEPTH_MAX} parts.")
        _put(found, keys, value)
    return found


def _put(into: dict[str, Any], keys: Sequence[str], value: Any) -> None:
    *path, last = keys
    for key in path:
        inner = into.get(key)
        if not isinstance(inner, dict):
            inner = into[key] = {}
        into = inner
    if last == "":
        several = into.get("")
        into[""] = [*several, value] if isinstance(several, list) else [value]
    else:
        into[last] = value


def flattened(value: Any) -> Any:
    """Lists that came as `a[]=…`."""
    if isinstance(value, dict):
        return value[""] if [*value] == [""] else {key: flattened(one) for key, one in value.items()}
    return value


@dataclass(frozen=True)
class Listing:
    """Which objects, in which order, and how many of them."""

    tests: tuple[tuple[str, Test], ...] = ()
    order: tuple[tuple[str, bool], ...] = ()  # name, descending
    limit: int = LIST_MAX
    skip: int = 0
    embed: tuple[str, ...] = ()

    def select(self, objects: Iterable[Kept]) -> tuple[list[Kept], int]:
        """The page, and how many there are in all."""
        found = [one for one in objects if all(test(value_of(one, name)) for name, test in self.tests)]
        for name, descending in reversed(self.order):
            if name == "$natural":
                found = found[::-1] if descending else found
            else:
                found = sorted(found, key=partial(_rank_of, name), reverse=descending)
        return found[self.skip : self.skip + self.limit], len(found)


def _rank_of(name: str, kept: Kept) -> tuple[int, Any]:
    return _rank(value_of(kept, name))


def value_of(kept: Kept, name: str) -> Any:
    return {"id": kept.id, "updated_at": kept.updated_at}.get(name) or kept.state.get(name)


def listing_of(model: Model, query: Mapping[str, Any]) -> Listing:
    """Of a request's parameters, nested. Raises BadParameter."""
    tests = []
    for name, value in [*_conditions(query, "query"), *_conditions(query, "q")]:
        field, _, operator = name.partition(".")
        tests.append((_name(model, field), _test(_field(model, field), operator or "eq", value)))
    order = []
    sort = query.get("sort")
    if isinstance(sort, Mapping):
        for name, direction in sort.items():
            if str(direction).lower() not in ("asc", "desc", "1", "-1"):
                raise BadParameter(f"'sort[{name}]' must be asc or desc.")
            order.append((_name(model, name), str(direction).lower() in ("desc", "-1")))
    embed = [one.strip() for one in str(query.get("embed") or "").split(",") if one.strip()]
    for name in embed:
        if name not in model.belongs_to:
            raise BadParameter(f"'{name}' cannot be embedded.")
    return Listing(
        tuple(tests),
        tuple(order),
        limit=min(_whole(query, "limit", LIST_MAX), LIST_MAX),
        skip=_whole(query, "skip", 0),
        embed=tuple(embed),
    )


def listing_of_expression(model: Model, body: Mapping[str, Any]) -> Listing:
    """Of `query.json`: an expression with `?`, its arguments, `limit`, `skip`, and `sort` as a list of names."""
    expression, arguments = body.get("expression") or "", body.get("arguments") or []
    if not isinstance(expression, str) or not isinstance(arguments, list):
        raise BadParameter("'expression' must be text and 'arguments' a list.")
    tests, at, rest = [], 0, expression
    more = bool(expression.strip())
    while more:
        found = _EXPRESSION.match(rest)
        if found is None or at >= len(arguments):
            raise BadParameter(f"Invalid expression near '{rest.strip()[:50]}'.")
        operator = " ".join(found[2].lower().split())
        test = _test(_field(model, found[1]), _SIGNS.get(operator, operator), arguments[at])
        tests.append((_name(model, found[1]), test))
        at, rest, more = at + 1, rest[found.end() :], found[3] != ""
    if rest.strip() or at != len(arguments):
        raise BadParameter(f"The expression has {at} conditions and {len(arguments)} arguments.")
    names = body.get("sort") or []
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise BadParameter("'sort' must be a list of names.")
    order = [(_name(model, name.removeprefix("-")), name.startswith("-")) for name in names]
    limit, skip = _whole(body, "limit", LIST_MAX), _whole(body, "skip", 0)
    return Listing(tuple(tests), tuple(order), limit=min(limit, LIST_MAX), skip=skip)


def _conditions(query: Mapping[str, Any], name: str) -> list[tuple[str, Any]]:
    conditions = query.get(name)
    return [*flattened(conditions).items()] if isinstance(conditions, Mapping) and [*conditions] != [""] else []


def _name(model: Model, name: str) -> str:
    """As it is kept. Hidden fields have an underscore in queries."""
    name = {"_updated_at": "updated_at", "_id": "id"}.get(name, name)
    if name not in ("id", "updated_at", "$natural"):
        _field(model, name)
    return name


def _field(model: Model, name: str) -> Field:
    if name in ("_updated_at", "updated_at") and name not in model.fields:
        return _UPDATED_AT
    if name in ("_id", "id") or (name.endswith("_id") and name[:-3] in model.belongs_to):
        return _ID
    found = model.fields.get(name)
    if found is None:
        raise BadParameter(f"Unknown field '{name}' for {model.name}.")
    return _ID if found.type in ATTACHMENT_TYPES else found


def _test(field: Field, operator: str, given: Any) -> Test:
    if operator == "null":
        return (lambda value: value is None) if str(given).lower() == "true" else (lambda value: value is not None)
    if operator in ("contains", "starts with"):
        text = str(given)
        if operator == "starts with":
            return lambda value: isinstance(value, str) and value.startswith(text)
        wanted = _converted(field, [given]) if field.type.startswith("multiple") else [text]
        return lambda value: value is not None and wanted[0] in (value if isinstance(value, str | list) else str(value))
    if operator in ("in", "not in"):
        if not isinstance(given, list):
            raise BadParameter(f"'{operator}' needs a list.")
        among = [_converted(field, one) for one in given]
        return (lambda value: value in among) if operator == "in" else (lambda value: value not in among)
    wanted = _converted(field, given)
    if operator in ("eq", "ne"):
        return (lambda value: value == wanted) if operator == "eq" else (lambda value: value != wanted)
    compare = _COMPARES.get(operator)
    if compare is None:
        raise BadParameter(f"Unknown operator '{operator}'.")
    return lambda value: value is not None and wanted is not None and compare(_rank(value), _rank(wanted))


_COMPARES: dict[str, Callable[[Any, Any], bool]] = {
    "lt": lambda value, wanted: value < wanted,
    "lte": lambda value, wanted: value <= wanted,
    "gt": lambda value, wanted: value > wanted,
    "gte": lambda value, wanted: value >= wanted,
}


def _converted(field: Field, given: Any) -> Any:
    try:
        return kept_value(field, given)
    except InvalidValue as error:
        raise BadParameter(str(error)) from error


def _rank(value: Any) -> tuple[int, Any]:
    """Values of different kinds in an order of their own, as in a database without a schema."""
    if value is None:
        return (0, 0)
    if isinstance(value, bool | int | float):
        return (1, value)
    return (2, value) if isinstance(value, str) else (3, str(value))


def _whole(query: Mapping[str, Any], name: str, default: int) -> int:
    given = query.get(name)
    if given is None or given == "":
        return default
    text = str(given)
    if isinstance(given, bool) or not (text.isascii() and text.isdigit()) or len(text) > 18:
        raise BadParameter(f"'{name}' must be a non-negative integer.")
    return int(text)
