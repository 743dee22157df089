"""Which fault meets which sink, how often, and what came of it."""

from __future__ import annotations

import random
import statistics
import tempfile
import time
import traceback
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import planted
import rig
from auditor import EXACT, Audit
from chaos import (
    faults_bridge,
    faults_file,
    faults_kafka,
    faults_nats,
    faults_network,
    faults_redis,
    faults_server,
    faults_source,
    faults_store,
    faults_webhook,
)
from chaos.background import Background, Wire
from chaos.destinations import DESTINATIONS
from chaos.faults_network import to_destination, to_store
from chaos.line import Line
from services import MissingServer, RedisServer

ALL = ("kafka", "redis", "nats", "file", "webhook")
SERVERS = ("kafka", "redis", "nats", "webhook")
PROCESSES = ("kafka", "redis", "nats")


@dataclass(frozen=True)
class Fault:
    name: str
    title: str  # its row in the table
    strike: Callable[[Line], None]
    sinks: tuple[str, ...] = ALL
    times: int = 5
    quick_times: int = 1
    proxied: bool = False  # the bridge reaches the destination through a proxy
    store: Literal["sqlite", "redis", "proxied redis"] = "sqlite"
    version: str = "v4"
    options: dict[str, str] = field(default_factory=dict)  # of the destination's server
    sink: dict[str, Any] = field(default_factory=dict)  # more settings of the sink


FAULTS: tuple[Fault, ...] = (
    Fault("kill", "the bridge is killed at random moments", faults_bridge.kill, times=50, quick_times=3),
    Fault(
        "kill-v1",
        "the same, with a source of API v1",
        faults_bridge.kill,
        ("kafka", "file"),
        quick_times=2,
        version="v1",
    ),
    Fault(
        "kill-by-key",
        "the same, with `ordering: key`",
        faults_bridge.kill,
        ("webhook",),
        times=20,
        quick_times=2,
        sink={"ordering": "key", "max_ack_pending": 20},
    ),
    Fault(
        "kill-at-points",
        "it is killed right behind: lease, opening, a write or a save without an answer, SIGTERM",
        faults_bridge.kill_at_points,
        times=10,
        quick_times=5,
        proxied=True,
        store="proxied redis",
    ),
    Fault("freeze", "it is frozen beyond its lease, with a standby", faults_bridge.freeze, times=3, store="redis"),
    Fault("server-kill", "the server is killed in the middle of writes", faults_server.kill, SERVERS, times=4),
    Fault("server-down", "the server is away for 30 s", faults_server.down, SERVERS, times=1, quick_times=0),
    Fault("server-freeze", "the server is frozen for 6 s", faults_server.freeze, PROCESSES, times=1, quick_times=0),
    Fault(
        "cut", "connections are cut in the middle", faults_network.cut(to_destination), SERVERS, times=12, proxied=True
    ),
    Fault(
        "answer-lost",
        "a write arrives, its answer does not",
        faults_network.answer_lost(to_destination),
        SERVERS,
        times=12,
        quick_times=2,
        proxied=True,
    ),
    Fault(
        "stall",
        "nothing passes for 4 s, both ways and one way",
        faults_network.stall(to_destination),
        SERVERS,
        times=1,
        quick_times=0,
        proxied=True,
    ),
    Fault("slow", "20 kB a second", faults_network.slow(to_destination), SERVERS, times=1, quick_times=0, proxied=True),
    Fault(
        "refuse",
        "connections are refused for 4 s",
        faults_network.refuse(to_destination),
        SERVERS,
        times=1,
        quick_times=0,
        proxied=True,
    ),
    Fault("source", "the source answers wrongly, in every way", faults_source.every_kind, times=1, quick_times=0),
    Fault("store-kill", "the state store is killed", faults_store.kill, times=3, quick_times=0, store="redis"),
    Fault(
        "store-cut",
        "the state store's connections are cut",
        faults_network.cut(to_store),
        times=5,
        quick_times=0,
        store="proxied redis",
    ),
    Fault(
        "store-answer-lost",
        "a save arrives, its answer does not",
        faults_network.answer_lost(to_store),
        times=5,
        quick_times=0,
        store="proxied redis",
    ),
    Fault(
        "store-stall",
        "the state store stalls beyond the lease",
        faults_network.stall(to_store),
        times=1,
        quick_times=0,
        store="proxied redis",
    ),
    Fault("store-read-only", "it takes no writes", faults_store.read_only, times=1, quick_times=0, store="redis"),
    Fault("store-full", "it is out of memory", faults_store.full, times=1, quick_times=0, store="redis"),
    Fault("store-lost", "it loses everything", faults_store.lost, times=3, store="redis"),
    Fault(
        "store-fail-over",
        "it fails over to a replica that missed saves",
        faults_store.fail_over,
        times=2,
        quick_times=0,
        store="proxied redis",
    ),
    Fault(
        "redis-fail-over",
        "it fails over to a replica that missed acknowledged writes",
        faults_redis.fail_over,
        ("redis",),
        times=3,
        proxied=True,
    ),
    Fault("redis-full", "it is out of memory", faults_redis.full, ("redis",), times=2),
    Fault(
        "redis-amnesia",
        "it restarts without persistence",
        faults_redis.amnesia,
        ("redis",),
        times=2,
        options={"appendonly": "no", "appendfsync": "no"},
    ),
    Fault("nats-purged", "the stream is purged", faults_nats.purged, ("nats",), times=3),
    Fault("nats-expired", "the stream's tail has expired", faults_nats.expired, ("nats",), times=2),
    Fault("nats-deleted", "the stream is deleted", faults_nats.deleted, ("nats",), times=2),
    Fault(
        "kafka-commit-answer-lost",
        "a commit arrives, its answer does not",
        faults_kafka.commit_answer_lost,
        ("kafka",),
        times=10,
        proxied=True,
    ),
    Fault(
        "kafka-slow-coordinator",
        "the coordinator answers a commit 4 s late",
        faults_kafka.slow_coordinator,
        ("kafka",),
        times=3,
        quick_times=0,
        proxied=True,
    ),
    Fault(
        "kafka-orphans",
        "the broker is killed in a commit, until it forgot three transactions",
        faults_kafka.orphans,
        ("kafka",),
        times=3,
        quick_times=0,
        proxied=True,
    ),
    Fault(
        "kafka-replicas",
        "too few in-sync replicas for 4 s",
        faults_kafka.too_few_replicas,
        ("kafka",),
        times=2,
        quick_times=0,
    ),
    Fault("kafka-checkpoint", "the checkpoint topic is deleted", faults_kafka.checkpoint_deleted, ("kafka",), times=2),
    Fault("kafka-topic", "the topic is made again", faults_kafka.topic_again, ("kafka",), times=2),
    Fault("kafka-partitions", "partitions are added", faults_kafka.partitions_added, ("kafka",), times=2),
    Fault("file-disk-full", "the disk is full", faults_file.disk_full, ("file",), times=3, store="redis"),
    Fault(
        "webhook-answers",
        "the receiver answers wrongly, in every way that passes",
        faults_webhook.every_wrong_answer,
        ("webhook",),
    ),
    Fault("webhook-gone", "it answers 410", faults_webhook.gone, ("webhook",), times=2),
    Fault(
        "store-disk-full", "SQLite's disk is full", faults_store.disk_full, ALL[:3] + ALL[4:], times=1, quick_times=0
    ),
)


@dataclass
class Result:
    fault: Fault
    kind: str
    seed: int
    strikes: int = 0
    audit: Audit | None = None
    copies: int = 0
    early_polls: int = 0
    recoveries: list[float] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    destroyed: int = 0
    seconds: float = 0.0
    trouble: str | None = None

    @property
    def holds(self) -> bool:
        return self.trouble is None and self.audit == EXACT and self.early_polls == 0

    def __str__(self) -> str:
        if self.trouble is not None:
            return f"FAILED: {self.trouble.splitlines()[0]}"
        assert self.audit is not None
        parts = [f"{self.strikes} × {self.audit.lost}/{self.audit.duplicated}/{self.audit.reordered}"]
        if self.audit.altered or self.audit.foreign or self.early_polls:
            parts.append(f"{self.audit.altered} altered, {self.audit.foreign} foreign, {self.early_polls} early polls")
        if self.copies:
            parts.append(f"{self.copies} copies by id")
        if self.recoveries:
            parts.append(f"{statistics.median(self.recoveries):.1f} s, worst {max(self.recoveries):.1f}")
        return "; ".join(parts + self.notes)


def run(fault: Fault, kind: str, times: int, seed: int) -> Result:
    """One cell of the table."""
    begin = time.monotonic()
    result = Result(fault, kind, seed)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix=f"chaos-{fault.name}-{kind}-")))
        background = stack.enter_context(Background())
        line = None
        try:
            destination = DESTINATIONS[kind](
                background, folder, proxied=fault.proxied, more=fault.sink, options=fault.options
            )
            stack.callback(destination.close)
            store, wire = None, None
            if fault.store != "sqlite":
                store = stack.enter_context(RedisServer().start(config={"appendfsync": "always"}))
            if store is not None and fault.store == "proxied redis":
                wire = Wire(background, store.port)
                stack.callback(wire.close)
            source = stack.enter_context(rig.emulator())
            line = Line(destination, source, background, folder, times, random.Random(seed), store, wire, fault.version)
            with line:
                fault.strike(line)
                result.audit = line.verdict()
                result.early_polls = line.early_polls()
                shown = planted.shown_in_logs(folder)
                assert not shown, f"secrets are shown: {shown}"
        except MissingServer:
            raise
        except Exception as error:
            result.trouble = f"{type(error).__name__}: {error}"
            traceback.print_exc()
            _keep_logs(folder)
        if line is not None:
            result.strikes, result.recoveries, result.notes = line.strikes, line.recoveries, line.notes
            result.destroyed, result.copies = len(line.destroyed), line.destination.copies()
    result.seconds = time.monotonic() - begin
    return result


def _keep_logs(folder: Path) -> None:
    for log in sorted(folder.glob("*.log")):
        print(f"--- the end of {log.name}:")
        print("\n".join(log.read_text(errors="replace").splitlines()[-40:]))
