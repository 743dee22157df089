"""`${NAME}`, `${NAME:-default}`, `${file:/path}`, and `$${` for a literal `${`. After parsing, in strings only. Pure.

Because it happens after parsing, a password with a `#`, a quote or a line break in it cannot change the document. As
in a shell, `:-` is used when the variable is unset *or empty*; a default may itself hold `${…}` and braces. A value
that is nothing but `${NAME:-}` and comes out empty counts as not given, so that its own default applies.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from oplogbridge.config.problems import Path, Problem
from oplogbridge.nearest import nearest

VALUE_CHARACTERS_MAX = 1024 * 1024  # of one string after substitution
NESTED_MAX = 5
TOO_LONG = f"is longer than {VALUE_CHARACTERS_MAX} characters, which is too much for a value with ${{…}} in it"

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")

ReadFile = Callable[[str], str]  # raises OSError, ValueError (with a message that holds no content)


@dataclass(slots=True)
class Substituted:
    """`hidden` paths hold what came out of a `${…}`: those pieces. `broken` paths could not be substituted."""

    data: Any = None
    problems: list[Problem] = field(default_factory=list)
    hidden: dict[Path, frozenset[str]] = field(default_factory=dict)
    broken: set[Path] = field(default_factory=set)
    file_contents: set[str] = field(default_factory=set)


class _Mistake(Exception):
    pass


def substitute(data: Any, env: Mapping[str, str], read_file: ReadFile) -> Substituted:
    """`data` with every string substituted."""
    result = Substituted()
    result.data = _Substitution(env, read_file, result).value(data, ())
    return result


class _Substitution:
    def __init__(self, env: Mapping[str, str], read_file: ReadFile, result: Substituted) -> None:
        self._env = env
        self._read_file = read_file
        self._result = result
        self._unset: list[str] = []  # of the string at hand, as are the pieces
        self._pieces: set[str] = set()

    def value(self, value: Any, path: Path) -> Any:
        if isinstance(value, str):
            return self._string(value, path) if "${" in value else value
        if isinstance(value, dict):
            return {key: self.value(item, (*path, key)) for key, item in value.items()}
        if isinstance(value, list):
            return [self.value(item, (*path, index)) for index, item in enumerate(value)]
        return value

    def _string(self, text: str, path: Path) -> str | None:
        self._unset, self._pieces = [], set()
        try:
            if len(text) > VALUE_CHARACTERS_MAX:
                raise _Mistake(TOO_LONG)
            filled = self._fill(text, 0)
            if self._unset:
                raise _Mistake(self._unset_message())
        except _Mistake as mistake:
            self._result.problems.append(Problem(path, str(mistake)))
            self._result.broken.add(path)
            return None
        self._result.hidden[path] = frozenset(self._pieces)
        optional = text.endswith(":-}") and text.startswith("${") and text.count("${") == 1
        return None if optional and not filled else filled

    def _fill(self, text: str, depth: int) -> str:
        pieces: list[str] = []
        size = position = 0
        while (found := text.find("${", position)) >= 0:
            if found > position and text[found - 1] == "$":
                pieces.append(text[position : found - 1] + "${")
                position = found + 2
            else:
                end = _closing(text, found + 2)
                value = self._reference(text[found + 2 : end], depth)
                self._pieces.add(value)
                pieces.append(text[position:found] + value)
                position = end + 1
            size += len(pieces[-1])
            if size > VALUE_CHARACTERS_MAX:
                raise _Mistake(TOO_LONG)
        return "".join(pieces) + text[position:]

    def _reference(self, body: str, depth: int) -> str:
        """What stands between `${` and `}`. Nothing of it is quoted in a message unless it is a variable's name."""
        if depth >= NESTED_MAX:
            raise _Mistake(f"nests ${{…}} more than {NESTED_MAX} deep")
        if body.startswith("file:"):
            return self._file(self._fill(body.removeprefix("file:"), depth + 1))
        name, separator, default = body.partition(":-")
        if not _NAME.fullmatch(name):
            raise _Mistake("write ${NAME}, ${NAME:-default} or ${file:/path}; $${ is a literal ${")
        if separator:
            return self._env.get(name) or self._fill(default, depth + 1)
        if name not in self._env:
            self._unset.append(name)
            return ""
        return self._env[name]

    def _file(self, path: str) -> str:
        if self._unset:  # a part of the path is missing already
            return ""
        try:
            content = self._read_file(path)
        except OSError as error:
            raise _Mistake(
                f"the file in ${{file:…}} cannot be read: {error.strerror or type(error).__name__}"
            ) from None
        except ValueError as error:
            raise _Mistake(f"the file in ${{file:…}} cannot be used: {error}") from None
        self._result.file_contents.add(content)
        return content

    def _unset_message(self) -> str:
        names = list(dict.fromkeys(self._unset))
        if len(names) > 1:
            return f"the variables {' and '.join(names)} are not set, and have no default"
        meant = nearest(names[0], self._env)
        suggestion = f' (did you mean "{meant}"?)' if meant is not None else ""
        return f"the variable {names[0]} is not set, and has no default{suggestion}"


def _closing(text: str, start: int) -> int:
    """The index of the `}` that closes a `${` whose body begins at `start`; braces within it come in pairs."""
    depth = 0
    for position in range(start, len(text)):
        if text[position] == "{":
            depth += 1
        elif text[position] == "}":
            if depth == 0:
                return position
            depth -= 1
    raise _Mistake("a ${ is never closed: write $${ for a literal ${")
