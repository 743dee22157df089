"""From runs to tables, and into a file under benchmarks/results/."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import machine
from fleet import Idle
from latency import Latency
from measure import Run, middle
from peers import PEER
from soak import Growth

_ROWS = (
    # row, its client alone, what it is called
    ("kafka", "kafka client alone", "kafka"),
    ("kafka, one page a write", "kafka client alone, one page a write", "kafka, one page a transaction"),
    ("redis", "redis client alone", "redis"),
    ("nats", "nats client alone", "nats, atomic batches"),
    ("file", "file client alone", "file"),
    ("webhook", "webhook client alone", "webhook, one by one"),
    ("webhook, by key", "webhook, by key client alone", "webhook, `ordering: key`, 100 at once"),
    ("webhook, batches of 100", "webhook, batches of 100 client alone", "webhook, batches of 100"),
    ("kafka, plain", "kafka client alone", "kafka, `format: raw`, uncompressed"),
    ("kafka by a peer", "kafka client alone", f"{PEER} → kafka (at least once; raw, uncompressed)"),
    ("redis, plain", "redis client alone", "redis, `format: raw`"),
    ("redis by a peer", "redis client alone", f"{PEER} → redis (at least once; raw)"),
)


def all_delivered(runs: dict[str, list[Run]]) -> bool:
    return all(run.arrived.complete for of_one in runs.values() for run in of_one)


def tables(result: dict[str, Any]) -> str:
    parts = []
    if result["runs"]:
        parts.append(_behind(result["runs"], result["entries"], result["entry_bytes"]))
    if result.get("latencies"):
        parts.append(_live(result["latencies"]))
    if result.get("fleet"):
        parts.append(_idle(result["fleet"]))
    if "growth" in result:
        parts.append(_memory(result["growth"]))
    return "\n\n".join(parts)


def _behind(runs: dict[str, list[Run]], entries: int, entry_bytes: int) -> str:
    rows = []
    for name, alone, title in _ROWS:
        if name in runs:
            rows.append(_row(title, runs[name], runs.get(alone, [])))
    head = ["sink", "bridge entries/s", "client alone", "share", "CPU µs/entry", "server CPU µs/entry", "RSS MiB"]
    table = _table([*head, "arrived"], rows)
    spread = [
        f"- {name}: {', '.join(f'{run.entries_per_second:,.0f}' for run in of_one)}" for name, of_one in runs.items()
    ]
    rounds = max(map(len, runs.values()))
    title = f"{entries:,} entries of {entry_bytes} B behind, medians of {rounds} (A B A B …)"
    return f"{title}\n\n{table}\n\nEvery run, entries/s, in its order:\n\n" + "\n".join(spread)


def _row(title: str, runs: Sequence[Run], alone: Sequence[Run]) -> list[str]:
    every = [*runs]
    bad = next((run.arrived for run in every if not run.arrived.complete), None)
    if bad is not None:  # no speed is published for what did not arrive
        return [title, "–", "–", "–", "–", "–", "–", f"**{bad}**"]
    speed = middle(every, lambda run: run.entries_per_second)
    ceiling = middle([*alone], lambda run: run.entries_per_second) if alone else None
    worst = next((run.arrived for run in every if not run.arrived.exactly_once), every[0].arrived)
    return [
        title,
        f"{speed:,.0f}",
        "–" if ceiling is None else f"{ceiling:,.0f}",
        "–" if ceiling is None else f"{speed / ceiling:.0%}",
        f"{middle(every, lambda run: run.cpu_us_per_entry):.1f}",
        "–" if title == "file" else f"{middle(every, lambda run: run.server_cpu_us_per_entry):.1f}",
        f"{max(run.rss_bytes_max for run in every) / 2**20:.0f}",
        str(worst),
    ]


def _live(latencies: dict[str, Latency]) -> str:
    rows = [
        [kind, f"{one.p50:.1f}", f"{one.p99:.1f}", f"{one.longest:.1f}", f"{one.entries:,}", f"{one.pages:,}"]
        for kind, one in latencies.items()
    ]
    table = _table(["sink", "p50 ms", "p99 ms", "max ms", "entries", "pages"], rows)
    return f"Live tail: from the poll that fetched an entry to a consumer that has it\n\n{table}"


def _idle(fleet: Sequence[Idle]) -> str:
    rows = [
        [
            one.name,
            f"{one.core_percent:.0f} %",
            f"{one.rss_mib:.0f}",
            f"{one.polls_a_second:,.0f}",
            f"{one.shortest_seconds:.3f}",
            f"{one.started_seconds:.1f}",
            "–" if one.ended_seconds is None else f"{one.ended_seconds:.1f}",
        ]
        for one in fleet
    ]
    head = ["state store", "of one core", "RSS MiB", "polls/s", "shortest s between two", "all polled after s"]
    return f"{fleet[0].sources:,} idle sources in one process\n\n{_table([*head, 'drained in s'], rows)}"


def _memory(growth: Growth) -> str:
    rows = [[f"{done:,}", f"{mib:.1f}"] for done, mib in growth.shown]
    return (
        f"Memory over a catch-up of {growth.entries:,} entries into Kafka in {growth.seconds:.0f} s: at most"
        f" {growth.mib_max:.1f} MiB; after the first fifth {growth.slope_kib_per_million:+,.0f} KiB for each million"
        f" entries\n\n{_table(['entries', 'RSS MiB'], rows)}"
    )


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def write(directory: Path, text: str, about: list[str], command: str) -> Path:
    """A file of its own for every run; one of the same day and commit gets a number."""
    directory.mkdir(parents=True, exist_ok=True)
    commit = machine.commit()
    name = f"{datetime.now(UTC):%Y-%m-%d}-{commit.removesuffix('+')}"
    path, number = directory / f"{name}.md", 1
    while path.exists():
        number += 1
        path = directory / f"{name}-{number}.md"
    facts = "\n".join(f"- {line}" for line in [f"commit: {commit}", f"command: `{command}`", *about])
    path.write_text(f"# {path.stem}\n\n{facts}\n\n{text}\n\n## Observations\n\n")
    return path
