"""The ordered log behind the emulator: rows of (sequence, body), read by range, and its implementation in memory.

A *body* is the entry's JSON without its number, already encoded: everything that follows the sequence member, such as
`"operation":"update","events":[],"object":{…}}`. A page is then a join of prepared bytes, in either way of writing the
number. A body that begins with `{` is a *literal*: an entry whose own text is served as it stands, however broken.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import msgspec

from oplogbridge.emulator.sequences import iso_second, second_of
from oplogbridge.values import OFFSET_MAX, SEQUENCE_MAX

if TYPE_CHECKING:
    from oplogbridge.emulator.attachments import Attachment


class Stamped(NamedTuple):
    """A body around its `updated_at`, which is the second of the sequence. Millions of rows may share one."""

    before: bytes
    after: bytes

    def at(self, sequence: int) -> bytes:
        return self.before + iso_second(second_of(sequence)) + self.after


class Written(NamedTuple):
    """An entry that was written through the objects API: what was kept, and how the model of that day shows it."""

    operation: str
    type: str
    id: str
    updated_at: str  # empty: it shows none
    state: bytes
    datamodel_hash: str  # of the model by which `body` is shown; empty: it is shown anew each time
    body: bytes


class Kept(msgspec.Struct):
    """An object: its fields as they are kept."""

    type: str
    id: str
    updated_at: str
    state: dict[str, Any]


class Beside(NamedTuple):
    """What changes in the same transaction as the log."""

    kept: Sequence[Kept] = ()
    gone: Sequence[tuple[str, str]] = ()  # type, id
    attachments: Sequence[Attachment] = ()


NOTHING_BESIDE = Beside()
Body = bytes | Stamped | Written
Row = tuple[int, bytes]


class Log(Protocol):
    version: int
    """Grows whenever something that could already be read has changed; an append at the end changes nothing read."""

    datamodel_hash: str

    def show_by(self, datamodel_hash: str, show: Callable[[Written], bytes]) -> None:
        """How entries are shown that were written through the objects API under another data model."""

    def objects(self) -> Iterable[Kept]:
        """What is kept from an earlier run."""

    def attachments(self) -> Iterable[Attachment]:
        """What is kept from an earlier run."""

    def append(self, sequences: Sequence[int], bodies: Sequence[Body], beside: Beside = NOTHING_BESIDE) -> None:
        """Add rows. Any order is taken: a sequence below the newest is an entry that was committed late.

        Raises ValueError for a sequence that is there already or lies outside 0 < n < 2^63.
        """

    def read(self, start: int, end: int, limit: int) -> list[Row]:
        """The first `limit` rows with start <= sequence < end, ascending."""

    def tail(self, start: int, end: int, limit: int) -> list[Row]:
        """The last `limit` rows with start <= sequence < end, ascending."""

    def cut_before(self, sequence: int) -> None:
        """Retention: the rows below `sequence` are gone."""

    def cut_from(self, sequence: int) -> None:
        """Rewind: the rows at and above `sequence` are gone."""

    @property
    def oldest(self) -> int:
        """0 when the log is empty."""

    @property
    def newest(self) -> int:
        """0 when the log is empty."""

    def __len__(self) -> int: ...

    def close(self) -> None: ...


class MemoryLog:
    """Two parallel columns: 16 bytes a row besides the body, and a body may be shared by many rows."""

    def __init__(self) -> None:
        self._sequences = array("q")
        self._bodies: list[Body] = []
        self.version = 0
        self.datamodel_hash = ""
        self._show: Callable[[Written], bytes] = _as_it_was

    def show_by(self, datamodel_hash: str, show: Callable[[Written], bytes]) -> None:
        self.datamodel_hash, self._show = datamodel_hash, show

    def objects(self) -> Iterable[Kept]:
        return ()

    def attachments(self) -> Iterable[Attachment]:
        return ()

    def append(self, sequences: Sequence[int], bodies: Sequence[Body], beside: Beside = NOTHING_BESIDE) -> None:
        check_sequences(sequences)
        if not sequences:
            return
        if sequences[0] > self.newest and all(left < right for left, right in pairwise(sequences)):
            self._sequences.extend(sequences)
            self._bodies.extend(bodies)
            return
        taken = [sequence for sequence in sequences if self._holds(sequence)]
        if taken or len(set(sequences)) < len(sequences):
            raise ValueError(f"the log already holds sequence {taken[0] if taken else 'given twice'}")
        self.version += 1
        for sequence, body in zip(sequences, bodies, strict=True):
            index = bisect_left(self._sequences, sequence)
            self._sequences.insert(index, sequence)
            self._bodies.insert(index, body)

    def read(self, start: int, end: int, limit: int) -> list[Row]:
        first, last = self._bounds(start, end)
        return self._rows(first, min(last, first + limit))

    def tail(self, start: int, end: int, limit: int) -> list[Row]:
        first, last = self._bounds(start, end)
        return self._rows(max(first, last - limit), last)

    def cut_before(self, sequence: int) -> None:
        self._delete(0, bisect_left(self._sequences, min(sequence, OFFSET_MAX)))

    def cut_from(self, sequence: int) -> None:
        self._delete(bisect_left(self._sequences, sequence), len(self._sequences))

    @property
    def oldest(self) -> int:
        return self._sequences[0] if self._sequences else 0

    @property
    def newest(self) -> int:
        return self._sequences[-1] if self._sequences else 0

    def __len__(self) -> int:
        return len(self._sequences)

    def close(self) -> None:
        """Nothing is held but memory."""

    def _holds(self, sequence: int) -> bool:
        index = bisect_left(self._sequences, sequence)
        return index < len(self._sequences) and self._sequences[index] == sequence

    def _bounds(self, start: int, end: int) -> tuple[int, int]:
        return bisect_left(self._sequences, start), bisect_left(self._sequences, end)

    def _rows(self, first: int, last: int) -> list[Row]:
        return [
            (sequence, body if isinstance(body, bytes) else self._shown(sequence, body))
            for sequence, body in zip(self._sequences[first:last], self._bodies[first:last], strict=True)
        ]

    def _shown(self, sequence: int, body: Stamped | Written) -> bytes:
        if isinstance(body, Stamped):
            return body.at(sequence)
        return body.body if body.datamodel_hash == self.datamodel_hash else self._show(body)

    def _delete(self, first: int, last: int) -> None:
        if first < last:
            self.version += 1
            del self._sequences[first:last]
            del self._bodies[first:last]


def _as_it_was(written: Written) -> bytes:
    return written.body


def check_sequences(sequences: Sequence[int]) -> None:
    for sequence in (min(sequences, default=1), max(sequences, default=1)):
        if not 0 < sequence <= SEQUENCE_MAX:
            raise ValueError(f"sequence {sequence} is outside 0 < n < 2^63")
