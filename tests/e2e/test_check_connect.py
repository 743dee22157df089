"""`check --connect`: everything that the configuration names is tried, and what weakens its promise is said."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import rig
from nats_reader import stream_client
from services import KafkaServer, NatsServer, RedisServer


@pytest.fixture(scope="module")
def source() -> Iterator[rig.EmulatorProcess]:
    with rig.emulator("--entries", "20") as emulator:
        yield emulator


def check(
    folder: Path, source: rig.EmulatorProcess, sink: dict[str, Any], *, state: str | None = None, **pipeline: Any
) -> tuple[int, dict[str, Any], str]:
    config = rig.write_config(
        folder / "c.yaml",
        source,
        {"copy": sink},
        state=state or f"sqlite:///{folder / 'state.db'}",
        defaults=pipeline,
    )
    done = rig.run_command("check", "-c", str(config), "--connect", "--json", cwd=folder)
    shown = rig.run_command("check", "-c", str(config), "--connect", cwd=folder).stdout
    return done.returncode, json.loads(done.stdout), shown


def test_a_redis_that_evicts_or_forgets_is_a_caution(
    tmp_path: Path, source: rig.EmulatorProcess, own_redis: Callable[..., RedisServer]
) -> None:
    weak = own_redis(config={"maxmemory": "64mb", "maxmemory-policy": "allkeys-lru", "appendonly": "no"})

    code, found, shown = check(tmp_path, source, {"kind": "redis", "url": weak.url}, state=weak.url)

    assert code == 0
    for cautions in (found["pipelines"][0]["cautions"], found["state"]["cautions"]):
        assert [text.split(":")[0] for text in cautions] == [
            "maxmemory-policy allkeys-lru evicts what the bridge keeps",
            "no append-only file",
        ]
    assert found["state"]["permissions"][0].startswith("ACL SETUSER")
    assert "state: caution: maxmemory-policy" in shown
    assert "everything answers" in shown


def test_a_redis_that_does_what_it_should_is_none(
    tmp_path: Path, source: rig.EmulatorProcess, redis_server: RedisServer, unique: str
) -> None:
    sink = {"kind": "redis", "url": redis_server.url, "stream": unique}

    code, found, _ = check(tmp_path, source, sink, state=redis_server.url)

    assert (code, found["pipelines"][0]["cautions"], found["state"]["cautions"]) == (0, [], [])


def test_where_nobody_may_look_that_is_said(
    tmp_path: Path, source: rig.EmulatorProcess, own_redis: Callable[..., RedisServer]
) -> None:
    rights = "-@all +eval +evalsha +hget +hmget +hset +hkeys +type +xadd +xinfo|stream"
    server = own_redis(acl=["user default off", f"user bridge on >secret ~* {rights}"])
    url = f"redis://bridge:secret@127.0.0.1:{server.port}/0"

    code, found, _ = check(tmp_path, source, {"kind": "redis", "url": url})

    assert code == 0
    assert "`+info`" in found["pipelines"][0]["cautions"][0]


def test_a_kafka_that_keeps_events_for_a_while_on_one_broker_is_a_caution(
    tmp_path: Path, source: rig.EmulatorProcess, kafka_server: KafkaServer, unique: str
) -> None:
    servers = kafka_server.bootstrap_servers
    sink = {"kind": "kafka", "bootstrap_servers": servers, "topic": unique, "create": True}

    check(tmp_path, source, sink)  # makes the topics
    code, found, _ = check(tmp_path, source, sink)

    cautions = found["pipelines"][0]["cautions"]
    assert code == 0
    assert f"topic {unique} has min.insync.replicas=1" in "\n".join(cautions)
    assert f"topic {unique} keeps events for 7 days, read or not" in cautions


async def test_a_stream_without_batches_or_with_limits_is_a_caution(
    tmp_path: Path, source: rig.EmulatorProcess, nats_server: NatsServer, unique: str
) -> None:
    async with stream_client(nats_server.url) as jetstream:
        await jetstream.add_stream(name=unique, subjects=[f"{unique}.>"], max_age=3600, storage="memory")
    sink = {"kind": "nats", "url": nats_server.url, "stream": unique, "subject": f"{unique}.{{type}}"}

    code, found, _ = check(tmp_path, source, sink)

    cautions = "\n".join(found["pipelines"][0]["cautions"])
    assert code == 0
    for named in ("no `allow_atomic`", "one replica", "in memory", "a max_age"):
        assert named in cautions


def test_the_dead_letters_sink_is_tried_and_its_rights_are_listed(
    tmp_path: Path, source: rig.EmulatorProcess, redis_server: RedisServer, unique: str
) -> None:
    letters = {"kind": "redis", "url": redis_server.url, "stream": f"{unique}-letters"}
    file = {"kind": "file", "path": str(tmp_path / "events.jsonl")}

    good = check(tmp_path, source, file, on_rejected="dead_letter", dead_letter=letters)
    bad = check(
        tmp_path, source, file, on_rejected="dead_letter", dead_letter=letters | {"url": "redis://127.0.0.1:1/0"}
    )

    assert good[0] == 0
    assert f"dead letters: redis:{unique}-letters" in good[2]
    assert any(f"~{unique}-letters" in right for right in good[1]["pipelines"][0]["permissions"])
    assert bad[0] == 3
    assert bad[1]["problems"][0].startswith("copy, dead letters: ")


def test_a_state_store_that_does_not_answer_is_named(tmp_path: Path, source: rig.EmulatorProcess) -> None:
    file = {"kind": "file", "path": str(tmp_path / "events.jsonl")}

    code, found, _ = check(tmp_path, source, file, state="redis://127.0.0.1:1/0")

    assert code == 3
    assert found["problems"][0].startswith("state: ")


def test_a_bridge_that_runs_is_not_disturbed(
    tmp_path: Path, source: rig.EmulatorProcess, redis_server: RedisServer, unique: str
) -> None:
    sink = {"kind": "redis", "url": redis_server.url, "stream": unique}
    config = rig.write_config(
        tmp_path / "b.yaml",
        source,
        {"copy": sink},
        state=f"sqlite:///{tmp_path / 'state.db'}",
        admin={"listen": "127.0.0.1:0"},
    )
    with rig.BridgeWithAdmin(config, tmp_path / "bridge.log") as bridge:
        bridge.until(
            lambda: rig.get_json(f"{bridge.admin_url}/api/status")["pipelines"]["copy"]["caught_up"], "caught up"
        )
        done = rig.run_command("check", "-c", str(config), "--connect")
        status = rig.get_json(f"{bridge.admin_url}/api/status")["pipelines"]["copy"]

    assert done.returncode == 0, done.stderr
    assert (status["state"], status["retries"]) == ("running", 0)
