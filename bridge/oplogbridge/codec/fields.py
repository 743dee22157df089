"""Personal data that a pipeline does not deliver: fields of an object that are dropped, or replaced by a hash. Pure.

What remains is byte for byte as received, so the object is not decoded and encoded again: the places are found in its
text, and only they are cut or written over. The text is valid JSON, the page's decoder has seen to that; should it be
something else after all, an error is raised and nothing is delivered, since what was not understood may hold anything.

Of a name that stands twice in an object both are treated, whatever a reader would take, and a name is compared as what
it means: `"em\\u0061il"` is `email`. A path goes through arrays into each of their elements.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple, Union

import msgspec
from msgspec import Raw

from oplogbridge.values import Entry


class Action(Enum):
    DROP = "drop"
    HASH = "hash"


Tree = Mapping[bytes, Union[Action, "Tree"]]  # by name of a field, UTF-8

_S = rb"[ \t\r\n]*+"
_STRING = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"'
# A value up to its end, or to the bracket that opens it.
_VALUE = rb"(?P<value>" + _STRING + rb'|[^ \t\r\n"\[{\]},:]++|(?=[\[{]))'
_MEMBER = re.compile(rb"(?:(?<=\{)|" + _S + rb",)" + _S + rb"(?P<name>" + _STRING + rb")" + _S + rb":" + _S + _VALUE)
_ELEMENT = re.compile(rb"(?:(?<=\[)|" + _S + rb",)" + _S + _VALUE)
_CLOSING = re.compile(_S + rb"(?P<bracket>[\]}])")
_BRACKETS = re.compile(_STRING + rb"|(?P<open>[\[{])|(?P<close>[\]}])")
_PIECES = re.compile(_STRING + rb"|[ \t\r\n]++")
_OPENING = b"[{"
_NULL = b"null"
_decode_text = msgspec.json.Decoder(str).decode
_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class FieldPaths:
    """Paths such as `email` or `address.street`. None is named twice, and none lies within another."""

    drop: Sequence[str] = ()
    hash: Sequence[str] = ()


class FieldRules:
    """What is done to the objects of one type."""

    def __init__(self, paths: FieldPaths, secret: bytes) -> None:
        """`secret` keys the hashes; it may be empty where nothing is hashed."""
        self._tree = _tree_of(paths)
        self._secret = secret
        # The same in an entry as received, for the format `raw`: of v4 the object, of v1 its fields and its time.
        self._entry_tree: Tree = {b"object": self._tree, b"data": self._tree}
        self._hides_time = b"updated_at" in self._tree
        if self._hides_time:
            self._entry_tree = {**self._entry_tree, b"timestamp": self._tree[b"updated_at"]}

    def applied_to(self, entry: Entry) -> Entry:
        received = bytes(entry.object)
        treated = self._treated(received, self._tree)
        raw = None if entry.raw is None else Raw(self._treated(bytes(entry.raw), self._entry_tree))
        if treated is received and raw is None:
            return entry
        updated_at = None if self._hides_time else entry.updated_at
        return msgspec.structs.replace(entry, object=Raw(treated), raw=raw, updated_at=updated_at)

    def _treated(self, text: bytes, tree: Tree) -> bytes:
        """`text` itself when nothing in it is to be treated."""
        if b"\\" not in text and not any(name in text for name in tree):
            return text  # most objects lack what was never filled in; an escape may spell any name
        edits = sorted(self._edits(text, tree))
        if not edits:
            return text
        parts: list[bytes] = []
        done = 0
        for edit in edits:
            parts += text[done : edit.begin], edit.instead
            done = edit.end
        return b"".join([*parts, text[done:]])

    def _edits(self, text: bytes, tree: Tree) -> Iterator[_Edit]:
        # A stack and no recursion: arrays may be nested as deep as the page's decoder lets them.
        containers: list[tuple[int, Tree]] = [(0, tree)]
        while containers:
            at, names = containers.pop()
            if text[at : at + 1] == b"[":
                containers += [(begin, names) for begin in _elements(text, at) if text[begin] in _OPENING]
                continue
            members = _members(text, at)
            kept = False  # a member before this one
            for index, member in enumerate(members):
                rule = names.get(member.name)
                if rule is Action.DROP:
                    # With the comma before it, or the one behind it when none that is kept stands before.
                    more = index + 1 < len(members)
                    begin = members[index - 1].end if kept else member.begin
                    end = members[index + 1].begin if more and not kept else member.end
                    yield _Edit(begin, end, b"")
                    continue
                kept = True
                if rule is Action.HASH:
                    value = text[member.value : member.end]
                    if value != _NULL:
                        yield _Edit(member.value, member.end, self._hash(value))
                elif rule is not None and text[member.value] in _OPENING:
                    containers.append((member.value, rule))

    def _hash(self, value: bytes) -> bytes:
        """Of the JSON text in one spelling: without white space, and with no more escapes than must be."""
        spelled = _PIECES.sub(_respelled, value)
        return b'"%b"' % hmac.digest(self._secret, spelled, hashlib.sha256).hex().encode()


class _Edit(NamedTuple):
    begin: int
    end: int
    instead: bytes


class _Member(NamedTuple):
    begin: int  # of its name
    name: bytes  # what it means, UTF-8
    value: int
    end: int


def _tree_of(paths: FieldPaths) -> Tree:
    tree: dict[bytes, object] = {}
    for action, chosen in ((Action.DROP, paths.drop), (Action.HASH, paths.hash)):
        for path in chosen:
            *outer, last = path.encode().split(b".")
            node = tree
            for name in outer:
                node = node.setdefault(name, {})  # type: ignore[assignment]
            node[last] = action
    return tree  # type: ignore[return-value]


def _members(text: bytes, at: int) -> list[_Member]:
    """Those of the object whose brace stands at `at`."""
    whole = at == 0  # nothing may follow it
    members: list[_Member] = []
    at += 1
    while found := _MEMBER.match(text, at):
        begin, value = found.start("name"), found.start("value")
        at = found.end() if text[value] not in _OPENING else _end_of(text, value)
        members.append(_Member(begin, _meaning(found["name"]), value, at))
    _require(text, at, b"}", whole=whole)
    return members


def _elements(text: bytes, at: int) -> list[int]:
    """Where those of the array begin whose bracket stands at `at`."""
    begins: list[int] = []
    at += 1
    while found := _ELEMENT.match(text, at):
        value = found.start("value")
        at = found.end() if text[value] not in _OPENING else _end_of(text, value)
        begins.append(value)
    _require(text, at, b"]")
    return begins


def _end_of(text: bytes, at: int) -> int:
    """Behind the bracket that closes the one at `at`."""
    depth = 0
    for found in _BRACKETS.finditer(text, at):
        if found["open"]:
            depth += 1
        elif found["close"]:
            depth -= 1
            if depth == 0:
                return found.end()
    raise ValueError("a bracket of a JSON value is never closed")  # a defect; without the text


def _require(text: bytes, at: int, bracket: bytes, *, whole: bool = False) -> None:
    closing = _CLOSING.match(text, at)
    if closing is None or closing["bracket"] != bracket or (whole and closing.end() != len(text)):
        raise ValueError("a JSON value could not be followed to its end")  # a defect; without the text


def _meaning(name: bytes) -> bytes:
    return _decode_text(name).encode() if b"\\" in name else name[1:-1]


def _respelled(piece: re.Match[bytes]) -> bytes:
    text = piece.group()
    if text[:1] != b'"':
        return b""
    return _encode(_decode_text(text)) if b"\\" in text else text
