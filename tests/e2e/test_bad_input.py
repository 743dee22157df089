"""What is wrong gives one clear line that says what to do, an exit code, and loses nothing once it is mended."""

from __future__ import annotations

import json
import resource
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
import yaml

import rig
from auditor import EXACT, audit, read_file, read_kafka, read_redis
from services import KafkaServer, RedisServer


@pytest.fixture
def source() -> Iterator[rig.EmulatorProcess]:
    with rig.emulator("--entries", "1200") as process:
        yield process


def config_of(folder: Path, source: rig.EmulatorProcess, sink: dict[str, Any], **more: Any) -> Path:
    more.setdefault("state", f"sqlite:///{folder / 'state.db'}")
    return rig.write_config(folder / "bridge.yaml", source, {"copy": sink}, **more)


def run(config: Path) -> subprocess.CompletedProcess[str]:
    return rig.run_command("run", "-c", str(config), "--until-caught-up", "--admin", "off", cwd=config.parent)


def last_line(done: subprocess.CompletedProcess[str]) -> str:
    return done.stderr.splitlines()[-1]


def test_a_configuration_with_five_mistakes_gives_five_lines_and_exit_code_2(tmp_path: Path) -> None:
    config = tmp_path / "bridge.yaml"
    config.write_text(
        """
sources:
  shop: {url: "https://run.example.com/api/v4/533bda53027894f69b001055", poll_intervall: 1s, page_limit: 5000}
pipelines:
  one: {source: shopp, sink: {kind: file, path: out.jsonl}}
  two: {source: shop, start: yesterday, sink: {kind: fyle, path: out.jsonl}}
"""
    )

    done = rig.run_command("run", "-c", str(config))

    assert done.returncode == 2
    assert "5 problems" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1 + 5
    assert 'did you mean "poll_interval"?' in done.stderr


def test_a_wrong_password_stops_the_pipeline_with_exit_code_3_and_does_not_show_it(
    tmp_path: Path, source: rig.EmulatorProcess
) -> None:
    config = config_of(tmp_path, source, {"kind": "file", "path": str(tmp_path / "out.jsonl")})
    settings = yaml.safe_load(config.read_text())
    settings["sources"]["shop"]["auth"]["password"] = "planted-password"
    config.write_text(yaml.safe_dump(settings))

    done = run(config)

    assert done.returncode == 3
    assert "check `auth` of the source" in last_line(done)
    assert "planted-password" not in done.stderr + done.stdout


def test_a_missing_topic_stops_and_goes_on_once_it_may_be_created(
    tmp_path: Path, source: rig.EmulatorProcess, kafka_server: KafkaServer, unique: str
) -> None:
    sink = {"kind": "kafka", "bootstrap_servers": kafka_server.bootstrap_servers, "topic": unique}
    missing = run(config_of(tmp_path, source, sink, name=unique))
    mended = run(config_of(tmp_path, source, sink | {"create": True}, name=unique))

    assert missing.returncode == 3
    assert unique in last_line(missing)
    assert "create: true" in last_line(missing)
    assert mended.returncode == 0, mended.stderr


async def test_an_entry_too_large_for_the_topic_stops_or_becomes_a_dead_letter(
    tmp_path: Path, own_kafka: Callable[..., KafkaServer], unique: str
) -> None:
    server = own_kafka(config={"message.max.bytes": "20000"})
    with rig.emulator("--entries", "50") as source:
        big = {"id": "big", "type": "report", "text": "".join(chr(33 + (i * i * 7919) % 90) for i in range(60_000))}
        source.append([{"operation": "create", "object": big}])
        source.append([{"operation": "create", "object": {"id": "after", "type": "report"}}])
        sequences = [int(entry["sequence_id"]) for entry in source.entries()]
        sink = {
            "kind": "kafka",
            "bootstrap_servers": server.bootstrap_servers,
            "topic": unique,
            "create": True,
            "compression": "none",
        }
        letters = tmp_path / "letters.jsonl"

        stopped = run(config_of(tmp_path, source, sink))
        config = config_of(tmp_path, source, sink)
        settings = yaml.safe_load(config.read_text())
        settings["pipelines"]["copy"] |= {
            "on_rejected": "dead_letter",
            "dead_letter": {"kind": "file", "path": str(letters)},
        }
        config.write_text(yaml.safe_dump(settings))
        went_on = run(config)
        again = run(config)

        rejected = [
            int(entry["sequence_id"]) for entry in source.entries() if len(json.dumps(entry["object"])) > 19_000
        ]
        assert stopped.returncode == 3
        assert f"sequence {rejected[0]} cannot be delivered" in last_line(stopped)
        assert "on_rejected: dead_letter" in last_line(stopped)
        assert went_on.returncode == again.returncode == 0, went_on.stderr
        assert [int(json.loads(line)["id"]) for line in letters.read_bytes().splitlines()] == rejected
        found = [event.sequence for event in await read_kafka(server.bootstrap_servers, unique)]
        assert found == [sequence for sequence in sequences if sequence not in rejected]


def test_an_unknown_operation_and_an_unknown_model_pass_through(tmp_path: Path, source: rig.EmulatorProcess) -> None:
    source.append([{"operation": "archive", "object": {"id": "1", "type": "no_such_model"}}])
    config = config_of(tmp_path, source, {"kind": "file", "path": str(tmp_path / "out.jsonl")})

    done = run(config)

    assert done.returncode == 0, done.stderr
    found = read_file(tmp_path / "out.jsonl")
    assert audit(source.entries(), found) == EXACT
    assert found[-1].data["operation"] == "archive"


def test_a_stream_of_another_type_stops_and_goes_on_once_it_is_gone(
    tmp_path: Path, source: rig.EmulatorProcess, redis_server: RedisServer, unique: str
) -> None:
    with redis.Redis.from_url(redis_server.url) as client:
        client.set(unique, "somebody else's")
        config = config_of(tmp_path, source, {"kind": "redis", "url": redis_server.url, "stream": unique})
        wrong = run(config)
        client.delete(unique)
        right = run(config)

    assert wrong.returncode == 3
    assert unique in last_line(wrong)
    assert right.returncode == 0, right.stderr
    assert audit(source.entries(), read_redis(redis_server.url, unique)) == EXACT


def test_a_kafka_that_is_down_at_start_is_waited_for(
    tmp_path: Path, source: rig.EmulatorProcess, own_kafka: Callable[..., KafkaServer], unique: str
) -> None:
    server = own_kafka()
    server.stop()
    sink = {"kind": "kafka", "bootstrap_servers": server.bootstrap_servers, "topic": unique, "create": True}
    with rig.bridge(config_of(tmp_path, source, sink), tmp_path / "b.log", "--until-caught-up") as bridge:
        bridge.start()
        bridge.logged("pipeline retrying")
        server.restart()
        assert bridge.exited(rig.WITHIN_SECONDS) == 0, bridge.tail()


def test_a_state_store_that_is_down_at_start_is_waited_for(
    tmp_path: Path, source: rig.EmulatorProcess, own_redis: Callable[..., RedisServer]
) -> None:
    server = own_redis()
    server.stop()
    out = tmp_path / "out.jsonl"
    config = config_of(tmp_path, source, {"kind": "file", "path": str(out)}, state=server.url)
    with rig.bridge(config, tmp_path / "b.log", "--until-caught-up") as bridge:
        bridge.start()
        bridge.logged("state store unavailable")
        assert source.polls() == []  # without the store: no lease, no poll, no write
        server.restart()
        assert bridge.exited(rig.WITHIN_SECONDS) == 0, bridge.tail()
    assert audit(source.entries(), read_file(out)) == EXACT


def test_a_full_disk_is_said_and_the_file_is_whole_once_there_is_room(
    tmp_path: Path, source: rig.EmulatorProcess, redis_server: RedisServer, unique: str
) -> None:
    """A limit on the file's size stands in for the disk: the kernel refuses the same append in the same place."""
    out, log = tmp_path / "out.jsonl", tmp_path / "b.log"
    config = config_of(tmp_path, source, {"kind": "file", "path": str(out)}, state=redis_server.url, name=unique)
    with log.open("wb") as stderr:
        full = subprocess.Popen(
            [*rig.COMMAND, "run", "-c", str(config), "--admin", "off"],
            env=rig.environment(),
            stderr=stderr,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000)),
        )
    with rig.bridge(config, tmp_path / "unused.log") as watch:
        watch.process, watch.log = full, log
        watch.logged("pipeline retrying")

    done = run(config)

    assert done.returncode == 0, done.stderr
    assert audit(source.entries(), read_file(out)) == EXACT


def test_a_second_instance_on_the_same_admin_port_ends_with_exit_code_3_and_the_way_out(
    tmp_path: Path, source: rig.EmulatorProcess
) -> None:
    config = config_of(tmp_path, source, {"kind": "file", "path": str(tmp_path / "out.jsonl")})
    config.write_text(config.read_text() + "admin: {listen: '127.0.0.1:0'}\n")
    with rig.BridgeWithAdmin(config, tmp_path / "b.log") as bridge:
        address = bridge.admin_url.removeprefix("http://")
        second = rig.run_command("run", "-c", str(config), "--admin", address, cwd=tmp_path)

    assert second.returncode == 3
    assert "--admin off" in last_line(second)


def test_a_malformed_entry_stops_the_pipeline_after_what_came_before_it(
    tmp_path: Path, source: rig.EmulatorProcess
) -> None:
    before = len(source.entries())
    source.append([{"operation": "create", "object": {"type": "user"}}])  # no id
    out = tmp_path / "out.jsonl"
    config = config_of(tmp_path, source, {"kind": "file", "path": str(out)})

    done = run(config)

    assert done.returncode == 3
    assert "cannot be delivered" in last_line(done)
    assert len(read_file(out)) == before
