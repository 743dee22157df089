"""`oplog-bridge verify` finds what was done to a destination, and nothing else: real servers, real processes."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin import RecordsToDelete

import rig
from auditor import EXACT, audit, read_file
from kafka_reader import admin, read_committed
from nats_reader import read_stream, stream_client
from services import KafkaServer, NatsServer, RedisServer

ENTRIES = 2_500
DELETED, COPIED, ONE_SWAPPED, OTHER_SWAPPED, CHANGED = 1_250, 500, 200, 1_700, 2_000
KINDS = ("missing", "extra", "duplicate", "reordered", "altered", "re-rendered")


def tampered(events: list[Any], changed: Callable[[Any], Any]) -> list[Any]:
    """One taken from the middle, one twice, two swapped, one changed."""
    done = list(events)
    done[CHANGED] = changed(done[CHANGED])
    done[ONE_SWAPPED], done[OTHER_SWAPPED] = done[OTHER_SWAPPED], done[ONE_SWAPPED]
    done.insert(COPIED + 90, done[COPIED])
    del done[DELETED + 1]
    return done


def one_byte_changed(payload: bytes) -> bytes:
    at = payload.index(b'"object":{') + 11
    return payload[:at] + bytes([payload[at] ^ 1]) + payload[at + 1 :]


async def in_file(path: Path) -> None:
    lines = path.read_bytes().splitlines()
    path.write_bytes(b"".join(line + b"\n" for line in tampered(lines, one_byte_changed)))
    sidecar = path.with_name(path.name + ".position")
    sidecar.write_text(json.dumps(json.loads(sidecar.read_text()) | {"length": path.stat().st_size}))


async def in_kafka(servers: str, topic: str) -> None:
    records = await read_committed(servers, topic)
    async with admin(servers) as client, AIOKafkaProducer(bootstrap_servers=servers) as producer:
        await client.delete_records({TopicPartition(topic, 0): RecordsToDelete(before_offset=-1)})
        for one in tampered(records, lambda one: one._replace(value=one_byte_changed(one.value))):
            await producer.send(topic, one.value, key=one.key, headers=list(one.headers))
        await producer.flush()


async def in_nats(url: str, stream: str) -> None:
    messages = await read_stream(url, stream)
    async with stream_client(url) as jetstream:
        config = (await jetstream.stream_info(stream)).config
        await jetstream.delete_stream(stream)
        await jetstream.add_stream(config)
        for one in tampered(messages, lambda one: one._replace(data=one_byte_changed(one.data))):
            # Without its id, of which the server would not take a copy.
            headers = {name: value.decode() for name, value in one.headers if name.startswith(("Oplog-S", "Oplog-K"))}
            await jetstream.publish(one.subject, one.data, headers=headers)


async def in_redis(url: str, stream: str) -> None:
    """Ids ascend, whoever writes: two can only be swapped by what is in them, and a copy has the next number."""
    with redis.Redis.from_url(url) as client:
        entries = client.xrange(stream)
        client.delete(stream)
        _, one = entries[ONE_SWAPPED]
        entries[ONE_SWAPPED] = (entries[ONE_SWAPPED][0], entries[OTHER_SWAPPED][1])
        entries[OTHER_SWAPPED] = (entries[OTHER_SWAPPED][0], one)
        entries[CHANGED][1][b"event"] = one_byte_changed(entries[CHANGED][1][b"event"])
        copied, fields = entries[COPIED]
        entries.insert(COPIED + 1, (copied.replace(b"-0", b"-1"), fields))
        del entries[DELETED + 1]
        for entry, fields in entries:
            client.xadd(stream, fields, id=entry)


Tampers = Callable[[], Awaitable[None]]
Place = tuple[str, dict[str, Any], Tampers]


@pytest.fixture(params=["file", "kafka", "nats", "redis"])
def place(request: pytest.FixtureRequest, tmp_path: Path, unique: str) -> Place:
    """The kind, the sink's settings, and what tampers with what is there."""
    if request.param == "file":
        path = tmp_path / "events.jsonl"
        return "file", {"path": str(path)}, lambda: in_file(path)
    if request.param == "kafka":
        kafka: KafkaServer = request.getfixturevalue("kafka_server")
        servers = kafka.bootstrap_servers
        return (
            "kafka",
            {"bootstrap_servers": servers, "topic": unique, "create": True},
            lambda: in_kafka(servers, unique),
        )
    if request.param == "nats":
        nats: NatsServer = request.getfixturevalue("own_nats")()
        return "nats", {"url": nats.url, "stream": unique, "create": True}, lambda: in_nats(nats.url, unique)
    server: RedisServer = request.getfixturevalue("redis_server")
    return "redis", {"url": server.url, "stream": unique}, lambda: in_redis(server.url, unique)


@pytest.fixture
def source() -> Iterator[rig.EmulatorProcess]:
    with rig.emulator("--entries", str(ENTRIES)) as source:
        yield source


def configured(source: rig.EmulatorProcess, directory: Path, sink: dict[str, Any], name: str, **more: Any) -> str:
    state = f"sqlite:///{directory / 'state.db'}"
    return str(rig.write_config(directory / "bridge.yaml", source, {"copy": sink}, state=state, name=name, **more))


def delivered(config: str) -> None:
    done = rig.run_command("run", "-c", config, "--until-caught-up", "--admin", "off", cwd=Path(config).parent)
    assert done.returncode == 0, done.stderr


def verified(config: str, *options: str, code: int) -> dict[str, Any]:
    done = rig.run_command("verify", "-c", config, "copy", "--json", *options)
    assert done.returncode == code, (done.stdout[-2_000:], done.stderr)
    view: dict[str, Any] = json.loads(done.stdout)
    return view


def test_each_thing_that_was_done_to_a_destination_is_found_and_nothing_else(
    source: rig.EmulatorProcess, tmp_path: Path, place: Place, unique: str
) -> None:
    kind, sink, tamper = place
    config = configured(source, tmp_path, {"kind": kind, **sink}, unique)
    delivered(config)
    ids = [entry["sequence_id"] for entry in source.entries()]
    swapped = sorted([ids[ONE_SWAPPED], ids[OTHER_SWAPPED]])

    asyncio.run(tamper())
    after = verified(config, code=4)

    assert after["compared"] == ENTRIES
    found = {one: sorted(listed["id"] for listed in after[one]["listed"]) for one in KINDS}
    expected = {one: [] for one in KINDS} | {
        "missing": [ids[DELETED]],
        "duplicate": [ids[COPIED]],
        "reordered": swapped,
        "altered": [ids[CHANGED]],
    }
    if kind == "redis":
        expected |= {"reordered": [], "altered": sorted([*swapped, ids[CHANGED]])}
    assert found == expected


def test_what_was_found_is_said_to_people_too_with_exit_code_4(source: rig.EmulatorProcess, tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    config = configured(source, tmp_path, {"kind": "file", "path": str(path)}, "bridge")
    delivered(config)

    same = rig.run_command("verify", "-c", config, "copy")
    asyncio.run(in_file(path))
    differs = rig.run_command("verify", "-c", config, "copy")
    behind_it = verified(config, "--from", source.entries()[CHANGED + 1]["sequence_id"], code=0)

    assert behind_it["compared"] == behind_it["matched"] == ENTRIES - CHANGED - 1
    assert (same.returncode, same.stdout.count("\n"), "no difference" in same.stdout) == (0, 1, True)
    assert differs.returncode == 4
    assert [line.split(":")[0] for line in differs.stdout.splitlines()[1:] if not line.startswith(" ")] == [
        "missing",
        "duplicate",
        "reordered",
        "altered",
    ]


def test_killed_in_the_middle_it_harms_neither_the_lease_nor_a_later_run(
    source: rig.EmulatorProcess, tmp_path: Path
) -> None:
    path = tmp_path / "events.jsonl"
    config = configured(
        source, tmp_path, {"kind": "file", "path": str(path)}, "bridge", source_options={"page_limit": 100}
    )
    delivered(config)

    kill_verify_in_the_middle(config, source)

    assert verified(config, code=0)["matched"] == ENTRIES
    source.write(10)
    delivered(config)
    assert audit(source.entries(), read_file(path)) == EXACT


def test_killed_in_the_middle_it_harms_no_live_pipeline_beside_it(source: rig.EmulatorProcess, tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    config = configured(
        source,
        tmp_path,
        {"kind": "file", "path": str(path)},
        "bridge",
        source_options={"page_limit": 100},
        admin={"listen": "127.0.0.1:0"},
    )
    with rig.BridgeWithAdmin(Path(config), tmp_path / "bridge.log") as bridge:
        bridge.until(lambda: path.exists() and len(path.read_bytes().splitlines()) == ENTRIES, "all is delivered")
        offset = str(int(source.entries()[-1]["sequence_id"]) + 1)
        kill_verify_in_the_middle(config, source)
        last = source.write(10)
        view = verified(config, "--to", offset, code=0)
        bridge.until(lambda: f'"id":"{last}"'.encode() in path.read_bytes(), "what came meanwhile is delivered")
        status = rig.get_json(f"{bridge.admin_url}/api/status")

    assert (view["matched"], view["to"]) == (ENTRIES, offset)
    pipeline = status["pipelines"]["copy"]
    assert (pipeline["state"], pipeline["retries"], status["sources"]["shop"]["epoch"]) == ("running", 0, 1)
    assert audit(source.entries(), read_file(path)) == EXACT


def kill_verify_in_the_middle(config: str, source: rig.EmulatorProcess) -> None:
    """In the middle is where it has asked for pages of the middle, which nobody else does now."""
    middle = int(source.entries()[ENTRIES // 2]["sequence_id"])
    before = source.polls()[-1]["monotonic"]

    def is_halfway() -> bool:
        asked = [int(poll["start"] or 0) for poll in source.polls() if poll["monotonic"] > before]
        return any(0 < start < middle for start in asked)

    command = [*rig.COMMAND, "verify", "-c", config, "copy"]
    with subprocess.Popen(command, env=rig.environment(), stdout=subprocess.PIPE) as verify:
        while not is_halfway():
            assert verify.poll() is None, "it ended before it was killed"
        verify.send_signal(signal.SIGKILL)
        assert verify.wait(rig.WITHIN_SECONDS) == -signal.SIGKILL
