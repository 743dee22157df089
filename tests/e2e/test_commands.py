"""The installed command as a user meets it: output, exit codes, signals."""

from __future__ import annotations

import asyncio
import json
import signal
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

import rig
from auditor import EXACT, audit, read_file
from oplogbridge.clock import SystemClock
from oplogbridge.state.urls import state_store
from services import RedisServer


@pytest.fixture
def file_config(tmp_path: Path) -> Iterator[tuple[rig.EmulatorProcess, Path, Path]]:
    with rig.emulator("--entries", "1200") as source:
        events = tmp_path / "events.jsonl"
        config = rig.write_config(
            tmp_path / "bridge.yaml",
            source,
            {"copy": {"kind": "file", "path": str(events)}},
            state=f"sqlite:///{tmp_path / 'state.db'}",
        )
        yield source, config, events


def test_the_demo_ends_by_itself_and_says_where_the_events_are(tmp_path: Path) -> None:
    done = rig.run_command("demo", "--for", "4s", cwd=tmp_path)

    assert done.returncode == 0, done.stderr
    path = Path(next(line for line in done.stdout.splitlines() if line.endswith(".jsonl") and line.startswith("/")))
    sequences = [event.sequence for event in read_file(path)]
    assert len(sequences) >= 2_500
    assert sequences == sorted(set(sequences))
    assert f"delivered {len(sequences):,} events" in done.stdout
    assert "http://" in done.stderr


def test_run_until_caught_up_delivers_everything_and_exits_0(
    file_config: tuple[rig.EmulatorProcess, Path, Path],
) -> None:
    source, config, events = file_config

    done = rig.run_command("run", "-c", str(config), "--until-caught-up", "--admin", "off", cwd=config.parent)

    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    assert audit(source.entries(), read_file(events)) == EXACT


def test_sigterm_drains_and_exits_0_and_the_next_run_goes_on(
    file_config: tuple[rig.EmulatorProcess, Path, Path],
) -> None:
    source, config, events = file_config
    with rig.bridge(config, config.parent / "bridge.log") as bridge:
        bridge.start()
        bridge.until(lambda: events.exists() and events.stat().st_size > 0, "the first events")
        bridge.signal(signal.SIGTERM)
        assert bridge.exited(within_seconds=20) == 0, bridge.tail()

    done = rig.run_command("run", "-c", str(config), "--until-caught-up", "--admin", "off", cwd=config.parent)

    assert done.returncode == 0
    assert audit(source.entries(), read_file(events)) == EXACT


def test_a_second_sigterm_does_not_wait_for_a_write_that_hangs_and_the_next_run_goes_on(
    tmp_path: Path, own_redis: Callable[..., RedisServer]
) -> None:
    redis = own_redis()
    with rig.emulator("--entries", "30") as source:
        config = rig.write_config(
            tmp_path / "bridge.yaml",
            source,
            {"copy": {"kind": "redis", "url": redis.url, "stream": "copy"}},
            state=f"sqlite:///{tmp_path / 'state.db'}",
            shutdown_timeout="10m",
        )
        with rig.bridge(config, tmp_path / "bridge.log") as bridge:
            bridge.start()
            bridge.until(lambda: len(source.polls()) > 3, "it polls")
            redis.pause()
            source.append([{"operation": "create", "object": {"id": "1", "type": "user"}}])
            polls = len(source.polls())
            # The next poll brings the entry, the one after it comes when the entry was handed to the sink.
            bridge.until(lambda: len(source.polls()) >= polls + 3, "a write is in flight")
            bridge.signal(signal.SIGTERM)
            bridge.logged("draining")
            assert bridge.exited(within_seconds=0) is None
            before = len(bridge.log.read_text().splitlines())
            bridge.signal(signal.SIGTERM)

            assert bridge.exited(within_seconds=5) == 130, bridge.tail()
            redis.resume()

        said = [line for line in bridge.log.read_text().splitlines()[before:] if not line.startswith("{")]
        assert said == [
            "oplog-bridge: ended before the write in flight was finished; it is read again at the next start"
        ]
        again = rig.run_command("run", "-c", str(config), "--until-caught-up", "--admin", "off", cwd=tmp_path)
        got = rig.run_command("offsets", "get", "copy", "-c", str(config))
        assert again.returncode == 0, again.stderr
        assert got.stdout.strip() == str(last_of(source) + 1)


def test_offsets_are_listed_moved_and_kept_in_the_audit_trail(
    file_config: tuple[rig.EmulatorProcess, Path, Path],
) -> None:
    source, config, _ = file_config
    rig.run_command("run", "-c", str(config), "--until-caught-up", "--admin", "off", cwd=config.parent)
    last = int(source.entries()[-1]["sequence_id"])

    listed = json.loads(rig.run_command("offsets", "list", "-c", str(config), "--json").stdout)
    got = rig.run_command("offsets", "get", "copy", "-c", str(config))
    moved = rig.run_command("offsets", "set", "copy", str(last + 100), "-c", str(config))
    wrong = rig.run_command("offsets", "set", "copy", "-5", "-c", str(config))

    assert listed[0]["offset"] == str(last + 1)
    assert got.stdout.strip() == str(last + 1)
    assert moved.returncode == 0, moved.stderr
    assert moved.stdout.strip() == f"copy: {last + 1} -> {last + 100}"
    assert wrong.returncode == 2
    assert len(wrong.stderr.splitlines()) == 1
    assert rig.run_command("offsets", "get", "copy", "-c", str(config)).stdout.strip() == str(last + 100)
    assert audit_details(config) == [f"{last + 1} -> {last + 100}"]


def test_audit_shows_who_moved_which_offset_the_newest_first(
    file_config: tuple[rig.EmulatorProcess, Path, Path],
) -> None:
    _, config, _ = file_config
    for offset in ("5", "7"):
        assert rig.run_command("offsets", "set", "copy", offset, "-c", str(config)).returncode == 0

    newest = rig.run_command("audit", "-n", "1", "--json", "-c", str(config))
    table = rig.run_command("audit", "-c", str(config)).stdout.splitlines()

    (record,) = json.loads(newest.stdout)
    assert (record["pipeline"], record["action"], record["detail"]) == ("copy", "offsets set 7", "5 -> 7")
    assert "@" in record["actor"]
    assert [line.split()[-3:] for line in table[1:]] == [["5", "->", "7"], ["none", "->", "5"]]


def test_offsets_reset_to_latest_asks_the_source(file_config: tuple[rig.EmulatorProcess, Path, Path]) -> None:
    source, config, _ = file_config

    done = rig.run_command("offsets", "reset", "copy", "--to", "latest", "-c", str(config))

    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == f"copy: no offset -> {int(source.entries()[-1]['sequence_id']) + 1}"


def test_offsets_of_a_running_pipeline_are_not_moved(file_config: tuple[rig.EmulatorProcess, Path, Path]) -> None:
    _, config, _ = file_config
    arguments = config.read_text()
    config.write_text(arguments + "admin: {listen: '127.0.0.1:0'}\n")
    with rig.BridgeWithAdmin(config, config.parent / "bridge.log") as bridge:
        bridge.logged("pipeline open")

        refused = rig.run_command("offsets", "set", "copy", "5", "-c", str(config))

    assert refused.returncode == 3
    assert "is running" in refused.stderr


def test_tail_shows_the_newest_entries_from_the_source_and_from_its_holder(
    file_config: tuple[rig.EmulatorProcess, Path, Path],
) -> None:
    source, config, _ = file_config
    config.write_text(config.read_text() + "admin: {listen: '127.0.0.1:0'}\n")
    newest = [entry["sequence_id"] for entry in source.entries()[-3:]]

    alone = rig.run_command("tail", "shop", "-n", "3", "--json", "-c", str(config))
    with rig.BridgeWithAdmin(config, config.parent / "bridge.log") as bridge:
        bridge.logged("pipeline open")
        through_holder = rig.run_command("tail", "shop", "-n", "3", "--json", "-c", str(config))

    for done in (alone, through_holder):
        assert done.returncode == 0, done.stderr
        assert [json.loads(line)["sequence"] for line in done.stdout.splitlines()] == newest


def test_check_says_what_each_pipeline_guarantees_and_tries_everything(
    file_config: tuple[rig.EmulatorProcess, Path, Path],
) -> None:
    _, config, _ = file_config

    plain = rig.run_command("check", "-c", str(config))
    connected = rig.run_command("check", "-c", str(config), "--connect", cwd=config.parent)

    assert plain.returncode == 0, plain.stderr
    assert "copy: shop -> " in plain.stdout
    assert "exactly once" in plain.stdout
    assert connected.returncode == 0, connected.stderr
    assert "everything answers" in connected.stdout


def test_check_connect_names_the_source_that_refuses(file_config: tuple[rig.EmulatorProcess, Path, Path]) -> None:
    _, config, _ = file_config
    settings = yaml.safe_load(config.read_text())
    settings["sources"]["shop"]["auth"]["password"] = "wrong-one"
    config.write_text(yaml.safe_dump(settings))

    done = rig.run_command("check", "-c", str(config), "--connect", cwd=config.parent)

    assert done.returncode == 3
    assert "check `auth`" in done.stderr
    assert "wrong-one" not in done.stderr + done.stdout


def test_the_small_commands_answer() -> None:
    assert rig.run_command("--version").stdout.startswith("oplog-bridge 0.")
    assert {row["kind"] for row in json.loads(rig.run_command("sinks", "--json").stdout)} >= {"kafka", "redis", "file"}
    assert json.loads(rig.run_command("config", "schema").stdout)["type"] == "object"
    wrong = rig.run_command("run", "--no-such-option")
    assert wrong.returncode == 2
    assert len(wrong.stderr.splitlines()) == 1


def test_the_admin_server_answers_probes_and_metrics_while_the_bridge_runs(
    file_config: tuple[rig.EmulatorProcess, Path, Path],
) -> None:
    _, config, events = file_config
    config.write_text(config.read_text() + "admin: {listen: '127.0.0.1:0'}\n")
    with rig.BridgeWithAdmin(config, config.parent / "bridge.log") as bridge:
        bridge.until(lambda: events.exists() and len(read_file(events)) == 1200, "all events")
        bridge.until(
            lambda: json.loads(get(bridge.admin_url + "/api/status"))["pipelines"]["copy"]["caught_up"], "idle"
        )

        assert get(bridge.admin_url + "/livez") == b"ok\n"
        assert json.loads(get(bridge.admin_url + "/readyz"))["ready"] is True
        metrics = get(bridge.admin_url + "/metrics").decode()
        page = get(bridge.admin_url + "/").decode()

    assert 'oplog_bridge_events_delivered_total{pipeline="copy",sink="file",source="shop"} 1200.0' in metrics
    assert 'oplog_bridge_lease_held{source="shop"} 1.0' in metrics
    assert "copy" in page
    assert rig.PASSWORD not in metrics + page


def last_of(source: rig.EmulatorProcess) -> int:
    return int(source.entries()[-1]["sequence_id"])


def audit_details(config: Path) -> list[str]:
    url = yaml.safe_load(config.read_text())["state"]

    async def read() -> list[str]:
        store = state_store(url, name="oplog-bridge", clock=SystemClock())
        await store.open()
        try:
            return [record.detail for record in await store.audit(10)]
        finally:
            await store.close()

    return asyncio.run(read())


def get(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=rig.WITHIN_SECONDS) as answer:
        body: bytes = answer.read()
        return body
