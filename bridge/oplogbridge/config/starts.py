"""`earliest`, `latest`, a sequence or a time as written in `start:`, `replay --from` and `offsets set`. Pure."""

from __future__ import annotations

import re
from datetime import UTC, datetime

from oplogbridge.source.start import Start
from oplogbridge.values import OFFSET_MAX

ALLOWED = "earliest, latest, a sequence (0 to 2^63) or a time with its zone (2026-11-22T10:00:00Z)"

_SEQUENCE = re.compile(r"[0-9]{1,19}")
_TIME = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d(:\d\d(\.\d+)?)?([Zz]|[+-]\d\d:\d\d)?")
_UNIX_SECONDS_MAX = OFFSET_MAX >> 32  # sequences are `unix_seconds << 32 | counter`


def parse_start(value: object) -> Start:
    """The start that `value` names. A time becomes whole unix seconds, rounded down so that nothing is passed over.

    Raises:
        ValueError: The message says what is allowed, without the value.
    """
    if isinstance(value, Start):
        return value
    if value == "earliest" or value == "latest":
        return Start(value)
    if isinstance(value, float):
        raise ValueError(f"must be {ALLOWED}: a float has rounded the sequence already")
    if isinstance(value, int) and not isinstance(value, bool):
        return _sequence(value)
    if isinstance(value, str) and _SEQUENCE.fullmatch(value):
        return _sequence(int(value))
    if isinstance(value, str) and _TIME.fullmatch(value):
        return _time(value)
    raise ValueError(f"must be {ALLOWED}")


def parse_pipeline_start(value: object) -> Start:
    """As `parse_start`, and `snapshot`, with which only a pipeline can begin."""
    if value == "snapshot":
        return Start("snapshot")
    try:
        return parse_start(value)
    except ValueError as error:
        raise ValueError(str(error).replace("earliest, latest,", "earliest, latest, snapshot,")) from None


def start_text(start: Start) -> str:
    """The canonical spelling: `parse_start(start_text(start)) == start`."""
    if start.value is None:
        return start.kind
    if start.kind == "sequence":
        return str(start.value)
    return datetime.fromtimestamp(start.value, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _sequence(value: int) -> Start:
    if not 0 <= value <= OFFSET_MAX:
        raise ValueError(f"must be {ALLOWED}")
    return Start("sequence", value)


def _time(text: str) -> Start:
    try:
        when = datetime.fromisoformat(text.upper())
    except ValueError:
        raise ValueError(f"must be a time that exists: {ALLOWED}") from None
    if when.tzinfo is None:
        raise ValueError("must be a time with its zone: put Z (UTC) or +02:00 behind it")
    try:
        seconds = int(when.timestamp() // 1)
    except (OverflowError, ValueError):
        seconds = -1
    if not 0 <= seconds <= _UNIX_SECONDS_MAX:
        raise ValueError("must be a time from 1970-01-01 to 2038-01-19, which is all that sequences can express")
    return Start("time", seconds)
