"""Mistakes become lines: `path: what is wrong (allowed …; did you mean "…"?)`. Pure.

A line never shows what was written at a place that may hold a secret: values are shown only where they are a number or
a wrong choice among known words, and never where they came out of `${…}`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from oplogbridge.nearest import hint, nearest

Path = tuple[str | int, ...]
Hidden = Mapping[Path, frozenset[str]]  # what came out of a `${…}`, by place

REQUIRED = "is required"
_PLAIN_NAME = re.compile(r"[A-Za-z0-9_-]{1,100}")
_SHOWABLE = re.compile(r"[A-Za-z0-9_.:/-]{1,40}")
_SEGMENT_CHARACTERS_MAX = 60


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake, and where it is."""

    path: Path
    text: str

    def line(self) -> str:
        text = " ".join(self.text.split()).encode("utf-8", "backslashreplace").decode()
        return f"{path_text(self.path)}: {text}" if self.path else text


def path_text(path: Iterable[str | int]) -> str:
    """`pipelines.shop.filter.types[2]`; a segment that is more than a word stands in quotes."""
    text = ""
    for segment in path:
        if isinstance(segment, int):
            text += f"[{segment}]"
            continue
        if not _PLAIN_NAME.fullmatch(segment):
            cut = segment if len(segment) <= _SEGMENT_CHARACTERS_MAX else segment[:_SEGMENT_CHARACTERS_MAX] + "…"
            segment = json.dumps(cut)  # ASCII, in one line
        text += f".{segment}" if text else segment
    return text


def of_validation(
    error: ValidationError, *, model: type[BaseModel], data: Any, prefix: Path, hidden: Hidden
) -> list[Problem]:
    """The mistakes that pydantic found in `data`, which stands at `prefix`. Values at `hidden` paths are not shown."""
    problems: dict[tuple[Path, str], Problem] = {}
    unknown: dict[Path, str] = {}  # the mapping's path -> the key that a misspelled one was probably meant to be
    details = error.errors(include_url=False)
    for detail in details:
        if detail["type"] == "extra_forbidden":
            path = (*prefix, *_real_path(detail, data))
            key, keys = str(path[-1]), keys_of(model_at(model, path[len(prefix) : -1]))
            problems[path, ""] = Problem(path, f"unknown key{hint(key, keys)}")
            unknown[*path[:-1], nearest(key, keys) or ""] = key
    paths = {(*prefix, *_real_path(detail, data)) for detail in details}
    for detail in details:
        path = (*prefix, *_real_path(detail, data))
        if detail["type"] == "extra_forbidden" or (detail["type"] == "missing" and path in unknown):
            continue  # one mistake, one line: the misspelled key is the missing one
        if detail["type"] == "too_short" and any(other[:-1] == path for other in paths):
            continue  # too short only without its wrong items
        text = _text_of(detail, show=path not in hidden)
        problems.setdefault((path, text), Problem(path, text))
    return list(problems.values())


def _real_path(detail: ErrorDetails, data: Any) -> Path:
    """pydantic's location without the names of union members and validators that it puts in between."""
    path: list[str | int] = []
    location = detail["loc"]
    for index, segment in enumerate(location):
        last = index == len(location) - 1
        if isinstance(data, Mapping) and segment in data:
            path.append(segment)
            data = data[segment]
        elif isinstance(data, Sequence) and not isinstance(data, str) and isinstance(segment, int):
            path.append(segment)
            data = data[segment] if segment < len(data) else None
        elif last and detail["type"] == "missing":
            path.append(segment)
    return tuple(path)


def model_at(model: Any, path: Sequence[str | int]) -> Any:
    """The annotation at a path below a model: through optional fields, mappings and lists. None when it is unclear."""
    for segment in path:
        model = _inner(model)
        if isinstance(model, type) and issubclass(model, BaseModel):
            fields = {field.alias or name: field.annotation for name, field in model.model_fields.items()}
            model = fields.get(str(segment))
        else:
            arguments = [argument for argument in get_args(model) if argument is not Ellipsis]
            model = arguments[-1] if arguments else None
    return _inner(model)


def _inner(annotation: Any) -> Any:
    """Without `Annotated` and `| None`."""
    while True:
        members = [member for member in get_args(annotation) if member is not type(None)]
        if hasattr(annotation, "__metadata__") or (type(None) in get_args(annotation) and len(members) == 1):
            annotation = members[0]
        else:
            return annotation


def keys_of(model: Any) -> list[str]:
    """The keys that a model takes, or none when it is no model."""
    if not (isinstance(model, type) and issubclass(model, BaseModel)):
        return []
    return [field.alias or name for name, field in model.model_fields.items()]


_BOUNDS = {
    "greater_than": "more than {gt}",
    "greater_than_equal": "at least {ge}",
    "less_than": "less than {lt}",
    "less_than_equal": "at most {le}",
}
_KINDS = {
    "string": "text",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "dict": "a mapping (key: value)",
    "mapping": "a mapping (key: value)",
    "model": "a mapping (key: value)",
    "dataclass": "a mapping (key: value)",
    "list": "a list",
    "tuple": "a list",
    "set": "a list",
    "frozen": "a list",
}


def _text_of(detail: ErrorDetails, *, show: bool) -> str:
    kind, context, value = detail["type"], detail.get("ctx", {}), detail.get("input")
    if kind == "missing":
        return REQUIRED
    if kind in _BOUNDS:
        shown = f", is {value}" if show and isinstance(value, (int, float)) else ""
        return f"must be {_BOUNDS[kind].format(**context)}{shown}"
    if kind in ("literal_error", "enum"):
        return _choice_text(str(context.get("expected", "")), value, show=show)
    if kind in ("value_error", "assertion_error"):
        return str(context.get("error", "is not valid"))
    if kind in ("string_too_short", "too_short"):
        least = context.get("min_length", 1)
        return "must not be empty" if least == 1 else f"must have at least {least} {_unit(kind)}"
    if kind in ("string_too_long", "too_long"):
        return f"must have at most {context.get('max_length')} {_unit(kind)}"
    if kind == "string_type" and isinstance(value, (int, float)):
        return "must be text: put quotes around it"
    wanted = _KINDS.get(kind.split("_", 1)[0])
    if wanted is not None and kind.endswith(("_type", "_parsing", "_from_float", "_parsing_size", "_set_type")):
        return f"must be {wanted}"
    return detail["msg"].removeprefix("Input ").removeprefix("Value error, ")


def _unit(kind: str) -> str:
    return "characters" if kind.startswith("string") else "items"


def _choice_text(expected: str, value: Any, *, show: bool) -> str:
    choices = re.findall(r"'([^']*)'", expected)
    if not (show and isinstance(value, str) and _SHOWABLE.fullmatch(value)):
        return f"must be {expected.replace(chr(39), '')}"
    meant = nearest(value, choices)
    suggestion = f' (did you mean "{meant}"?)' if meant is not None else ""
    return f'must be {expected.replace(chr(39), "")}, is "{value}"{suggestion}'
