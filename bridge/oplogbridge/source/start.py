"""Where a pipeline without an offset begins: `earliest`, `latest`, a sequence or a time becomes an offset, once."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal, Protocol, TypeVar

from oplogbridge.errors import Misconfigured
from oplogbridge.values import OFFSET_EARLIEST, OFFSET_MAX, Page

T = TypeVar("T")
CLOCK_SLIP_SECONDS = 2  # a sequence's second and `updated_at` come from two clocks at the vendor


@dataclass(frozen=True, slots=True)
class Start:
    """`value` is the sequence, or whole unix seconds for a time; None for the others."""

    kind: Literal["earliest", "latest", "sequence", "time", "snapshot"]
    value: int | None = None


class Pages(Protocol):
    async def page(self, offset: int) -> Page: ...

    async def tail(self) -> Page: ...

    async def ask(self, question: Callable[[Any], Awaitable[T]]) -> T: ...


async def resolve(start: Start, pages: Pages) -> int:
    """The offset that `start` means now, within the source's pace.

    Raises:
        Misconfigured: A time was asked for and the source's sequences do not follow time. Or `snapshot`, which was
            taken before anything else (`tenure`), and nothing is known of it any more.
    """
    if start.kind == "snapshot":
        raise Misconfigured(
            "its `start` is a snapshot, and where that came to is not known any more: take it again with "
            "`oplog-bridge snapshot`"
        )
    if start.kind == "earliest":
        return OFFSET_EARLIEST
    if start.kind == "latest":
        return _end_of(await pages.tail())
    assert start.value is not None, "sequence and time carry a value"
    if start.kind == "sequence":
        return start.value
    offset = min(start.value << 32, OFFSET_MAX)  # sequences are unix_seconds << 32 | counter (inferred, so checked)
    _check_time(start.value, offset, await pages.tail(), await pages.page(offset))
    return offset


def _end_of(tail: Page) -> int:
    return tail.next_offset if tail.entries or tail.malformed else OFFSET_EARLIEST


def _check_time(seconds: int, offset: int, tail: Page, page: Page) -> None:
    """An entry at or above the offset that is older than the time refutes the rule, and so does a younger one below."""
    for entry in (*tail.entries, *page.entries[:1]):
        written = unix_seconds(entry.updated_at)
        if written is None:
            continue
        too_old = entry.sequence >= offset and written < seconds - CLOCK_SLIP_SECONDS
        too_young = entry.sequence < offset and written > seconds + CLOCK_SLIP_SECONDS
        if too_old or too_young:
            raise Misconfigured(
                f"the source's sequences do not follow time (sequence {entry.sequence} was written at "
                f"{entry.updated_at}): start from a sequence instead"
            )


def unix_seconds(text: str | None) -> float | None:
    if text is None:
        return None
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        return None
    return (when if when.tzinfo is not None else when.replace(tzinfo=UTC)).timestamp()
