"""Which fault meets which sink, and how often."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from chaos import (
    faults_bridge,
    faults_disk,
    faults_kafka,
    faults_nats,
    faults_network,
    faults_redis,
    faults_server,
    faults_source,
    faults_store,
    faults_webhook,
)
from chaos.faults_network import to_destination, to_store
from chaos.line import Line

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
    Fault("file-disk-full", "the disk is full", faults_disk.of_the_file, ("file",), times=3, store="redis"),
    Fault(
        "webhook-answers",
        "the receiver answers wrongly, in every way that passes",
        faults_webhook.every_wrong_answer,
        ("webhook",),
    ),
    Fault("webhook-gone", "it answers 410", faults_webhook.gone, ("webhook",), times=2),
    Fault(
        "store-disk-full", "SQLite's disk is full", faults_disk.of_the_store, ALL[:3] + ALL[4:], times=1, quick_times=0
    ),
)
