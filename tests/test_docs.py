"""What the documents say of the tree is so."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
CORE = ROOT / "bridge" / "oplogbridge"
UNMAPPED = {"__init__.py", "__main__.py", "py.typed", "__pycache__"}  # what every package has

_FENCED = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_TEST = re.compile(r"\btests/[\w/.-]*\w")


def test_the_file_map_names_every_module_of_the_core_and_nothing_that_is_not_there() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text()
    mapped = re.findall(r"^\| `(bridge/oplogbridge/[^`]+|sinks/[^`]+)` \|", text, re.MULTILINE)
    there = {f"{path.name}{'/' if path.is_dir() else ''}" for path in CORE.iterdir() if path.name not in UNMAPPED}

    assert [name for name in mapped if not (ROOT / name).exists()] == []
    assert {name.removeprefix("bridge/oplogbridge/") for name in mapped if name.startswith("bridge/")} == there
    assert len(mapped) == len(set(mapped))


def test_the_map_of_sinks_names_every_sink() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text()
    (named,) = re.findall(r"^\| `sinks/oplogbridge_sinks/` \| (.+) \|", text, re.MULTILINE)
    there = {path.stem for path in (ROOT / "sinks" / "oplogbridge_sinks").iterdir() if path.name not in UNMAPPED}

    assert set(named.split(", ")) == there


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_relative_link_leads_to_a_file(document: Path) -> None:
    broken = [
        link
        for link in _links(document)
        if not (document.parent / link.partition("#")[0]).exists() or _left_the_tree(document, link)
    ]

    assert broken == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_test_that_a_document_names_exists(document: Path) -> None:
    named = {name for name in _TEST.findall(document.read_text()) if "NAME" not in name and not name.endswith("_")}

    assert {name for name in named if not (ROOT / name).exists()} == set()


def test_every_decision_has_a_number_of_its_own_and_says_it_in_its_name() -> None:
    decisions = [path.name for path in (ROOT / "docs" / "adr").iterdir()]
    numbers = Counter(re.match(r"(\d{4})-[a-z0-9-]+\.md$", name)[1] for name in decisions)  # type: ignore[index]

    assert sorted(numbers) == [f"{number:04}" for number in range(1, len(decisions) + 1)]
    assert set(numbers.values()) == {1}


def _links(document: Path) -> Iterator[str]:
    for link in _LINK.findall(_FENCED.sub("", document.read_text())):
        if not re.match(r"[a-z]+:|#", link):
            yield link


def _left_the_tree(document: Path, link: str) -> bool:
    return not (document.parent / link.partition("#")[0]).resolve().is_relative_to(ROOT)
