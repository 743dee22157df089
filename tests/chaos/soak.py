"""Millions of entries through one sink, a fault every few seconds, and one bridge that lives through all of it.

`make soak` (`SINK=kafka ENTRIES=1000000` narrows) prints for each sink what a consumer found that followed it all the
time, and what the bridge used: memory, file descriptors and tasks must be flat. Exits with 1 on anything lost, out of
order, or left behind.
"""

from __future__ import annotations

import argparse
import datetime
import logging
import random
import secrets
import signal
import tempfile
import time
import urllib.request
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from statistics import linear_regression
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

import rig
from chaos.background import Background, Wire
from chaos.catalogue import ALL
from chaos.destinations import DESTINATIONS, Destination
from chaos.faults_source import PASSING
from chaos.following import Tally, follow
from marked import filled
from services import RedisServer

ENTRIES = 10_000_000
ENTRY_BYTES = 220
STEP_ENTRIES = 20_000
WAITING_ENTRIES_MAX = 200_000  # written and not yet seen by the consumer: streams are trimmed beyond it
CALM_ENTRIES = 200_000  # before the first fault: what the bridge uses when all is well
QUIET_SECONDS = (1.5, 5.0)  # from one fault's end to the next
PATIENCE_SECONDS = 20.0  # and without recovery the next one comes after so much more
HELD_SECONDS = 3.0  # longer than the lease
SETTLED_PART = 0.2  # of the run, in which caches and the allocator find their size
DONE_WITHIN_SECONDS = 120.0  # without any progress
LEFT_BEHIND = ("Task was destroyed", "never retrieved", "ResourceWarning", "Traceback", "was never awaited")
TRIMMED: dict[str, dict[str, Any]] = {
    "redis": {"max_entries": 1_000_000},
    "nats": {"max_messages": 400_000},
    "webhook": {"batch_max": 100},
}


@dataclass(frozen=True)
class Used:
    """By the bridge, as its own metrics have it."""

    entries: int  # that the consumer had seen
    mib: float
    open_files: int
    tasks: int


@dataclass
class Soaked:
    kind: str
    written: int = 0
    total: int = 0
    tally: Tally = field(default_factory=Tally)
    faults: int = 0
    seconds: float = 0.0
    samples: list[Used] = field(default_factory=list)
    calm: Used | None = None
    left: list[str] = field(default_factory=list)

    @property
    def lost(self) -> int:
        return self.written - self.tally.count

    @property
    def holds(self) -> bool:
        exact = self.lost == 0 and self.total == self.tally.total
        return exact and not self.left and (self.kind == "webhook" or self.tally.again == 0)

    @property
    def kib_per_million(self) -> float:
        settled = [used for used in self.samples if used.entries >= SETTLED_PART * self.written]
        return linear_regression([used.entries for used in settled], [used.mib * 1024 for used in settled]).slope * 1e6

    def row(self) -> str:
        assert self.calm is not None
        last = self.samples[-1]
        again = f"{self.tally.again:,} copies by id" if self.kind == "webhook" else f"{self.tally.again}"
        files = max(used.open_files for used in self.samples)
        cells = [
            self.kind,
            f"{self.written:,}",
            f"{self.faults}",
            f"{self.lost}",
            again,
            f"{self.seconds / 60:.0f} min",
            f"{self.calm.mib:.0f}, {max(used.mib for used in self.samples):.0f}, {last.mib:.0f} MiB",
            f"{self.kib_per_million:+.0f} KiB",
            f"{self.calm.open_files}, {files}, {last.open_files}",
            f"{self.calm.tasks}, {last.tasks}",
        ]
        return f"| {' | '.join(cells)} |" + "".join(f"\nLEFT BEHIND: {what}" for what in self.left)


COLUMNS = (
    "sink",
    "entries",
    "faults",
    "lost",
    "twice or out of order",
    "took",
    "memory: calm, most, end",
    "for each million",
    "open files: calm, most, end",
    "tasks: calm, end",
)
HEAD = f"| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}"


class Soak:
    """One sink's; made whole by `with`."""

    def __init__(self, kind: str, stack: ExitStack, chance: random.Random) -> None:
        self.result = Soaked(kind)
        self._chance = chance
        self.folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix=f"soak-{kind}-")))
        self.background = background = stack.enter_context(Background())
        more = TRIMMED.get(kind, {})
        self.destination: Destination = DESTINATIONS[kind](background, self.folder, proxied=True, more=more, options={})
        stack.callback(self.destination.close)
        self._store = stack.enter_context(RedisServer().start(config={"appendfsync": "always"}))
        self._store_wire = Wire(background, self._store.port)
        stack.callback(self._store_wire.close)
        self.source = stack.enter_context(rig.emulator("--entry-bytes", str(ENTRY_BYTES)))
        config = rig.write_config(
            self.folder / "bridge.yaml",
            self.source,
            {"copy": self.destination.settings()},
            state=f"redis://127.0.0.1:{self._store_wire.port}/0",
            source_options={"id": "shop", "poll_interval": "5ms", "request_timeout": "3s"},
            admin={"listen": "127.0.0.1:0"},
            lease_ttl="2s",
        )
        self.bridge = rig.BridgeWithAdmin(config, self.folder / "bridge.log")
        stack.callback(self.bridge.close)
        stack.callback(background.started(follow(self.destination, self.result.tally)).cancel)

    def run(self, entries: int) -> Soaked:
        result, begin = self.result, time.monotonic()
        self._write()
        self.bridge.start()
        self._carry(until=CALM_ENTRIES, entries=CALM_ENTRIES, strikes=[])
        self._sample()
        result.calm = result.samples[-1]
        self._carry(until=entries, entries=entries, strikes=self._strikes())
        self._calmed()
        result.seconds = time.monotonic() - begin
        self.bridge.signal(signal.SIGTERM)
        code = self.bridge.exited(rig.WITHIN_SECONDS)
        log = self.bridge.log.read_text(errors="replace")
        result.left += [] if code == 0 else [f"SIGTERM ended with {code}"]
        result.left += [f"{what!r} in the log" for what in LEFT_BEHIND if what in log]
        return result

    def _carry(self, *, until: int, entries: int, strikes: list[Callable[[], None]]) -> None:
        result, progress, progress_at, struck_progress = self.result, -1, time.monotonic(), -1
        next_fault_at = time.monotonic() + self._chance.uniform(*QUIET_SECONDS)
        while result.tally.count < until:
            now = time.monotonic()
            if result.tally.count != progress:
                progress, progress_at = result.tally.count, now
            assert now < progress_at + DONE_WITHIN_SECONDS, f"nothing came after {progress:,}\n{self.bridge.tail()}"
            code = self.bridge.exited(0.05)
            assert code is None, f"the bridge ended with {code}:\n{self.bridge.tail()}"
            while result.written < entries and result.written - result.tally.count < WAITING_ENTRIES_MAX:
                self._write()
            # A server that is still reading its data after a kill is not killed again.
            recovered = progress > struck_progress or now >= next_fault_at + PATIENCE_SECONDS
            if strikes and now >= next_fault_at and recovered:
                struck_progress = progress
                self._chance.choice(strikes)()
                result.faults += 1
                next_fault_at = time.monotonic() + self._chance.uniform(*QUIET_SECONDS)
                self._sample()

    def _write(self) -> None:
        sequences = self.source.written(STEP_ENTRIES)
        self.result.written += len(sequences)
        self.result.total += sum(sequences)

    def _calmed(self) -> None:
        """No task and no connection is left of all the faults."""
        calm, deadline = self.result.calm, time.monotonic() + DONE_WITHIN_SECONDS
        assert calm is not None
        while True:
            self._sample()
            last = self.result.samples[-1]
            if last.open_files <= calm.open_files and last.tasks <= calm.tasks:
                return
            if time.monotonic() > deadline:
                self.result.left.append(f"{last} is more than {calm}")
                return
            self.bridge.exited(0.5)

    def _sample(self) -> None:
        with urllib.request.urlopen(f"{self.bridge.admin_url}/metrics", timeout=rig.WITHIN_SECONDS) as answer:
            text = answer.read().decode()
        found = {one.name: one.value for family in text_string_to_metric_families(text) for one in family.samples}
        mib = found["process_resident_memory_bytes"] / 2**20
        files, tasks = int(found["process_open_fds"]), int(found["oplog_bridge_tasks"])
        self.result.samples.append(Used(self.result.tally.count, mib, files, tasks))

    # Faults ---------------------------------------------------------------------------------------------------------

    def _strikes(self) -> list[Callable[[], None]]:
        strikes = [self._source, self._freeze, self._store_wire.cut, self._store_killed]
        strikes.append(lambda: self._answer_lost(self._store_wire))
        wire = self.destination.wire
        if wire is not None:
            strikes += [
                wire.cut,
                lambda: self._cut_after(wire),
                lambda: self._answer_lost(wire),
                lambda: self._stall(wire),
                self._server_killed,
            ]
        return strikes

    def _source(self) -> None:
        self.source.fault(**self._chance.choice(PASSING))

    def _freeze(self) -> None:
        self.bridge.signal(signal.SIGSTOP)
        self.bridge.exited(HELD_SECONDS)
        self.bridge.signal(signal.SIGCONT)

    def _store_killed(self) -> None:
        self._store.kill()
        self._store.restart()

    def _server_killed(self) -> None:
        self.destination.kill()
        self.destination.restart()

    def _cut_after(self, wire: Wire) -> None:
        wire.cut_after("upstream", self._chance.randrange(1, 500_000))

    def _answer_lost(self, wire: Wire) -> None:
        wire.reset_before_reply()

    def _stall(self, wire: Wire) -> None:
        wire.stall()
        self.bridge.exited(HELD_SECONDS)
        wire.heal()


def soak(kind: str, entries: int, seed: int) -> Soaked:
    with ExitStack() as stack:
        return Soak(kind, stack, random.Random(seed)).run(entries)


def main() -> int:
    parser = argparse.ArgumentParser(prog="chaos.soak", description=__doc__)
    parser.add_argument("--sink", action="append", choices=ALL)
    parser.add_argument("--entries", type=int, default=ENTRIES)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--write", type=Path, metavar="FILE", help="put the table into this document")
    chosen = parser.parse_args()
    for noisy in ("aiohttp", "aiokafka", "asyncio", "nats"):  # our own readers meet every fault as well
        logging.getLogger(noisy).setLevel(logging.CRITICAL)
    seed = chosen.seed or secrets.randbelow(2**31) + 1
    print(f"repeat with --seed {seed}", flush=True)
    results = []
    for kind in chosen.sink or ALL:
        results.append(soak(kind, chosen.entries, seed))
        print(results[-1].row(), flush=True)
    if chosen.write is not None:
        today = datetime.datetime.now(datetime.UTC).date()
        head = f"{today}, seed {seed}, {sum(result.seconds for result in results) / 60:.0f} minutes."
        table = "\n".join([head, "", HEAD, *(result.row() for result in results)])
        chosen.write.write_text(filled(chosen.write.read_text(), "the soak", table))
    return 0 if all(result.holds for result in results) else 1


if __name__ == "__main__":
    raise SystemExit(main())
