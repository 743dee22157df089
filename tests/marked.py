"""Parts of documents that are made from code: each stands between two marks."""

from __future__ import annotations


def filled(document: str, name: str, text: str) -> str:
    """The document with `text` between `<!-- NAME begins -->` and `<!-- NAME ends -->`."""
    begin, end = f"<!-- {name} begins -->", f"<!-- {name} ends -->"
    before, there, rest = document.partition(begin)
    _, also_there, after = rest.partition(end)
    assert there, f"the document has no {begin}"
    assert also_there, f"the document has no {end} behind it"
    return f"{before}{begin}\n{text}\n{end}{after}"
