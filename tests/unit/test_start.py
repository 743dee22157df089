"""What `start` means: `earliest`, `latest`, a sequence or a time becomes an offset, within the source's pace."""

from __future__ import annotations

import pytest

from oplogbridge.errors import Misconfigured
from oplogbridge.source.decode import PageDecoder
from oplogbridge.source.start import Start, resolve
from oplogbridge.values import OFFSET_EARLIEST, OFFSET_MAX, SEQUENCE_MAX, Page
from pages import entry, page, strings

NOON = 1_423_124_117  # 2015-02-05T08:15:17Z


class Log:
    """Answers as a reader would, from fixed pages, and remembers what it was asked."""

    def __init__(self, tail: bytes, page_: bytes = strings()) -> None:
        self._tail, self._page = tail, page_
        self.asked: list[int | str] = []

    async def page(self, offset: int) -> Page:
        self.asked.append(offset)
        return PageDecoder().decode(self._page, offset)

    async def tail(self) -> Page:
        self.asked.append("tail")
        return PageDecoder().decode(self._tail, 0)


def written(sequence: int, at: str) -> bytes:
    return entry(str(sequence), object_=b'{"id":"7","type":"user","updated_at":"%b"}' % at.encode())


async def test_earliest_and_a_sequence_ask_nobody() -> None:
    log = Log(strings(5))

    assert await resolve(Start("earliest"), log) == OFFSET_EARLIEST
    assert await resolve(Start("sequence", 4711), log) == 4711
    assert log.asked == []


@pytest.mark.parametrize(
    ("tail", "offset"),
    [
        (strings(5, 7), 8),
        (strings(9, 8, 7), 10),
        (strings(), OFFSET_EARLIEST),
        (strings(SEQUENCE_MAX), OFFSET_MAX),
        (page(entry("5"), entry("9", object_=b"{}"), has_more=False), 10),
    ],
)
async def test_latest_lies_behind_the_newest_entry_whatever_the_order_of_the_tail(tail: bytes, offset: int) -> None:
    assert await resolve(Start("latest"), Log(tail)) == offset


async def test_a_time_is_the_second_in_the_upper_half_of_the_sequence() -> None:
    second = NOON << 32
    log = Log(page(written(second - 9, "2015-02-05T08:15:16Z"), written(second + 1, "2015-02-05T08:15:17Z")))

    assert await resolve(Start("time", NOON), log) == second
    assert log.asked == ["tail", second]


async def test_two_clocks_may_differ_by_a_moment() -> None:
    log = Log(page(written((NOON << 32) + 1, "2015-02-05T08:15:15Z")))

    assert await resolve(Start("time", NOON), log) == NOON << 32


@pytest.mark.parametrize(
    ("sequence", "at"),
    [((NOON << 32) + 1, "2015-02-05T08:15:00Z"), (4711, "2015-02-05T09:00:00Z")],
)
@pytest.mark.parametrize("where", ["tail", "page"])
async def test_sequences_that_do_not_follow_time_are_no_way_to_find_one(sequence: int, at: str, where: str) -> None:
    if where == "page" and sequence == 4711:
        return  # an entry below the offset is not on the page that begins there
    seen = page(written(sequence, at), has_more=False)
    log = Log(seen if where == "tail" else strings(), seen if where == "page" else strings())

    with pytest.raises(Misconfigured, match="do not follow time"):
        await resolve(Start("time", NOON), log)


async def test_entries_without_a_time_say_nothing() -> None:
    log = Log(page(written(4711, "soon"), has_more=False))

    assert await resolve(Start("time", NOON), log) == NOON << 32


async def test_a_time_beyond_all_sequences_is_the_highest_offset() -> None:
    assert await resolve(Start("time", 2**40), Log(strings())) == OFFSET_MAX
