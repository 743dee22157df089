"""Every exception class of a client library is in the document's table, under what becomes of it."""

from __future__ import annotations

from exception_table import DOCUMENT, TABLES, written


def test_the_table_is_what_the_code_does() -> None:
    """After a change, or with a library that has new classes: look at what becomes of them, then `make docs`."""
    document = DOCUMENT.read_text()

    assert written(document) == document


def test_every_library_is_looked_at_and_has_classes() -> None:
    assert {title: sum(1 for _ in pairs()) > 3 for title, pairs in TABLES.items()} == dict.fromkeys(TABLES, True)
