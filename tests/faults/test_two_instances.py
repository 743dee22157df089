"""Two instances of one configuration: one works, one waits; a frozen one that wakes up late does no harm."""

from __future__ import annotations

import signal
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

import rig
from auditor import EXACT, Found, audit, read_file, read_kafka, read_nats, read_redis
from services import KafkaServer, NatsServer, RedisServer

ENTRIES = 5_000
LEASE = {"lease_ttl": "2s"}
SLOW_COPY = {"page_limit": 25, "poll_interval": "20ms"}


def slow_copy(folder: Path, source: rig.EmulatorProcess, sink: dict[str, Any], state: str, name: str) -> Path:
    """A copy that lasts long enough to be frozen in its middle, under a short lease."""
    return rig.write_config(
        folder / "c.yaml", source, {"copy": sink}, state=state, source_options=SLOW_COPY, name=name, **LEASE
    )


def freeze_and_wake(config: Path, folder: Path, *, opens_while_frozen: bool) -> None:
    """A copies and is frozen in the middle; B takes over; A wakes up after its lease, gives up, and both end well."""
    with (
        rig.bridge(config, folder / "a.log", "--until-caught-up") as a,
        rig.bridge(config, folder / "b.log", "--until-caught-up") as b,
    ):
        a.start()
        a.logged("pipeline open")
        b.start()
        b.logged("waiting for the lease")
        assert "lease held" not in b.log.read_text()

        a.signal(signal.SIGSTOP)
        b.logged("lease held")
        if opens_while_frozen:
            b.logged("pipeline open")
        a.signal(signal.SIGCONT)
        a.logged("lease given up")

        assert b.exited(rig.WITHIN_SECONDS) == 0, b.tail()
        assert a.exited(rig.WITHIN_SECONDS) == 0, a.tail()


def check_polls(polls: list[dict[str, Any]], interval_seconds: float) -> None:
    """The source's own log: no two requests closer than the interval (2 ms for the emulator's own loop)."""
    gaps = [later["monotonic"] - earlier["monotonic"] for earlier, later in pairwise(polls)]
    assert min(gaps) >= interval_seconds - 0.002, f"polls {min(gaps):.4f} s apart"


def copied(source: rig.EmulatorProcess, found: list[Found]) -> None:
    assert audit(source.entries(), found) == EXACT


async def test_on_kafka_a_frozen_instance_wakes_up_without_harm(
    tmp_path: Path, kafka_server: KafkaServer, redis_server: RedisServer, unique: str
) -> None:
    with rig.emulator("--entries", str(ENTRIES)) as source:
        servers = kafka_server.bootstrap_servers
        sink = {"kind": "kafka", "bootstrap_servers": servers, "topic": unique, "create": True}
        config = slow_copy(tmp_path, source, sink, redis_server.url, unique)
        freeze_and_wake(config, tmp_path, opens_while_frozen=True)
        check_polls(source.polls(), 0.02)
        copied(source, await read_kafka(servers, unique))


async def test_on_nats_a_frozen_instance_wakes_up_without_harm(
    tmp_path: Path, nats_server: NatsServer, redis_server: RedisServer, unique: str
) -> None:
    with rig.emulator("--entries", str(ENTRIES)) as source:
        sink = {"kind": "nats", "url": nats_server.url, "stream": unique, "subject": f"{unique}.{{type}}"}
        config = slow_copy(tmp_path, source, sink | {"create": True}, redis_server.url, unique)
        freeze_and_wake(config, tmp_path, opens_while_frozen=True)
        check_polls(source.polls(), 0.02)
        copied(source, await read_nats(nats_server.url, unique))


def test_on_redis_a_frozen_instance_wakes_up_without_harm(
    tmp_path: Path, redis_server: RedisServer, unique: str
) -> None:
    with rig.emulator("--entries", str(ENTRIES)) as source:
        sink = {"kind": "redis", "url": redis_server.url, "stream": unique}
        config = slow_copy(tmp_path, source, sink, redis_server.url, unique)
        freeze_and_wake(config, tmp_path, opens_while_frozen=True)
        check_polls(source.polls(), 0.02)
        copied(source, read_redis(redis_server.url, unique))


def test_on_a_file_a_frozen_instance_keeps_the_others_out_until_it_wakes_up(
    tmp_path: Path, redis_server: RedisServer, unique: str
) -> None:
    """Its lock on the file cannot be taken away, so the successor waits: safe, and it says so.

    The state is in Redis: frozen inside a transaction of SQLite, A would keep B from the lease as well.
    """
    with rig.emulator("--entries", str(ENTRIES)) as source:
        path = tmp_path / "events.jsonl"
        config = slow_copy(tmp_path, source, {"kind": "file", "path": str(path)}, redis_server.url, unique)
        freeze_and_wake(config, tmp_path, opens_while_frozen=False)
        check_polls(source.polls(), 0.02)
        copied(source, read_file(path))


@pytest.mark.parametrize("store", ["sqlite", "redis"])
def test_the_source_sees_one_poll_a_second_over_pipelines_faults_and_takeovers(
    tmp_path: Path, store: str, own_redis: Callable[..., RedisServer]
) -> None:
    """Two pipelines, a burst of faults, a kill with a take-over, and a drain: the emulator's log is the judge."""
    state = f"sqlite:///{tmp_path / 'state.db'}" if store == "sqlite" else own_redis().url
    with rig.emulator("--entries", "1500", "--rate", "50") as source:
        sinks = {name: {"kind": "file", "path": str(tmp_path / f"{name}.jsonl")} for name in ("one", "two")}
        config = rig.write_config(
            tmp_path / "c.yaml", source, sinks, state=state, source_options={"poll_interval": "1s"}, **LEASE
        )
        with rig.bridge(config, tmp_path / "a.log") as a, rig.bridge(config, tmp_path / "b.log") as b:
            a.start()
            a.until(lambda: len(source.polls()) >= 2, "two polls")
            for kind in ("500", "cut", "429"):
                source.fault(kind=kind)
            a.until(lambda: len(source.polls()) >= 6, "polls through the faults")
            b.start()
            b.logged("waiting for the lease")
            a.kill()
            b.logged("pipeline open")
            seen = len(source.polls())
            b.until(lambda: len(source.polls()) >= seen + 2, "polls of the successor")
            b.signal(signal.SIGTERM)
            assert b.exited(rig.WITHIN_SECONDS) == 0, b.tail()
        check_polls(source.polls(), 1.0)
        assert all(poll["status"] in (200, 429, 500, 0) for poll in source.polls())
