"""SIGKILL of the bridge at random moments while it copies, and of the broker while the bridge lives: 0 lost, 0 twice.

At a size that CI can afford; `make kill-test` runs 100,000 entries, 20 kills and 2 broker kills for each sink.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import rig
from auditor import EXACT, Audit, audit, read_file, read_kafka, read_nats, read_posts, read_redis
from oplogbridge_sinks.webhook.sink import REQUESTS_MAX
from receiver import Receiver
from services import KafkaServer, NatsServer, RedisServer

COPY_SECONDS_MAX = 300.0


@dataclass(frozen=True)
class Size:
    """Polls of `page_limit` every 20 ms make the copy last long enough to be hit."""

    entries: int
    page_limit: int
    kills: int
    broker_kills: int


CI_SIZE = Size(entries=8_000, page_limit=50, kills=5, broker_kills=1)
FULL_SIZE = Size(entries=100_000, page_limit=100, kills=20, broker_kills=2)


@pytest.fixture
def size(full: bool) -> Size:
    return FULL_SIZE if full else CI_SIZE


def copy_under_kills(config: Path, folder: Path, size: Size, restart_broker: Callable[[], None] | None) -> None:
    """One run after another, each ended by SIGKILL, some with the broker killed under it; the last one finishes."""
    moments = rig.seeded("kill moments")
    events = ["bridge"] * size.kills + ["broker"] * (size.broker_kills if restart_broker is not None else 0)
    moments.shuffle(events)
    hits = 0
    with rig.bridge(config, folder / "bridge.log", "--until-caught-up") as bridge:
        bridge.start()
        for event in events:
            code = bridge.exited(within_seconds=moments.uniform(0.5, 1.6))
            if code is not None:
                assert code == 0, bridge.tail()
                bridge.start()  # done already: kill it while it opens
            else:
                hits += 1
            if event == "broker":
                assert restart_broker is not None
                restart_broker()
            else:
                bridge.kill()
                bridge.start()
        assert bridge.exited(COPY_SECONDS_MAX) == 0, bridge.tail()
    print(f"{hits} of {len(events)} kills came while it copied")
    assert hits >= len(events) // 2, "the copy was over before most of the kills: make it longer"


def config_of(
    folder: Path, source: rig.EmulatorProcess, size: Size, sink: dict[str, Any], state: str, **pipeline: Any
) -> Path:
    return rig.write_config(
        folder / "bridge.yaml",
        source,
        {"copy": sink},
        state=state,
        source_options={"page_limit": size.page_limit},
        defaults=pipeline,
        instance="under-test",  # takes its own lease back at once, as a restarted pod with a stable name does
    )


def verdict(source: rig.EmulatorProcess, found: list[Any]) -> Audit:
    result = audit(source.entries(), found)
    print(f"audit: {result}")
    return result


async def test_kafka_holds_every_entry_once_and_in_order_after_kills_of_bridge_and_broker(
    tmp_path: Path, size: Size, own_kafka: Callable[..., KafkaServer], unique: str
) -> None:
    server = own_kafka()

    def restart_broker() -> None:
        server.kill()
        server.restart()

    with rig.emulator("--entries", str(size.entries)) as source:
        sink = {"kind": "kafka", "bootstrap_servers": server.bootstrap_servers, "topic": unique, "create": True}
        state = f"sqlite:///{tmp_path / 'state.db'}"
        config = config_of(tmp_path, source, size, sink | {"partitions": 3}, state, tombstones=True)

        copy_under_kills(config, tmp_path, size, restart_broker)

        assert verdict(source, await read_kafka(server.bootstrap_servers, unique)) == EXACT


def test_redis_holds_every_entry_once_and_in_order_after_kills_of_bridge_and_server(
    tmp_path: Path, size: Size, own_redis: Callable[..., RedisServer], redis_server: RedisServer, unique: str
) -> None:
    server = own_redis(config={"appendfsync": "always"})  # what was acknowledged survives the server's own SIGKILL

    def restart_broker() -> None:
        server.kill()
        server.restart()

    with rig.emulator("--entries", str(size.entries)) as source:
        sink = {"kind": "redis", "url": server.url, "stream": unique}
        config = config_of(tmp_path, source, size, sink, redis_server.url)

        copy_under_kills(config, tmp_path, size, restart_broker)

        assert verdict(source, read_redis(server.url, unique)) == EXACT


async def test_nats_holds_every_entry_once_and_in_order_after_kills_of_bridge_and_server(
    tmp_path: Path, size: Size, own_nats: Callable[..., NatsServer], unique: str
) -> None:
    server = own_nats()

    def restart_broker() -> None:
        server.kill()
        server.restart()

    with rig.emulator("--entries", str(size.entries)) as source:
        sink = {"kind": "nats", "url": server.url, "stream": unique, "subject": f"{unique}.{{type}}", "create": True}
        config = config_of(tmp_path, source, size, sink, f"sqlite:///{tmp_path / 'state.db'}")

        await asyncio.to_thread(copy_under_kills, config, tmp_path, size, restart_broker)

        assert verdict(source, await read_nats(server.url, unique)) == EXACT


def test_a_file_holds_every_entry_once_and_in_order_after_kills_of_the_bridge(tmp_path: Path, size: Size) -> None:
    path = tmp_path / "events.jsonl"
    with rig.emulator("--entries", str(size.entries)) as source:
        sink = {"kind": "file", "path": str(path)}
        config = config_of(tmp_path, source, size, sink, f"sqlite:///{tmp_path / 'state.db'}")

        copy_under_kills(config, tmp_path, size, restart_broker=None)

        assert verdict(source, read_file(path)) == EXACT


@pytest.mark.parametrize(("ordering", "pending_max"), [("ordered", 1), ("key", 20)])
async def test_a_webhook_gets_every_entry_in_order_after_kills_and_copies_have_the_id_of_the_first(
    tmp_path: Path, size: Size, ordering: str, pending_max: int
) -> None:
    async with Receiver() as receiver:
        with rig.emulator("--entries", str(size.entries)) as source:
            sink = {"kind": "webhook", "url": receiver.url, "allow_http": True, "allow_private_addresses": True}
            sink |= {"ordering": ordering, "max_ack_pending": pending_max}
            config = config_of(tmp_path, source, size, sink, f"sqlite:///{tmp_path / 'state.db'}")

            await asyncio.to_thread(copy_under_kills, config, tmp_path, size, None)

            posts = [(post.id, post.key, post.body) for post in receiver.posts]
            assert verdict(source, read_posts(posts, by_key=ordering == "key")) == EXACT
    copies = len(posts) - size.entries
    print(f"{copies} copies after {size.kills} kills")
    # Of a batch, its requests and one more that a kill caught before its answer; of a window, all that is in it.
    assert copies <= size.kills * (REQUESTS_MAX + 1 if ordering == "ordered" else pending_max)
