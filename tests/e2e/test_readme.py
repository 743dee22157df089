"""Every command of the README is run, against the configuration that it prints."""

from __future__ import annotations

import re
import shlex
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

import rig
from auditor import EXACT, audit, read_kafka, read_redis
from planted import PASSWORD
from services import KafkaServer, RedisServer

README = (rig.ROOT / "README.md").read_text()
OPLOG_BRIDGE = ".venv/bin/oplog-bridge"
# `make setup` made what this test runs in, and `make test` is what runs it; both are CI's own first steps.
RUN_BY_CI = {"make setup", "make test"}


def commands() -> list[str]:
    blocks = re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
    inline = re.findall(rf"`({re.escape(OPLOG_BRIDGE)} [^`]+)`", README)
    return [line for block in blocks for line in block.splitlines()] + inline


def configuration() -> str:
    found = re.search(r"```yaml\n(.*?)```", README, re.DOTALL)
    assert found is not None
    return found.group(1)


def test_the_readme_holds_only_commands_that_are_run_here_or_by_ci() -> None:
    known = RUN_BY_CI | {"make demo DEMO_FOR=10s"}
    for command in commands():
        words = shlex.split(command)
        assert command in known or words[0] in (OPLOG_BRIDGE, "export", "curl"), command


def test_the_demo_command_prints_what_the_readme_shows(tmp_path: Path) -> None:
    """`make demo` is `oplog-bridge demo`; its set-up half is what CI has just done."""
    recipe = subprocess.run(
        ["make", "--no-print-directory", "-n", "demo", "DEMO_FOR=10s"],
        cwd=rig.ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()[-1]
    assert recipe.strip() == f"{OPLOG_BRIDGE} demo --for 10s"

    done = rig.run_command("demo", "--for", "3s", cwd=tmp_path)

    found = re.search(r"```\n(delivered .*?)```", README, re.DOTALL)
    assert found is not None
    shown, printed = (
        [re.sub(r"[\d,]+|/\S+", "#", line) for line in text.splitlines()] for text in (found[1], done.stdout)
    )
    assert done.returncode == 0
    assert shown == printed


async def test_the_configuration_of_the_readme_delivers_and_its_commands_answer(
    tmp_path: Path,
    kafka_server: KafkaServer,
    own_redis: Callable[..., RedisServer],
    unique: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # given the README's configuration, with only its addresses and its source's name replaced
    redis = own_redis()
    with rig.emulator("--entries", "1500") as source:
        text = configuration()
        for theirs, ours in {
            "https://run.journeyapps.com/api/v4/533bda53027894f69b001055": source.url,
            "localhost:9092": kafka_server.bootstrap_servers,
            "redis://localhost:6379/0": redis.url,
        }.items():
            assert theirs in text
            text = text.replace(theirs, ours)
        settings = yaml.safe_load(text)
        settings |= {"name": unique, "admin": {"listen": "127.0.0.1:0"}}
        settings["pipelines"]["shop-to-kafka"]["sink"]["topic"] = unique
        config = tmp_path / "oplog-bridge.yaml"
        config.write_text(yaml.safe_dump(settings))
        login = {"OPLOG_USER": source.deployment, "OPLOG_PASSWORD": PASSWORD}

        def run(command: str) -> str:
            words = shlex.split(command)[1:]
            done = rig.run_command(*words, cwd=tmp_path, **login)
            assert done.returncode == 0, done.stderr
            return done.stdout

        # when its commands are run, in their order
        for command in [line for line in commands() if line.startswith(OPLOG_BRIDGE) and " check " in line]:
            assert "everything answers" in run(command)
        for name, value in login.items():
            monkeypatch.setenv(name, value)
        with rig.BridgeWithAdmin(config, tmp_path / "b.log") as bridge:
            for pipeline in settings["pipelines"]:
                bridge.until(lambda name=pipeline: delivered(bridge, name) == 1500, f"{pipeline} to deliver")
            for command in commands():
                if command.startswith(OPLOG_BRIDGE) and re.search(r" (offsets|tail) ", command):
                    assert len(run(command).splitlines()) > 1
                elif command.startswith(OPLOG_BRIDGE) and " verify " in command:
                    assert "no difference" in run(command)
                elif command.startswith("curl"):
                    url = shlex.split(command)[-1].replace("localhost:8090", bridge.admin_url.removeprefix("http://"))
                    answer = rig.get_text(url if "://" in url else f"http://{url}")
                    assert '"ready":true' in answer or "oplog_bridge_events_delivered_total" in answer
            bridge.signal(signal.SIGTERM)
            assert bridge.exited(rig.WITHIN_SECONDS) == 0, bridge.tail()

        # then both destinations hold the log
        assert audit(source.entries(), await read_kafka(kafka_server.bootstrap_servers, unique)) == EXACT
        assert audit(source.entries(), read_redis(redis.url, "oplog:shop")) == EXACT


def delivered(bridge: rig.BridgeWithAdmin, pipeline: str) -> int:
    status = rig.get_json(bridge.admin_url + "/api/status")
    events: int = status["pipelines"][pipeline]["events_delivered"]
    return events
