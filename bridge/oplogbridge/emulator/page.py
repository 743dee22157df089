"""From a request's parameters to a page's bytes. Pure: no clock, no network, no log."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from oplogbridge.emulator.datamodel import DataModel
from oplogbridge.emulator.log import Log, Row
from oplogbridge.emulator.page_v1 import render_v1
from oplogbridge.emulator.sequences import float_rounded
from oplogbridge.emulator.switches import Switches
from oplogbridge.values import OFFSET_MAX

PREPARED_BYTES_MAX = 128 * 1024 * 1024


class BadParameter(Exception):
    """Answered as 400 INVALID_API_REQUEST; the message is the error's `detail`."""


@dataclass(frozen=True, slots=True)
class Query:
    start: int
    end: int
    limit: int
    tail: bool
    sequence_ids: bool
    api: Literal["v4", "v1"] = "v4"


@dataclass(frozen=True, slots=True)
class Answer:
    """The rows of a page in the order in which they are shown, and what the page says about what follows."""

    rows: Sequence[Row]
    more: bool
    next_start: int


def parse_query(parameters: Mapping[str, str], switches: Switches, api: Literal["v4", "v1"] = "v4") -> Query:
    """Unknown parameters are ignored (v1 knows neither `tail` nor `sequence_ids`); an empty value counts as absent, as
    the vendor's own client relies on."""
    if api == "v1":
        parameters = {name: parameters[name] for name in ("start", "end", "limit") if name in parameters}
    start = _number(parameters, "start", default=0, least=0, most=OFFSET_MAX)
    end = _number(parameters, "end", default=OFFSET_MAX, least=0, most=OFFSET_MAX)
    if start > end:
        raise BadParameter(f"'start' ({start}) is greater than 'end' ({end}).")
    tail = _flag(parameters, "tail")
    default = switches.tail_default if tail else switches.limit_default
    limit = _number(parameters, "limit", default=min(default, switches.limit_max), least=1, most=None)
    if limit > switches.limit_max:
        if switches.limit_above_max == "reject":
            raise BadParameter(f"'limit' must not be greater than {switches.limit_max}.")
        limit = switches.limit_max
    sequence_ids = _flag(parameters, "sequence_ids") and switches.sequence_ids == "honoured"
    return Query(start, end, limit, tail, sequence_ids, api)


def read_answer(log: Log, query: Query, switches: Switches, *, hidden: frozenset[int] = frozenset()) -> Answer:
    """`hidden` sequences are in the log but not shown: a source that commits them later than higher ones."""
    if query.tail:
        rows = [row for row in log.tail(query.start, query.end, query.limit + len(hidden)) if row[0] not in hidden]
        rows = rows[-query.limit :]
        next_start = rows[-1][0] + 1 if rows else query.start
        return Answer(rows[::-1] if switches.tail_order == "descending" else rows, more=False, next_start=next_start)
    rows = log.read(query.start, query.end, query.limit + 1 + len(hidden))  # one too many tells whether more follow
    if hidden:
        rows = [row for row in rows if row[0] not in hidden]
    shown = rows[: query.limit]
    return Answer(shown, more=len(rows) > query.limit, next_start=shown[-1][0] + 1 if shown else query.start)


def render(
    answer: Answer, query: Query, switches: Switches, datamodel_hash: str, datamodel: DataModel | None = None
) -> bytes:
    if query.api == "v1":
        return render_v1(answer.rows, switches, datamodel)
    parts = [b'{"entries":[', _entries(answer.rows, query, switches), b'],"datamodel_hash":"', datamodel_hash.encode()]
    if not query.sequence_ids:
        return b"".join([*parts, b'"}'])
    parts += [b'","has_more":', b"true" if answer.more else b"false"]
    if answer.rows or answer.more or switches.next_start_on_empty == "present":
        parts.append(b',"next_request_start":"%d"' % answer.next_start)
    return b"".join([*parts, b"}"])


def _entries(rows: Sequence[Row], query: Query, switches: Switches) -> bytes:
    if query.sequence_ids:
        if switches.sequence_beside_id:
            shown = [
                b'{"sequence_id":"%d","sequence":%d,%b' % (sequence, _printed(sequence, switches), body)
                for sequence, body in rows
            ]
        else:
            shown = [b'{"sequence_id":"%d",%b' % row for row in rows]
    elif switches.sequence_numbers == "rounded":
        shown = [b'{"sequence":%d,%b' % (float_rounded(sequence), body) for sequence, body in rows]
    else:
        shown = [b'{"sequence":%d,%b' % row for row in rows]
    for index, (_, body) in enumerate(rows):
        if body[0] == 0x7B:  # `{`: a literal, served as it stands
            shown[index] = body
    return b",".join(shown)


def _printed(sequence: int, switches: Switches) -> int:
    return float_rounded(sequence) if switches.sequence_numbers == "rounded" else sequence


def _number(parameters: Mapping[str, str], name: str, *, default: int, least: int, most: int | None) -> int:
    text = parameters.get(name, "")
    if text == "":
        return default
    if not (text.isascii() and text.isdigit()):
        raise BadParameter(f"'{name}' must be a non-negative integer.")
    number = int(text) if len(text) <= 40 else 10**40
    if number < least:
        raise BadParameter(f"'{name}' must be at least {least}.")
    if most is not None and number > most:
        raise BadParameter(f"'{name}' must be at most {most}.")
    return number


def _flag(parameters: Mapping[str, str], name: str) -> bool:
    text = parameters.get(name, "")
    if text not in ("", "true", "false"):
        raise BadParameter(f"'{name}' must be true or false.")
    return text == "true"


class PreparedPages:
    """Full pages that something follows never change: they are kept as the bytes that were sent, latest used last."""

    def __init__(self, bytes_max: int = PREPARED_BYTES_MAX) -> None:
        self._bytes_max = bytes_max
        self._bytes = 0
        self._valid_for: Hashable = None
        self._pages: OrderedDict[Hashable, bytes] = OrderedDict()

    def get(self, key: Hashable, *, valid_for: Hashable) -> bytes | None:
        """`valid_for` names everything else that the bytes depend on; when it changes all pages are dropped."""
        if valid_for != self._valid_for:
            self._pages.clear()
            self._bytes = 0
            self._valid_for = valid_for
        body = self._pages.get(key)
        if body is not None:
            self._pages.move_to_end(key)
        return body

    def keep(self, key: Hashable, body: bytes) -> None:
        """Under the `valid_for` of the last `get`."""
        self._bytes += len(body) - len(self._pages.pop(key, b""))
        self._pages[key] = body
        while self._bytes > self._bytes_max:
            self._bytes -= len(self._pages.popitem(last=False)[1])
