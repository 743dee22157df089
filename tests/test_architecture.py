"""Imports point one way: values <- codec, source, contracts <- pipeline <- supervisor <- config <- the rim.

A module that stands in no row of `MAY_IMPORT` belongs to the rim (command line, admin pages, what puts the parts
together): it may import everything, and nothing within may import it.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
BRIDGE, SINKS = ROOT / "bridge" / "oplogbridge", ROOT / "sinks" / "oplogbridge_sinks"

WORDS = {"values", "errors", "clock", "backoff", "templates", "nearest", "durations", "identity"}
CONTRACTS = WORDS | {"sink", "state"}
REDIS = {"redis_nodes"}  # what a Redis URL means and how its server is found: the same for the store and for sinks
READING = WORDS | {"lease", "state", "status"}
KEEPING = {
    "beliefs",
    "by_key",
    "choice",
    "closing",
    "codec",
    "dead_letters",
    "handoff",
    "lanes",
    "lease",
    "offsets",
    "refusals",
}
DELIVERING = CONTRACTS | KEEPING | {"attachments", "source", "spec", "status"}

MAY_IMPORT: dict[str, set[str]] = {
    **dict.fromkeys(WORDS, WORDS),
    "sink": WORDS,
    "redis_nodes": WORDS,
    "state": WORDS | REDIS,
    "status": WORDS,
    "codec": WORDS,
    "lease": WORDS | {"state"},
    "choice": WORDS | {"state"},
    "source": READING,
    "handoff": WORDS | {"codec", "sink"},
    "lanes": WORDS | {"closing"},
    "by_key": CONTRACTS | {"closing", "handoff", "lanes", "lease", "status"},
    "dead_letters": WORDS | {"codec", "lease", "sink"},
    "closing": set(),
    "garbage": set(),
    "attachments": READING | {"closing", "codec", "source"},
    "wishes": WORDS | {"state"},
    "watch": WORDS | {"lease", "state", "wishes"},
    "letters": CONTRACTS,
    "log_watch": READING | {"source"},
    "told_pages": READING | {"source", "wishes"},
    "model_pages": READING | {"source", "wishes"},
    "reconcile": WORDS | {"sink"},
    "snapshot_pages": READING | {"reconcile", "sink", "source", "wishes"},
    "interlude": DELIVERING
    | {"garbage", "letters", "model_pages", "pipeline", "snapshot_pages", "told_pages", "wishes"},
    "replay_pages": READING | {"source", "wishes"},
    "spec": CONTRACTS | {"attachments", "codec", "source", "wishes"},
    "offsets": CONTRACTS | {"choice", "dead_letters", "lease", "spec"},
    "beliefs": CONTRACTS | {"lease", "spec"},
    "refusals": CONTRACTS | {"dead_letters", "lease", "spec", "status"},
    "delivery": DELIVERING,
    "pipeline": DELIVERING | {"delivery", "garbage"},
    "tenure": DELIVERING | {"interlude", "log_watch", "model_pages", "pipeline", "replay_pages", "watch", "wishes"},
    "supervisor": DELIVERING | {"garbage", "tenure", "wishes"},
    "plugins": WORDS | {"sink"},
    "verify": WORDS | {"sink"},
    "config": DELIVERING | REDIS | {"pipeline", "supervisor", "plugins"},
    "emulator": WORDS,
    "testing": CONTRACTS | {"emulator"},  # for those who test against it
}
SINKS_MAY_IMPORT = WORDS | REDIS | {"sink", ""}  # "" is the package itself: what a sink's author needs is there

# Decide in pure code, act at the rim.
PURE = [
    "backoff.py",
    "choice.py",
    "errors.py",
    "identity.py",
    "templates.py",
    "values.py",
    "attachments/references.py",
    "codec/binary.py",
    "codec/dead_letters.py",
    "codec/encode.py",
    "codec/fields.py",
    "codec/payloads.py",
    "codec/subjects.py",
    "redis_nodes/address.py",
    "source/cache.py",
    "source/decode.py",
    "source/late.py",
    "source/one_by_one.py",
    "source/order.py",
    "source/rounded.py",
    "source/settle.py",
    "source/turns.py",
    "source/sequences.py",
    "source/wire_v1.py",
    "source/wire_v4.py",
    "verify/comparison.py",
    "verify/findings.py",
    "verify/order.py",
]
IMPURE_MODULES = {
    "asyncio",
    "time",
    "structlog",
    "logging",
    "aiohttp",
    "socket",
    "random",
    "os",
    "pathlib",
    "threading",
}


def imports_of(path: Path) -> Iterator[str]:
    """Every module that a file imports, wherever in it the import stands."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name}: relative imports hide where an arrow points"
            if node.module in ("oplogbridge", "oplogbridge_sinks"):
                yield from (f"{node.module}.{alias.name}" for alias in node.names)
            else:
                yield node.module or ""


def group_of(module: str) -> str:
    """`oplogbridge.source.reader` belongs to `source`; the package itself to ""."""
    parts = module.split(".")
    if len(parts) == 1 or parts[1][0].isupper() or parts[1].startswith("__"):
        return ""
    return parts[1]


def files_of(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*.py") if "__pycache__" not in path.parts)


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


def group_of_file(path: Path) -> str:
    return path.relative_to(BRIDGE).parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", [one for one in files_of(BRIDGE) if group_of_file(one) in MAY_IMPORT], ids=named)
def test_a_module_of_the_core_imports_only_what_lies_below_it(path: Path) -> None:
    group = group_of_file(path)
    imported = {group_of(module) for module in imports_of(path) if module.split(".")[0] == "oplogbridge"}

    wrong = imported - MAY_IMPORT[group] - {group}
    assert not wrong, f"{group} must not import {sorted(wrong)}"


@pytest.mark.parametrize("path", files_of(BRIDGE), ids=named)
def test_the_core_imports_no_sink(path: Path) -> None:
    assert not [module for module in imports_of(path) if module.split(".")[0] == "oplogbridge_sinks"]


@pytest.mark.parametrize("path", files_of(SINKS), ids=named)
def test_a_sink_imports_the_contract_of_the_core_and_nothing_of_other_sinks(path: Path) -> None:
    kind = path.relative_to(SINKS).parts[0].removesuffix(".py")
    imported = list(imports_of(path))
    core = {group_of(module) for module in imported if module.split(".")[0] == "oplogbridge"}
    sinks = {group_of(module) for module in imported if module.split(".")[0] == "oplogbridge_sinks"}

    assert core <= SINKS_MAY_IMPORT, f"{kind} must not import {sorted(core - SINKS_MAY_IMPORT)}"
    assert sinks <= {kind, ""}, f"{kind} must not import {sorted(sinks - {kind})}"


@pytest.mark.parametrize("name", PURE)
def test_what_decides_neither_waits_nor_reads_a_clock_nor_logs(name: str) -> None:
    path = BRIDGE / name
    tree = ast.parse(path.read_text(encoding="utf-8"))

    assert not [node for node in ast.walk(tree) if isinstance(node, ast.AsyncFunctionDef | ast.Await)]
    assert {module.split(".")[0] for module in imports_of(path)} & IMPURE_MODULES == set()


def test_no_row_of_the_table_is_about_a_module_that_is_gone() -> None:
    assert set(MAY_IMPORT) <= {group_of_file(path) for path in files_of(BRIDGE)}


def test_the_arrows_make_no_circle() -> None:
    def below(group: str, *above: str) -> None:
        assert group not in above, f"a circle: {' -> '.join([*above, group])}"
        for other in MAY_IMPORT[group] - WORDS:
            below(other, *above, group)

    for group in MAY_IMPORT:
        below(group)
    assert MAY_IMPORT["values"] <= WORDS
