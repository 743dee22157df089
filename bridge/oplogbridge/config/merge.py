"""Several files become one mapping, and `defaults` is laid under each pipeline. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from oplogbridge.config.problems import Path, Problem

# Each source and each pipeline is whole in one file; two half ones with one name are far more often two people's
# different things than one thing written in two places.
_NAMED = frozenset({"sources", "pipelines"})


def merge_files(files: Sequence[tuple[str, Mapping[str, Any]]]) -> tuple[dict[str, Any], list[Problem]]:
    """One mapping out of (file name, its data) pairs. What a later file defines again is a mistake and left out."""
    merged: dict[str, Any] = {}
    origins: dict[Path, str] = {}
    problems: list[Problem] = []
    for name, data in files:
        _merge(merged, data, name, (), origins, problems)
    return merged, problems


def _merge(
    into: dict[str, Any],
    data: Mapping[str, Any],
    name: str,
    at: Path,
    origins: dict[Path, str],
    problems: list[Problem],
) -> None:
    for key, value in data.items():
        path = (*at, key)
        open_to_more = isinstance(value, dict) and not (at and at[0] in _NAMED)
        if key not in into:
            into[key] = {} if open_to_more else value
            origins[path] = name
        elif not (open_to_more and isinstance(into[key], dict)):
            problems.append(Problem(path, f"is defined in {origins[path]} and again in {name}"))
            continue
        if open_to_more:
            _merge(into[key], value, name, path, origins, problems)


def without_empty(value: Any) -> Any:
    """A key without a value (`filter:`) is a key that is not there. In lists nothing is left out."""
    if isinstance(value, dict):
        return {key: without_empty(item) for key, item in value.items() if item is not None}
    return [without_empty(item) for item in value] if isinstance(value, list) else value


def with_defaults(own: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """`own` with `defaults` under it, deep for mappings. `key:` without a value takes a default away.

    A sink of another kind than the default one shares nothing with it: the keys of one mean nothing to the other.
    """
    merged = dict(defaults)
    for key, value in own.items():
        under = merged.get(key)
        if isinstance(value, dict) and isinstance(under, dict) and _same_kind(value, under):
            merged[key] = with_defaults(value, under)
        else:
            merged[key] = value
    return merged


def _same_kind(own: Mapping[str, Any], default: Mapping[str, Any]) -> bool:
    return "kind" not in own or own["kind"] == default.get("kind", own["kind"])


def contains(data: Any, path: Path) -> bool:
    """Whether `data` itself says what stands at `path`, or says it at a place above."""
    for segment in path:
        here = range(len(data)) if isinstance(data, list) else data if isinstance(data, dict) else ()
        if segment not in here:
            return not isinstance(data, dict)
        data = data[segment]
    return True
