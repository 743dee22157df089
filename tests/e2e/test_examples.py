"""The programs in examples/ on real servers, killed in the middle, again and again: their results are the source's."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import re
import sqlite3
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import redis

import rig
from kafka_reader import make_topic
from nats_reader import stream_client
from oplogbridge_sinks.webhook.signature import signatures
from services import KafkaServer, NatsServer, RedisServer
from services.ports import free_port

ENTRIES, KILLS = 4_000, 5
PACE = {"page_limit": 40, "poll_interval": "40ms"}  # a thousand a second: nobody is done before the kills
PARTS_MAX = 8  # between two kills
PART_SECONDS_MAX = 60.0
SECRET, OTHER_SECRET = ("whsec_" + base64.b64encode(letter * 32).decode() for letter in (b"a", b"b"))


class Program:
    """One of the examples. It prints a line whenever a part of its work is durable."""

    def __init__(self, name: str, *arguments: str, **env: str) -> None:
        self._command = [str(rig.ROOT / "examples" / f"{name}.py"), *arguments]
        self._env = os.environ | env
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, *self._command, env=self._env, stdout=asyncio.subprocess.PIPE
        )

    async def part(self) -> None:
        """Wait until the next part of its work is done."""
        assert self._process is not None
        assert self._process.stdout is not None
        line = await asyncio.wait_for(self._process.stdout.readline(), PART_SECONDS_MAX)
        assert line, "it ended"

    async def kill(self) -> None:
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
            await self._process.communicate()


@contextlib.asynccontextmanager
async def running(program: Program) -> AsyncIterator[Program]:
    await program.start()
    try:
        yield program
    finally:
        await program.kill()


async def finishes(program: Program, done: Callable[[], bool]) -> None:
    async with running(program):
        while not done():
            await program.part()


async def killed_until_done(
    program: Program, done: Callable[[], bool], bridge: rig.BridgeProcess | None = None, parts_max: int = PARTS_MAX
) -> None:
    """Kill the program, and perhaps the bridge with it, at random moments; then let it finish."""
    moments, hits = rig.seeded("kills"), 0
    for _ in range(KILLS):
        async with running(program):
            for _ in range(moments.randint(1, parts_max)):
                await program.part()
            if bridge is not None:
                bridge.kill()
        hits += not done()
        if bridge is not None:
            bridge.start()
    print(f"{hits} of {KILLS} kills came in the middle")
    assert hits
    await finishes(program, done)


@pytest.fixture
def source() -> Any:
    with rig.emulator("--entries", str(ENTRIES)) as source:
        yield source


@contextlib.contextmanager
def copying(folder: Path, source: rig.EmulatorProcess, sink: dict[str, Any]) -> Iterator[rig.BridgeProcess]:
    state = f"sqlite:///{folder / 'state.db'}"
    config = rig.write_config(folder / "bridge.yaml", source, {"shop": sink}, state=state, source_options=PACE)
    with rig.bridge(config, folder / "bridge.log") as bridge:
        bridge.start()
        yield bridge


# What the programs keep, and what they should ----------------------------------------------------------------------


def states_of(source: rig.EmulatorProcess) -> dict[str, Any]:
    """Of each object that was not deleted, by key."""
    states: dict[str, Any] = {}
    for entry in source.entries():
        key = f"{entry['object']['type']}/{entry['object']['id']}"
        states[key] = None if entry["operation"] == "delete" else entry["object"]
    return {key: state for key, state in states.items() if state is not None}


def states_in(path: Path) -> dict[str, Any]:
    rows = rows_of(path, "objects", "SELECT key, object FROM objects WHERE object IS NOT NULL")
    return {key: json.loads(state) for key, state in rows}


def counts_of(source: rig.EmulatorProcess) -> Counter[str]:
    return Counter(entry["operation"] for entry in source.entries())


def counts_in(path: Path) -> Counter[str]:
    return Counter(dict(rows_of(path, "counts", "SELECT operation, events FROM counts")))


def rows_of(path: Path, table: str, query: str) -> list[Any]:
    """None while the program has not made the table yet."""
    with contextlib.closing(sqlite3.connect(path)) as results:
        there = results.execute("SELECT 1 FROM sqlite_master WHERE name = ?", (table,)).fetchone()
        return results.execute(query).fetchall() if there else []


def test_every_example_is_run_here_and_named_in_the_guide() -> None:
    there = {path.stem for path in (rig.ROOT / "examples").glob("*.py")}
    guide = (rig.ROOT / "docs" / "consumers.md").read_text()

    assert set(re.findall(r'Program\("(\w+)"', Path(__file__).read_text())) == there
    assert set(re.findall(r"\(\.\./examples/(\w+)\.py\)", guide)) == there


# The programs ------------------------------------------------------------------------------------------------------


async def test_the_state_from_kafka_is_the_sources_after_kills(
    tmp_path: Path, source: rig.EmulatorProcess, kafka_server: KafkaServer, unique: str
) -> None:
    results, expected = tmp_path / "results.db", states_of(source)
    program = Program("kafka_state", kafka_server.bootstrap_servers, unique, str(results), "worker-1")
    await make_topic(kafka_server.bootstrap_servers, unique, 3)
    sink = {"kind": "kafka", "bootstrap_servers": kafka_server.bootstrap_servers, "topic": unique, "create": True}

    with copying(tmp_path, source, sink):
        await killed_until_done(program, lambda: states_in(results) == expected)


async def test_a_redis_worker_that_is_killed_does_what_it_had_in_hand_when_it_comes_back(
    tmp_path: Path, source: rig.EmulatorProcess, redis_server: RedisServer, unique: str
) -> None:
    results, expected = tmp_path / "results.db", states_of(source)
    program = Program("redis_workers", redis_server.url, unique, str(results), "worker-1")

    with copying(tmp_path, source, {"kind": "redis", "url": redis_server.url, "stream": unique}):
        await killed_with_work_in_hand(program, results, redis_server.url, unique)
        await killed_until_done(
            program, lambda: states_in(results) == expected and not pending(redis_server.url, unique)
        )


async def test_what_a_redis_worker_had_in_hand_is_claimed_by_another(
    tmp_path: Path, source: rig.EmulatorProcess, redis_server: RedisServer, unique: str
) -> None:
    results, expected = tmp_path / "results.db", states_of(source)
    first, second = (
        Program("redis_workers", redis_server.url, unique, str(results), name, CLAIM_AFTER_MS="500")
        for name in ("worker-1", "worker-2")
    )

    with copying(tmp_path, source, {"kind": "redis", "url": redis_server.url, "stream": unique}):
        await killed_with_work_in_hand(first, results, redis_server.url, unique)
        await finishes(second, lambda: states_in(results) == expected and not pending(redis_server.url, unique))


@pytest.mark.parametrize("whose", ["its own", "another's"])
async def test_what_was_trimmed_before_a_redis_worker_did_it_is_told(
    tmp_path: Path,
    source: rig.EmulatorProcess,
    redis_server: RedisServer,
    unique: str,
    capfd: pytest.CaptureFixture[str],
    whose: str,
) -> None:
    results = tmp_path / "results.db"
    first, second = (
        Program("redis_workers", redis_server.url, unique, str(results), name, CLAIM_AFTER_MS="500")
        for name in ("worker-1", "worker-2")
    )
    with copying(tmp_path, source, {"kind": "redis", "url": redis_server.url, "stream": unique}):
        await killed_with_work_in_hand(first, results, redis_server.url, unique)
        with redis.Redis.from_url(redis_server.url) as client:
            client.xtrim(unique, maxlen=0, approximate=False)
        async with running(first if whose == "its own" else second) as program:
            while "lost to this group: [b'" not in capfd.readouterr().err:
                await program.part()


async def killed_with_work_in_hand(program: Program, results: Path, url: str, stream: str) -> None:
    async with running(program):
        await program.part()
        with contextlib.closing(sqlite3.connect(results, isolation_level=None)) as lock:
            lock.execute("BEGIN IMMEDIATE")  # so that it cannot finish the next part
            async with asyncio.timeout(PART_SECONDS_MAX):
                while not await asyncio.to_thread(pending, url, stream):
                    pass
            await program.kill()
    assert pending(url, stream)


def pending(url: str, stream: str) -> int:
    """Entries that a worker took and did not acknowledge."""
    with redis.Redis.from_url(url) as client:
        groups: Any = client.xinfo_groups(stream)
    return sum(group["pending"] for group in groups)


async def test_what_is_counted_from_redis_is_counted_once_after_kills(
    tmp_path: Path, source: rig.EmulatorProcess, redis_server: RedisServer, unique: str
) -> None:
    results, expected = tmp_path / "results.db", counts_of(source)
    program = Program("redis_once", redis_server.url, unique, str(results))

    with copying(tmp_path, source, {"kind": "redis", "url": redis_server.url, "stream": unique}):
        await killed_until_done(program, lambda: counts_in(results).total() >= ENTRIES)
    assert counts_in(results) == expected


async def test_what_is_counted_from_a_jetstream_stream_is_counted_once_whoever_dies(
    tmp_path: Path, source: rig.EmulatorProcess, nats_server: NatsServer, unique: str
) -> None:
    results, expected = tmp_path / "results.db", counts_of(source)
    async with stream_client(nats_server.url) as jetstream:
        await jetstream.add_stream(name=unique, subjects=[f"{unique}.*"], allow_atomic=True)
    program = Program("nats_once", nats_server.url, unique, str(results))
    sink = {"kind": "nats", "url": nats_server.url, "stream": unique, "subject": f"{unique}.{{type}}"}

    with copying(tmp_path, source, sink) as bridge:
        await killed_until_done(program, lambda: counts_in(results).total() >= ENTRIES, bridge)
    assert counts_in(results) == expected


async def test_what_is_counted_from_a_file_is_counted_once_while_bridge_and_reader_are_killed(
    tmp_path: Path, source: rig.EmulatorProcess
) -> None:
    path, results, expected = tmp_path / "shop.jsonl", tmp_path / "results.db", counts_of(source)
    program = Program("file_once", str(path), str(results))

    with copying(tmp_path, source, {"kind": "file", "path": str(path)}) as bridge:
        await killed_until_done(program, lambda: counts_in(results).total() >= ENTRIES, bridge)
    assert counts_in(results) == expected


def lines_covered(path: Path, sidecar: Path) -> int:
    return path.read_bytes()[: json.loads(sidecar.read_bytes())["length"]].count(b"\n")


async def test_what_a_crash_left_behind_the_sidecar_is_not_read(tmp_path: Path) -> None:
    path, results = tmp_path / "shop.jsonl", tmp_path / "results.db"
    program = Program("file_once", str(path), str(results))
    with rig.emulator("--entries", "20") as source:
        with copying(tmp_path, source, {"kind": "file", "path": str(path)}) as bridge:
            sidecar = tmp_path / "shop.jsonl.position"
            bridge.until(lambda: sidecar.exists() and lines_covered(path, sidecar) == 20, "20 lines")
            bridge.kill()
            line = path.read_bytes().splitlines(keepends=True)[-1]
            with path.open("ab") as file:
                file.write(line + line[:100])  # of a write that was never finished

            await finishes(program, lambda: counts_in(results).total() >= 20)
            assert counts_in(results) == counts_of(source)

            last = source.entries()[-1]
            source.append([last | {"sequence_id": str(int(last["sequence_id"]) + 1)}])
            bridge.start()  # cuts it off
            await finishes(program, lambda: counts_in(results).total() >= 21)
            assert counts_in(results) == counts_of(source)


@pytest.mark.parametrize(
    ("entries", "work_seconds", "parts_max"), [(300, 0, 30), (20, 0.2, 2)], ids=["short work", "long work"]
)
async def test_what_is_counted_from_webhooks_is_counted_once_while_bridge_and_receiver_are_killed(
    tmp_path: Path, entries: int, work_seconds: float, parts_max: int
) -> None:
    """Long work outlasts the receiver's patience: the bridge is told to ask again, and does after `ack_wait`."""
    port, results = free_port(), tmp_path / "results.db"
    env = {"WEBHOOK_SECRET": SECRET, "WORK_SECONDS": str(work_seconds), "PATIENCE_SECONDS": "0.1"}
    program = Program("webhook_receiver", str(port), str(results), **env)
    sink = {
        "kind": "webhook", "url": f"http://127.0.0.1:{port}/shop", "secret": SECRET, "ack_wait": "250ms",
        "backoff": ["100ms"], "allow_http": True, "allow_private_addresses": True,
    }  # fmt: skip

    with rig.emulator("--entries", str(entries)) as source, copying(tmp_path, source, sink) as bridge:
        expected = counts_of(source)
        await killed_until_done(program, lambda: counts_in(results).total() >= entries, bridge, parts_max)
    assert counts_in(results) == expected


async def test_a_webhook_that_is_not_signed_is_not_taken(tmp_path: Path) -> None:
    port, results = free_port(), tmp_path / "results.db"
    program = Program("webhook_receiver", str(port), str(results), WEBHOOK_SECRET=SECRET)
    body = b'{"data":{"operation":"create"}}'
    event = {"Oplog-Sequence": "7", "webhook-id": "shop-7"}
    keys = [base64.b64decode(secret.removeprefix("whsec_")) for secret in (OTHER_SECRET, SECRET)]

    def signed(at_seconds: float, *keys: bytes) -> dict[str, str]:
        timestamp = int(at_seconds)
        return event | {
            "webhook-timestamp": str(timestamp),
            "webhook-signature": signatures(keys, "shop-7", timestamp, body),
        }

    async with running(program), aiohttp.ClientSession() as session:

        async def status(headers: dict[str, str]) -> int:
            async with session.post(f"http://127.0.0.1:{port}/shop", data=body, headers=headers) as response:
                return response.status

        async with asyncio.timeout(PART_SECONDS_MAX):
            while True:
                with contextlib.suppress(aiohttp.ClientConnectorError):
                    assert await status(event) == 503
                    break
        assert await status(signed(time.time(), keys[0])) == 503
        assert await status(signed(time.time() - 3600, keys[1])) == 503
        assert counts_in(results) == {}
        assert await status(signed(time.time(), *keys)) == 204  # while secrets are exchanged
        assert await status(signed(time.time(), keys[1])) == 204  # a copy
    assert counts_in(results) == {"create": 1}
