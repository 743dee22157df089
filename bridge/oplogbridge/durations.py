"""Durations (`500ms`, `1s`, `15m`) and sizes (`64KiB`, `1MiB`) as annotated types with bounds. Pure.

A bare number is refused: `30` might be seconds or milliseconds, and the wrong guess is a thousandfold. Only `0` needs
no unit. In Python a duration is a float of seconds, a size an int of bytes.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, core_schema

_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_BYTES = {"B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "kB": 10**3, "MB": 10**6, "GB": 10**9}
_NUMBER = r"[0-9]{1,12}(?:\.[0-9]{1,9})?"
_DURATION = re.compile(rf"({_NUMBER}) ?({'|'.join(_SECONDS)})")
_SIZE = re.compile(rf"({_NUMBER}) ?({'|'.join(_BYTES)})")
_ZERO = frozenset({"0", 0})


def seconds_of(value: object) -> float:
    """The seconds in `1s`, `500ms`, `15m`, `1.5h` or `2d`. Raises ValueError without the value in its message."""
    found = _DURATION.fullmatch(value) if isinstance(value, str) else None
    if found is not None:
        return float(found[1]) * _SECONDS[found[2]]
    if isinstance(value, (str, int)) and not isinstance(value, bool) and value in _ZERO:
        return 0.0
    raise ValueError("must be a duration with its unit: 500ms, 1s, 15m, 2h, 1d")


def bytes_of(value: object) -> int:
    """The bytes in `512B`, `64KiB`, `1MiB`, `1GB`. Raises ValueError without the value in its message."""
    found = _SIZE.fullmatch(value) if isinstance(value, str) else None
    if found is not None:
        return round(float(found[1]) * _BYTES[found[2]])
    if isinstance(value, (str, int)) and not isinstance(value, bool) and value in _ZERO:
        return 0
    raise ValueError("must be a size with its unit: 512B, 64KiB, 1MiB, 1GiB")


@dataclass(frozen=True, slots=True)
class DurationBetween:
    """`Annotated[float, DurationBetween("1s", "1h")]`: a setting in seconds, written as a duration."""

    at_least: str = "0s"
    at_most: str = "365d"

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(
            self._within,
            serialization=core_schema.plain_serializer_function_ser_schema(lambda seconds: f"{seconds:g}s"),
        )

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        units = "|".join(_SECONDS)
        return {"type": "string", "pattern": rf"^0$|^{_NUMBER} ?({units})$", "description": _range(self)}

    def _within(self, value: object) -> float:
        seconds = seconds_of(value)
        if not seconds_of(self.at_least) <= seconds <= seconds_of(self.at_most):
            raise ValueError(f"must be {_range(self)}")
        return seconds


@dataclass(frozen=True, slots=True)
class SizeBetween:
    """`Annotated[int, SizeBetween("1KiB", "1GiB")]`: a setting in bytes, written as a size."""

    at_least: str = "0B"
    at_most: str = "1024GiB"

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(
            self._within, serialization=core_schema.plain_serializer_function_ser_schema(lambda size: f"{size}B")
        )

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        units = "|".join(_BYTES)
        return {"type": "string", "pattern": rf"^0$|^{_NUMBER} ?({units})$", "description": _range(self)}

    def _within(self, value: object) -> int:
        size = bytes_of(value)
        if not bytes_of(self.at_least) <= size <= bytes_of(self.at_most):
            raise ValueError(f"must be {_range(self)}")
        return size


def _range(bounds: DurationBetween | SizeBetween) -> str:
    return f"{bounds.at_least} to {bounds.at_most}"
