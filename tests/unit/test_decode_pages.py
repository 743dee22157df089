"""What a page says: which entries, where to ask next, whether more follows, and which bodies are no page."""

from __future__ import annotations

import pytest

from oplogbridge.errors import Misconfigured
from oplogbridge.source.decode import PageDecoder, PageUnreadable
from oplogbridge.values import OFFSET_MAX, SEQUENCE_MAX
from pages import OBJECT, entry, numbers, page, strings


def sequences_of(body: bytes, offset: int = 0, **options: bool) -> list[int]:
    return [entry.sequence for entry in PageDecoder(**options).decode(body, offset).entries]


def test_string_ids_are_read_exactly_up_to_the_highest_sequence() -> None:
    wanted = [1, 2**53 + 1, 6112271540663877633, SEQUENCE_MAX]

    assert sequences_of(strings(*wanted)) == wanted


def test_integers_are_read_exactly_up_to_the_highest_sequence() -> None:
    wanted = [1, 2**53 + 1, 6112271540663877633, SEQUENCE_MAX]

    assert sequences_of(numbers(*wanted)) == wanted


def test_the_string_wins_where_a_rounded_number_stands_beside_it() -> None:
    both = b'{"sequence":6112271540663878000,' + entry("6112271540663877633")[1:]

    assert sequences_of(page(both, has_more=False)) == [6112271540663877633]


def test_the_next_offset_lies_behind_the_last_entry_whatever_the_source_says() -> None:
    body = page(entry("5"), entry("9"), has_more=True, next_request_start="400")

    assert PageDecoder().decode(body, 5).next_offset == 10


def test_the_offset_behind_the_highest_sequence_is_a_valid_one() -> None:
    assert PageDecoder().decode(strings(SEQUENCE_MAX), 1).next_offset == OFFSET_MAX


def test_has_more_decides_where_the_source_sends_it() -> None:
    decoder = PageDecoder()

    assert decoder.decode(strings(1, has_more=True), 0).more is True
    assert decoder.decode(strings(1, has_more=False), 0).more is False


def test_a_short_page_of_numbers_is_not_the_end_and_an_empty_one_is() -> None:
    decoder = PageDecoder()

    assert decoder.decode(numbers(1), 0).more is True
    assert decoder.decode(numbers(), 2).more is False


def test_an_empty_page_leaves_the_offset_where_it_is() -> None:
    assert PageDecoder().decode(strings(), 77).next_offset == 77


@pytest.mark.parametrize(("start", "expected"), [("90", 90), (90, 90), ("77", 77), ("3", 77), (None, 77)])
def test_an_empty_page_with_more_goes_on_at_next_request_start_and_never_back(start: object, expected: int) -> None:
    body = page(has_more=True, next_request_start=start)

    decoded = PageDecoder().decode(body, 77)

    assert (decoded.next_offset, decoded.more) == (expected, True)


def test_next_request_start_is_ignored_on_an_empty_page_without_more() -> None:
    body = page(has_more=False, next_request_start="900")

    assert PageDecoder().decode(body, 77).next_offset == 77


@pytest.mark.parametrize("start", ["soon", "1_000", " 90", "-1", str(OFFSET_MAX + 1), "9" * 5000, "９"])
def test_a_next_request_start_that_is_no_offset_is_not_guessed_at(start: str) -> None:
    with pytest.raises(PageUnreadable, match="next_request_start"):
        PageDecoder().decode(page(has_more=True, next_request_start=start), 77)


def test_a_page_whose_entries_all_lie_below_the_offset_goes_on_at_next_request_start() -> None:
    body = page(entry("1"), entry("2"), has_more=True, next_request_start="60")

    decoded = PageDecoder().decode(body, 50)

    assert (decoded.dropped, decoded.next_offset, decoded.entries) == (2, 60, [])


def test_the_hash_of_the_data_model_and_the_size_are_kept() -> None:
    body = strings(1)

    decoded = PageDecoder().decode(body, 0)

    assert (decoded.datamodel_hash, decoded.bytes_received) == ("d9cca7", len(body))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b'{"entries":null}',
        b'{"entries":{}}',
        b'{"entries":[]',
        b'{"entries":[1]',
        b"<html><body>Down for maintenance</body></html>",
        "<html>Wartung – bitte später</html>".encode("latin-1", "replace"),
        b'{"entries":[],"has_more":"yes"}',
        b"\xef\xbb\xbf" + b'{"entries":[]}',
        b'{"type":"INTERNAL_SERVER_ERROR","title":"Oops!"}',
    ],
)
def test_what_is_no_page_may_be_one_the_next_time(body: bytes) -> None:
    with pytest.raises(PageUnreadable):
        PageDecoder().decode(body, 0)


def test_a_page_cut_at_any_byte_is_unreadable_and_never_a_shorter_page() -> None:
    body = page(entry("1", object_='{"id":"7","type":"user","name":"Zoë 😀"}'.encode()), entry("2"), has_more=False)

    for end in range(len(body)):
        with pytest.raises(PageUnreadable):
            PageDecoder().decode(body[:end], 0)


def test_bytes_that_are_not_utf_8_stop_the_pipeline_and_say_where() -> None:
    body = page(entry("1", object_=b'{"id":"7","type":"user","name":"\xff"}'), has_more=False)

    with pytest.raises(Misconfigured, match=f"not UTF-8 \\(byte {body.index(0xFF)}\\)"):
        PageDecoder().decode(body, 0)


@pytest.mark.parametrize("opening", [b"[", b'{"a":'])
def test_a_nesting_bomb_stops_the_pipeline_and_not_the_process(opening: bytes) -> None:
    bomb = opening * 100_000 + b"1" + {b"[": b"]", b'{"a":': b"}"}[opening] * 100_000
    body = page(entry("1", object_=OBJECT[:-1] + b',"deep":' + bomb + b"}"), has_more=False)

    with pytest.raises(Misconfigured, match="nested too deeply"):
        PageDecoder().decode(body, 0)


def test_unknown_fields_of_the_page_pass() -> None:
    assert sequences_of(page(entry("1"), has_more=False, generated_at="now", shard={"n": 1})) == [1]
