from __future__ import annotations

from collections import Counter

from marked import filled
from statements import DOCUMENT, PAGES, collected, table


def test_the_table_of_the_vendors_statements_is_that_of_the_tests() -> None:
    text = DOCUMENT.read_text()

    assert filled(text, "the statements", table()) == text, "`make docs` writes it again"


def test_each_page_has_statements_and_no_statement_is_there_twice() -> None:
    found = list(collected())

    assert {page for page, _, _ in found} == set(PAGES)
    assert [one for one, count in Counter((page, said) for page, said, _ in found).items() if count > 1] == []
