"""Templates of keys and destinations: `oplog.{source}.{type}`. Pure.

`{{` and `}}` are literal braces. Values are made safe for the destination by the `escape` handed in; the template's own
text is the operator's and stays as it is.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

DESTINATION_FIELDS = frozenset({"source", "type", "operation", "pipeline"})
KEY_FIELDS = frozenset({"source", "type", "operation", "id"})

_TOKEN = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")


_UNSAFE_IN_TOKEN = re.compile(r"[%.*>/\s\x00-\x1f\x7f]")
_UNSAFE_IN_HEADER = re.compile(r"[^!#$&-~]+")


def token(value: str) -> str:
    """A value as one token of a subject: what would end or widen a token is percent-encoded."""
    return _UNSAFE_IN_TOKEN.sub(_percent_encoded, value)


def matches(pattern: str, subject: str) -> bool:
    """Whether a NATS pattern (`*` one token, a last `>` one or more) covers a subject."""
    wanted, present = pattern.split("."), subject.split(".")
    for index, part in enumerate(wanted):
        if part == ">" and index == len(wanted) - 1:
            return len(present) > index
        if index >= len(present) or part not in ("*", present[index]):
            return False
    return len(wanted) == len(present)


def header_value(value: str) -> str:
    """A value as CloudEvents wants it in a header of HTTP or NATS: all but visible ASCII is percent-encoded, and so are
    the double quote and the percent sign."""
    return _UNSAFE_IN_HEADER.sub(_percent_encoded, value)


def _percent_encoded(found: re.Match[str]) -> str:
    return "".join(f"%{byte:02X}" for byte in found.group().encode())


class TemplateError(ValueError):
    """The text is no template; the message names what is allowed."""


class Template:
    """A parsed template. Constants (`source`, `pipeline`) are filled in once; `varies` tells which fields remain."""

    __slots__ = ("_cache", "_escape", "_parts", "constant", "prefix", "text", "varies")

    CACHE_ENTRIES_MAX = 10_000  # distinct (type, operation) pairs; a data model has hundreds, so this only bounds abuse

    def __init__(
        self,
        text: str,
        *,
        fields: frozenset[str] = DESTINATION_FIELDS,
        constants: Mapping[str, str] | None = None,
        escape: Callable[[str], str] = str,
    ) -> None:
        constants = constants or {}
        literals: list[str] = [""]
        names: list[str] = []
        end = 0
        for token in _TOKEN.finditer(text):
            literals[-1] += text[end : token.start()]
            end = token.end()
            name = token.group(1)
            if token.group() in ("{{", "}}"):
                literals[-1] += token.group()[0]
            elif name is None:
                raise TemplateError(
                    f"a single {token.group()!r} in {text!r}: write {token.group() * 2!r} for the brace"
                )
            elif name not in fields:
                allowed = ", ".join(f"{{{field}}}" for field in sorted(fields))
                raise TemplateError(f"unknown field {{{name}}} in {text!r}: allowed are {allowed}")
            elif name in constants:
                literals[-1] += escape(constants[name])
            else:
                names.append(name)
                literals.append("")
        literals[-1] += text[end:]
        self.text = text
        self.varies = frozenset(names)
        self.constant = literals[0] if not names else None
        self.prefix = literals[0]  # what every destination begins with
        self._parts = (literals, names)
        self._escape = escape
        self._cache: dict[tuple[str, str], str] = {}

    def fill(self, values: Mapping[str, str]) -> str:
        """The template with every remaining field replaced by its escaped value."""
        literals, names = self._parts
        text = literals[0]
        for name, literal in zip(names, literals[1:], strict=True):
            text += self._escape(values[name]) + literal
        return text

    def destination(self, object_type: str, operation: str) -> str:
        """Fast path for destinations, where only the type and the operation vary."""
        if self.constant is not None:
            return self.constant
        pair = (object_type, operation)
        found = self._cache.get(pair)
        if found is None:
            if len(self._cache) >= self.CACHE_ENTRIES_MAX:
                self._cache.clear()
            found = self._cache[pair] = self.fill({"type": object_type, "operation": operation})
        return found
