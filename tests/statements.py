"""Which test shows which statement of the vendor's pages: collected from `@states`, listed in docs/emulator.md.

`python tests/statements.py` (`make docs`) writes the table; a test holds the document to it.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from marked import filled

DOCUMENT = Path(__file__).parent.parent / "docs" / "emulator.md"
PAGES = ("introduction", "oplog v4", "oplog v1", "updating to v4")
F = TypeVar("F", bound=Callable[..., object])


def states(page: str, statement: str) -> Callable[[F], F]:
    """This test shows that the emulator does as `page` says."""
    assert page in PAGES, page
    return lambda test: test


def collected() -> Iterator[tuple[str, str, str]]:
    """(page, statement, where), in the order of the pages, then of the tests."""
    found = []
    for file in sorted(Path(__file__).parent.glob("*/test_*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            for decorator in node.decorator_list:
                if isinstance(decorator, ast.Call) and getattr(decorator.func, "id", "") == "states":
                    page, statement = (ast.literal_eval(argument) for argument in decorator.args)
                    found.append((PAGES.index(page), node.lineno, page, statement, f"{file.parent.name}/{file.name}"))
    for _, _, page, statement, where in sorted(found):
        yield page, statement, where


def table() -> str:
    rows = [f"| {page} | {statement} | [{where}](../tests/{where}) |" for page, statement, where in collected()]
    return "\n".join(["| page | it says | shown in |", "|---|---|---|", *rows])


if __name__ == "__main__":
    DOCUMENT.write_text(filled(DOCUMENT.read_text(), "the statements", table()))
