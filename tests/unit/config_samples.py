"""The smallest configurations that load, to be varied by tests."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

from oplogbridge.config import Loaded, from_data
from oplogbridge.errors import ConfigError

URL = "https://run.journeyapps.com/api/v4/533bda53027894f69b001055"


def minimal() -> dict[str, Any]:
    return deepcopy(
        {
            "sources": {"shop": {"url": URL, "auth": {"username": "ada", "password": "correct-horse"}}},
            "pipelines": {"out": {"source": "shop", "sink": {"kind": "file", "path": "{pipeline}.jsonl"}}},
        }
    )


def with_source(**keys: Any) -> dict[str, Any]:
    data = minimal()
    data["sources"]["shop"].update(keys)
    return data


def with_pipeline(**keys: Any) -> dict[str, Any]:
    data = minimal()
    data["pipelines"]["out"].update(keys)
    return data


def settings(data: dict[str, Any], env: dict[str, str] | None = None) -> Any:
    return loaded(data, env).settings


def loaded(data: dict[str, Any], env: dict[str, str] | None = None) -> Loaded:
    return from_data(data, env)


def mistakes(data: dict[str, Any], env: dict[str, str] | None = None) -> list[str]:
    """The lines, or [] when there is no mistake."""
    try:
        from_data(data, env)
    except ConfigError as error:
        return list(error.problems)
    return []
