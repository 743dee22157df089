"""Offsets as lines of JSON, to move them between state stores. Pure.

    {"pipeline":"shop-to-kafka","stored":{"v":1,"offset":"…","mark":{"offset":"…","proof":""},"source":"…","destination":"…"}}

`stored` is what a state store keeps, as it stands there, with a format version of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from oplogbridge.errors import ConfigError, Misconfigured
from oplogbridge.state import Stored

LINES_MAX = 100_000  # a file that is none would otherwise fill the memory


class _Line(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    pipeline: str
    stored: msgspec.Raw


def exported(offsets: Mapping[str, Stored]) -> str:
    lines = [_Line(pipeline, msgspec.Raw(stored.to_text().encode())) for pipeline, stored in offsets.items()]
    return "".join(f"{msgspec.json.encode(line).decode()}\n" for line in lines)


def read_exported(lines: Iterable[str], name: str) -> dict[str, Stored]:
    """Raises ConfigError: with every line that cannot be read."""
    found: dict[str, Stored] = {}
    problems: list[str] = []
    for number, text in enumerate(lines, 1):
        if number > LINES_MAX:
            raise ConfigError(name, [f"has more than {LINES_MAX} lines: it is no export of offsets"])
        if not text.strip():
            continue
        try:
            line = msgspec.json.decode(text, type=_Line)
            stored = Stored.from_text(bytes(line.stored).decode())
        except (msgspec.MsgspecError, Misconfigured, RecursionError) as error:
            problems.append(f"line {number}: {error}")
            continue
        if found.setdefault(line.pipeline, stored) != stored:
            problems.append(f"line {number}: pipeline {line.pipeline} has another offset in an earlier line")
    if problems:
        raise ConfigError(name, problems)
    return found
