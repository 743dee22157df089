"""The last pages: found by any offset within them, bounded in number, bytes and age."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from oplogbridge.source import cache
from oplogbridge.source.cache import PageCache
from oplogbridge.source.decode import PageDecoder
from oplogbridge.values import Page
from pages import entry, page, strings


def a_page(*sequences: int, offset: int | None = None) -> Page:
    return PageDecoder().decode(strings(*sequences), sequences[0] if offset is None else offset)


def test_a_page_is_found_by_its_offset_and_is_the_same_one() -> None:
    kept = PageCache()
    page = a_page(5, 7, offset=3)
    kept.add(page, 0.0)

    assert kept.find(3, 0.0) is page


def test_a_page_is_found_by_an_offset_within_it_and_cut() -> None:
    kept = PageCache()
    kept.add(a_page(5, 7, 9, offset=3), 0.0)

    for offset, sequences in ((4, [5, 7, 9]), (6, [7, 9]), (9, [9])):
        found = kept.find(offset, 0.0)
        assert found is not None
        assert ([one.sequence for one in found.entries], found.from_offset, found.next_offset) == (
            sequences,
            offset,
            10,
        )


def test_malformed_entries_are_cut_along() -> None:
    kept = PageCache()
    body = page(entry("5", object_=b"{}"), entry("7"), entry("9", object_=b"{}"), has_more=True)
    kept.add(PageDecoder().decode(body, 5), 0.0)

    found = kept.find(6, 0.0)

    assert found is not None
    assert [one.sequence for one in found.malformed] == [9]


def test_what_lies_outside_is_not_found() -> None:
    kept = PageCache()
    kept.add(a_page(5, 7), 0.0)

    assert [kept.find(offset, 0.0) for offset in (4, 8, 0)] == [None, None, None]


def test_a_page_without_entries_is_not_kept_for_it_says_only_what_was_true_then() -> None:
    kept = PageCache()
    kept.add(PageDecoder().decode(page(has_more=True, next_request_start="90"), 5), 0.0)

    assert kept.find(5, 0.0) is None


def test_the_newest_answer_wins() -> None:
    kept = PageCache()
    kept.add(a_page(5, 7), 0.0)
    kept.add(a_page(5, 6, 7), 1.0)

    found = kept.find(5, 1.0)

    assert found is not None
    assert [one.sequence for one in found.entries] == [5, 6, 7]


def test_a_page_is_forgotten_when_it_is_old() -> None:
    kept = PageCache()
    kept.add(a_page(5), 0.0)

    assert kept.find(5, cache.AGE_SECONDS_MAX) is not None
    assert kept.find(5, cache.AGE_SECONDS_MAX + 0.1) is None
    assert kept._bytes == 0


def test_one_page_larger_than_the_bound_is_kept_until_the_next_comes() -> None:
    kept = PageCache()
    large = PageDecoder().decode(page(entry("5", note="x" * (cache.BYTES_MAX + 1)), has_more=True), 5)
    kept.add(large, 0.0)
    assert kept.find(5, 0.0) is large

    kept.add(a_page(6), 0.0)

    assert kept.find(5, 0.0) is None


@given(st.lists(st.tuples(st.integers(1, 12 * 2**20), st.floats(0, 3)), max_size=60))
def test_the_cache_is_bounded_in_number_and_bytes(pages: list[tuple[int, float]]) -> None:
    kept, now = PageCache(), 0.0
    for index, (size, wait) in enumerate(pages):
        now += wait
        kept.add(Page(index, index + 1, a_page(index + 1).entries, [], True, None, size), now)

        assert len(kept._pages) <= cache.PAGES_MAX
        assert kept._bytes == sum(page.bytes_received for _, page in kept._pages)
        assert kept._bytes <= cache.BYTES_MAX or len(kept._pages) == 1
