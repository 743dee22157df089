"""YAML text becomes plain data: dicts with text keys, lists, and scalars. Pure.

Stricter and plainer than PyYAML's own loaders, built on its event stream:

- YAML 1.2's core scalars only: `on`, `yes` and `off` are text, `1:30` is text and not 90, a date is text.
- A key defined twice is a mistake. PyYAML keeps the last one without a word.
- Nothing is constructed by tags, and aliases can't expand without bound (the "billion laughs").
- Messages never quote the text: a password that begins with `*`, `&` or `!` is a YAML mistake, and must not be shown.
"""

from __future__ import annotations

import re
from typing import Any

import yaml
from yaml.events import (
    AliasEvent,
    DocumentStartEvent,
    Event,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
    StreamEndEvent,
)

from oplogbridge.config.problems import Problem, path_text

FILE_BYTES_MAX = 16 * 1024 * 1024  # a thousand sources with their pipelines take about 1 MiB
EXPANDED_BYTES_MAX = 64 * 1024 * 1024  # with every alias written out, and VALUE_BYTES for every value
VALUE_BYTES = 16
DEPTH_MAX = 50  # ours is 5 deep; a sink may have its own

_INTEGER = re.compile(r"[-+]?[0-9]{1,40}")  # more digits stay text: no setting wants them, and int() is quadratic
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]{1,40}(\.[0-9]*)?)([eE][-+]?[0-9]{1,4})?")
_CONSTANTS: dict[str, bool | None] = {
    "": None,
    **dict.fromkeys(("~", "null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_TAG_TEXT = frozenset({"!", "tag:yaml.org,2002:str"})
_TAG_COLLECTION = frozenset({"!", "tag:yaml.org,2002:map", "tag:yaml.org,2002:seq"})
_QUOTED = re.compile(r"'[^']*'|\"[^\"]*\"")

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml is ten times faster, and not everywhere


class YamlMistake(Exception):
    """The text cannot be read. `line` counts from 1."""

    def __init__(self, line: int, message: str) -> None:
        super().__init__(message)
        self.line = line


def read_yaml(text: str) -> tuple[Any, list[Problem]]:
    """The data of the one document in `text` (None when it is empty), and the keys that are defined twice.

    Raises:
        YamlMistake: The text is no YAML, or uses more of YAML than a configuration may.
    """
    reader: _Reader | None = None
    try:
        reader = _Reader(text)
        return reader.document(), reader.problems
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark is not None else 1
        raise YamlMistake(line, _syntax_message(error, text, line)) from None
    except yaml.YAMLError as error:  # the pure Python reader's complaint about a character
        position = getattr(error, "position", 0)
        line = text.count("\n", 0, position if isinstance(position, int) else 0) + 1
        raise YamlMistake(line, "holds a character that YAML does not allow") from None
    except (ValueError, OverflowError, UnicodeError):
        raise YamlMistake(reader.line if reader else 1, "holds something that YAML does not allow") from None
    finally:
        if reader is not None:
            reader.close()


def _syntax_message(error: yaml.MarkedYAMLError, text: str, line: int) -> str:
    problem = _QUOTED.sub("…", error.problem or "is no YAML")
    shown = text.split("\n")[max(0, line - 2) : line]
    if any("${" in piece and "{" in piece.replace("${", "") for piece in shown):
        problem += ' (inside { } or [ ], put quotes around "${…}")'
    return problem


class _Reader:
    """Recursive descent over the events, bounded in depth and in expanded size."""

    def __init__(self, text: str) -> None:
        self.problems: list[Problem] = []
        self.line = 1
        self._loader = _Loader(text)
        self._anchors: dict[str, tuple[Any, int]] = {}  # the value and its expanded size
        self._expanded_bytes = 0

    def close(self) -> None:
        self._loader.dispose()

    def document(self) -> Any:
        self._next()  # the stream's start
        event = self._next()
        if isinstance(event, StreamEndEvent):
            return None
        data = self._value(self._next(), ())
        self._next()  # the document's end
        if isinstance(self._next(), DocumentStartEvent):
            raise YamlMistake(self.line, "a second document begins here: one to a file, please; -c takes several files")
        return data

    def _next(self) -> Event:
        event: Event = self._loader.get_event()
        if isinstance(event, ScalarEvent) and not event.value.isascii():
            event.value.encode()  # UnicodeEncodeError for half a character ("\ud800"), which nothing after us can write
        if event.start_mark is not None:
            self.line = event.start_mark.line + 1
        return event

    def _count(self, size: int) -> None:
        self._expanded_bytes += size
        if self._expanded_bytes > EXPANDED_BYTES_MAX:
            raise YamlMistake(self.line, "the aliases (*…) expand to too much: write the values out, or split the file")

    def _value(self, event: Event, path: tuple[str | int, ...]) -> Any:
        if isinstance(event, AliasEvent):
            if event.anchor not in self._anchors:
                raise YamlMistake(self.line, "an alias (*…) without an anchor before it: quote text that begins with *")
            value, size = self._anchors[event.anchor]
            self._count(size)
            return value
        if len(path) > DEPTH_MAX:
            raise YamlMistake(self.line, f"is nested more than {DEPTH_MAX} deep")
        before = self._expanded_bytes
        if isinstance(event, ScalarEvent):
            self._count(VALUE_BYTES + len(event.value))
            value = self._scalar(event)
        elif isinstance(event, SequenceStartEvent):
            value = self._sequence(event, path)
        else:
            assert isinstance(event, MappingStartEvent), "the parser lets a node begin in no other way"
            value = self._mapping(event, path)
        if event.anchor is not None:
            self._anchors[event.anchor] = (value, self._expanded_bytes - before)
        return value

    def _scalar(self, event: ScalarEvent) -> Any:
        text: str = event.value
        if event.tag is not None:
            self._refuse_tag(event.tag, _TAG_TEXT)
            return text
        if not event.implicit[0]:  # quoted, or a block
            return text
        if text in _CONSTANTS:
            return _CONSTANTS[text]
        if _INTEGER.fullmatch(text):
            return int(text)
        return float(text) if _FLOAT.fullmatch(text) else text

    def _sequence(self, event: SequenceStartEvent, path: tuple[str | int, ...]) -> list[Any]:
        self._refuse_tag(event.tag, _TAG_COLLECTION)
        self._count(VALUE_BYTES)
        values: list[Any] = []
        while not isinstance(item := self._next(), SequenceEndEvent):
            values.append(self._value(item, (*path, len(values))))
        return values

    def _mapping(self, event: MappingStartEvent, path: tuple[str | int, ...]) -> dict[str, Any]:
        self._refuse_tag(event.tag, _TAG_COLLECTION)
        self._count(VALUE_BYTES)
        values: dict[str, Any] = {}
        lines: dict[str, int] = {}
        merged: list[Any] = []
        while not isinstance(item := self._next(), MappingEndEvent):
            if not isinstance(item, ScalarEvent):
                raise YamlMistake(self.line, "a key must be plain text")
            key, key_line, merges = str(item.value), self.line, item.value == "<<" and item.implicit[0]
            self._count(VALUE_BYTES + len(key))
            value = self._value(self._next(), (*path, key))
            if merges:
                merged += value if isinstance(value, list) else [value]
            elif key in values:
                again = f"is defined twice, in line {lines[key]} and in line {key_line}"
                self.problems.append(Problem((*path, key), again))
            else:
                values[key], lines[key] = value, key_line
        for other in merged:  # `<<: *anchor`; what stands in the mapping itself wins, then the first one merged
            if not isinstance(other, dict):
                raise YamlMistake(self.line, f"{path_text((*path, '<<'))}: only mappings can be merged")
            self._count(VALUE_BYTES * len(other))
            for key, value in other.items():
                values.setdefault(key, value)
        return values

    def _refuse_tag(self, tag: str | None, allowed: frozenset[str]) -> None:
        if tag is not None and tag not in allowed:
            raise YamlMistake(self.line, "tags (!…) are not supported: quote text that begins with !")
