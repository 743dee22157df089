"""What arrived, held against what the source has: no figure is published for a run that lost or doubled anything."""

from __future__ import annotations

from array import array
from collections.abc import AsyncIterable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import msgspec


class _Numbered(msgspec.Struct):
    sequence: int | str | None = None  # a CloudEvent has text, padded with zeros; an entry asked for plainly, a number
    sequence_id: str | None = None  # an entry as the bridge asks for it


_numbered = msgspec.json.Decoder(_Numbered)


def sequences_of(payloads: Iterable[bytes]) -> list[int]:
    decode = _numbered.decode
    numbered = [decode(payload) for payload in payloads]
    return [int(one.sequence_id if one.sequence is None else one.sequence) for one in numbered]  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True)
class Arrived:
    expected: int
    found: int
    missing: int
    duplicates: int
    foreign: int  # sequences that the source does not have
    backwards: int  # steps back between neighbours

    @property
    def complete(self) -> bool:
        return not (self.missing or self.foreign)

    @property
    def exactly_once(self) -> bool:
        return self.complete and not (self.duplicates or self.backwards)

    def __str__(self) -> str:
        if self.exactly_once:
            return "each once, in order"
        parts = {"missing": self.missing, "duplicates": self.duplicates, "foreign": self.foreign}
        parts["steps back"] = self.backwards
        return ", ".join(f"{count:,} {what}" for what, count in parts.items() if count)


async def compare(expected: Sequence[int], stored: AsyncIterable[list[int]]) -> Arrived:
    """`stored` is what a reader found, in the destination's own order."""
    found = array("q")
    async for part in stored:
        found.extend(part)
    wanted, present = set(expected), set(found)
    return Arrived(
        expected=len(expected),
        found=len(found),
        missing=len(wanted - present),
        duplicates=len(found) - len(present),
        foreign=len(present - wanted),
        backwards=sum(later < earlier for earlier, later in pairwise(found)),
    )
