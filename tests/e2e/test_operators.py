"""What operators do, on every sink, with real commands that are killed in the middle: replays, snapshots, pauses,
moved offsets, dead letters."""

from __future__ import annotations

import contextlib
import json
import random
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import rig
from operating import PIPELINE, Event, Operated, receiving
from services import KafkaServer, NatsServer, RedisServer

KINDS = ("file", "kafka", "redis", "nats", "webhook")
ENTRIES = 1_500
AGAIN = "again"


@pytest.fixture(scope="module")
def source() -> Iterator[rig.EmulatorProcess]:
    with rig.emulator("--entries", str(ENTRIES)) as source:
        yield source


@pytest.fixture
def chance() -> random.Random:
    return rig.seeded("moments")


def sink_of(kind: str, request: pytest.FixtureRequest, folder: Path, unique: str) -> dict[str, Any]:
    if kind == "file":
        return {"kind": kind, "path": str(folder / "events.jsonl")}
    if kind == "kafka":
        kafka: KafkaServer = request.getfixturevalue("kafka_server")
        return {"kind": kind, "bootstrap_servers": kafka.bootstrap_servers, "topic": unique, "create": True}
    if kind == "nats":
        nats: NatsServer = request.getfixturevalue("nats_server")
        return {"kind": kind, "url": nats.url, "stream": unique, "subject": f"{unique}.{{type}}", "create": True}
    if kind == "redis":
        redis: RedisServer = request.getfixturevalue("redis_server")
        return {"kind": kind, "url": redis.url, "stream": unique}
    private = {"allow_http": True, "allow_private_addresses": True, "batch_max": 50}
    return {"kind": kind, "url": "", **private}


@pytest.fixture(params=KINDS)
def operated(
    request: pytest.FixtureRequest, source: rig.EmulatorProcess, tmp_path: Path, unique: str
) -> Iterator[Operated]:
    sink = sink_of(request.param, request, tmp_path, unique)
    if request.param != "webhook":
        yield Operated(source, tmp_path, sink)
        return
    with receiving() as receiver:
        made = Operated(source, tmp_path, sink | {"url": receiver.url})
        made.receiver = receiver
        yield made


def where(operated: Operated, name: str) -> dict[str, str]:
    """The keys of the sink that lead to where a replay goes."""
    sink = operated.sink
    return {
        "file": {"path": f"{sink.get('path')}.replay-{name}"},
        "redis": {"stream": f"{sink.get('stream')}:replay:{name}"},
        "nats": {"stream": f"{sink.get('stream')}_replay_{name}", "subject": f"replay.{name}.{sink.get('subject')}"},
    }.get(sink["kind"], {})


def replayed(operated: Operated, name: str) -> list[str]:
    """The ids of what a replay delivered; without copies at a webhook, which may get some."""
    goes_live = not where(operated, name)
    found = operated.events(**where(operated, name))
    ids = [one.id for one in found if not goes_live or one.replay == name]
    assert {one.replay for one in found} <= ({None, name} if goes_live else {None}), "marked where it could be mistaken"
    return list(dict.fromkeys(ids)) if operated.sink["kind"] == "webhook" else ids


def live(operated: Operated) -> list[str]:
    ids = [one.id for one in operated.events() if one.replay is None]
    return list(dict.fromkeys(ids)) if operated.sink["kind"] == "webhook" else ids


def ids_of(source: rig.EmulatorProcess) -> list[str]:
    return [entry["sequence_id"] for entry in source.entries()]


def killed_soon(process: subprocess.Popen[bytes], seconds: float, *, says: bool = True) -> bool:
    """So long after it said its first word, which is after what it wants was noted. Whether it was still at it."""
    assert process.stdout is not None
    if says:
        process.stdout.readline()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(seconds)
        process.stdout.close()
        return False
    process.kill()
    process.wait()
    process.stdout.close()
    return True


def in_order(operated: Operated, ids: list[str]) -> list[str]:
    """As the source has them: a topic of several partitions keeps the order of each only."""
    return sorted(ids, key=int) if operated.sink["kind"] == "kafka" else ids


def test_a_replay_whose_command_is_killed_goes_on_exactly_once(operated: Operated, chance: random.Random) -> None:
    operated.deliver()
    written = ids_of(operated.source)
    first, last = written[200], written[1400]

    killed = killed_soon(
        operated.start("replay", PIPELINE, "--from", first, "--to", last, "--name", AGAIN), chance.uniform(0, 0.6)
    )
    for _ in range(2):
        if killed:
            killed = killed_soon(operated.start("replay", "resume", AGAIN), chance.uniform(0, 0.6))
    if '"done"' not in operated.run("replay", "list", "--json"):  # or it was killed when all was said and done
        operated.run("replay", "resume", AGAIN)

    assert in_order(operated, replayed(operated, AGAIN)) == written[200:1400]
    assert in_order(operated, live(operated)) == written
    (row,) = json.loads(operated.run("replay", "list", "--json").partition("]")[0] + "]")
    assert (row["name"], row["state"], row["from"], row["to"]) == (AGAIN, "done", first, last)
    assert "replay start" in operated.run("audit")


def test_a_replay_is_carried_out_by_the_running_instance_also_when_that_is_killed(
    operated: Operated, chance: random.Random
) -> None:
    operated.deliver()
    written = ids_of(operated.source)
    with operated.running() as bridge:
        bridge.logged("pipeline open")
        operated.run("replay", PIPELINE, "--from", "earliest", "--name", AGAIN, "--detach")
        for _ in range(2):
            with contextlib.suppress(subprocess.TimeoutExpired):
                assert bridge.process is not None
                bridge.process.wait(chance.uniform(0.3, 0.9))
            bridge.kill()
            bridge.start()
        bridge.logged("replay done")

    assert in_order(operated, replayed(operated, AGAIN)) == written
    assert in_order(operated, live(operated)) == written


def test_a_snapshot_that_is_killed_goes_on_exactly_once_and_the_log_follows(
    request: pytest.FixtureRequest, tmp_path: Path, unique: str, chance: random.Random
) -> None:
    for kind in KINDS:
        folder = tmp_path / kind
        folder.mkdir()
        with rig.emulator() as source, receiving() as receiver:
            objects = objects_made(source, 600)
            sink = sink_of(kind, request, folder, f"{unique}_{kind}")
            made = Operated(source, folder, sink | ({"url": receiver.url} if kind == "webhook" else {}))
            made.receiver = receiver
            killed = killed_soon(made.start("snapshot", PIPELINE), chance.uniform(0, 0.6))
            source.written(20)  # behind the snapshot, or before, when it had not begun yet
            made.deliver()
            source.written(20)
            made.deliver()
            if killed:
                assert "snapshot" in made.run("audit")

            found = made.events()
            told = [one for one in found if one.operation == "snapshot"]
            ids = [one.id for one in told]
            if kind == "webhook":
                ids = list(dict.fromkeys(ids))
            (behind,) = {one.partition("-")[0] for one in ids}
            assert sorted(int(one.partition("-")[2]) for one in ids) == list(range(1, len(objects) + 1)), kind
            later = [one for one in ids_of(source) if int(one) > int(behind)]
            assert in_order(made, [one.id for one in found if one.operation != "snapshot"]) == later, kind
            assert len(later) >= 20


def objects_made(source: rig.EmulatorProcess, count: int) -> list[str]:
    ids = [f"{number:08x}-0000-4000-8000-000000000000" for number in range(count)]
    for at in range(0, count, 500):
        operations = [
            {"method": "put", "object": {"type": "user", "id": id_, "name": "n"}} for id_ in ids[at : at + 500]
        ]
        body = json.dumps({"operations": operations}).encode()
        headers = {"Authorization": source.authorization, "Content-Type": "application/json"}
        request = urllib.request.Request(f"{source.url}/batch.json", body, headers, method="POST")
        with urllib.request.urlopen(request, timeout=rig.WITHIN_SECONDS) as answer:
            assert all(one["success"] for one in json.load(answer)["operations"])
    return ids


GOES_BACK = {"file", "kafka", "webhook"}


def test_the_offset_of_a_paused_pipeline_is_moved_while_its_instance_runs(operated: Operated) -> None:
    operated.deliver()
    written = ids_of(operated.source)
    with operated.running() as bridge:
        bridge.logged("pipeline open")
        refused = operated.run("offsets", "set", PIPELINE, written[-100], code=3)
        assert "pause" in refused or "stop" in refused
        operated.run("pipelines", "pause", PIPELINE)
        assert "is paused: resume it first" in operated.run("snapshot", PIPELINE, code=3)
        bridge.until(lambda: state_of(bridge) == "paused", "it is paused")
        bridge.kill()
        bridge.start()
        bridge.until(lambda: state_of(bridge) == "paused", "it is paused after a restart, too")
        if operated.sink["kind"] in GOES_BACK:
            operated.run("offsets", "set", PIPELINE, written[-100])
        else:
            assert "holds" in operated.run("offsets", "set", PIPELINE, written[-100], code=3)
        (row,) = json.loads(operated.run("offsets", "list", "--json"))
        assert (row["state"], row["pipeline"], row["log_trouble"]) == ("paused", PIPELINE, None)
        assert row["holder"]
        operated.run("pipelines", "resume", PIPELINE)
        bridge.until(lambda: state_of(bridge) == "running", "it runs again")
        again = written[-100:] if operated.sink["kind"] in GOES_BACK else []
        bridge.until(lambda: len(operated.events()) >= len(written) + len(again), "what was asked for came again")

    assert sorted(one.id for one in operated.events()) == sorted(written + again)
    trail = operated.run("audit")
    assert all(action in trail for action in ("pipelines pause", "pipelines resume"))


def state_of(bridge: rig.BridgeWithAdmin) -> str:
    with contextlib.suppress(OSError):
        state: str = rig.get_json(f"{bridge.admin_url}/api/status")["pipelines"][PIPELINE]["state"]
        return state
    return "nobody answers"


def test_narrowed_counted_and_elsewhere(source: rig.EmulatorProcess, tmp_path: Path) -> None:
    made = Operated(source, tmp_path, {"kind": "file", "path": str(tmp_path / "events.jsonl")})
    made.deliver()
    users = [one for one in source.entries() if one["object"]["type"] == "user" and one["operation"] == "create"]

    counted = made.run(
        "replay", PIPELINE, "--from", "earliest", "--dry-run", "--types", "user", "--operations", "create"
    )
    made.run(
        *("replay", PIPELINE, "--from", "earliest", "--name", "users", "--types", "user", "--operations", "create"),
        *("--into", f"path={tmp_path / 'users.jsonl'}"),
    )
    one = users[0]["object"]["id"]
    made.run("replay", PIPELINE, "--from", "earliest", "--name", "one", "--ids", one, "--into", f"path={tmp_path}/one")

    assert f"{len(users):,}" in counted
    assert [event.id for event in made.events(path=str(tmp_path / "users.jsonl"))] == [u["sequence_id"] for u in users]
    of_one = [entry["sequence_id"] for entry in source.entries() if entry["object"]["id"] == one]
    assert [event.id for event in made.events(path=f"{tmp_path}/one")] == of_one


def test_a_pipeline_without_an_offset_begins_where_a_replay_says_and_stays_live(
    source: rig.EmulatorProcess, tmp_path: Path
) -> None:
    made = Operated(source, tmp_path, {"kind": "file", "path": str(tmp_path / "events.jsonl")}, start="latest")
    written = ids_of(source)
    made.run("replay", PIPELINE, "--from", written[-300], "--then-follow")
    made.deliver()
    assert live(made) == written[-300:]
    assert "has the offset" in made.run("replay", PIPELINE, "--from", "earliest", "--then-follow", code=3)


def test_what_a_destination_would_not_take_is_redriven_once_where_nothing_later_was_delivered(
    request: pytest.FixtureRequest, tmp_path: Path, unique: str, chance: random.Random
) -> None:
    with rig.emulator() as source:
        large = [{"id": f"large{n}", "type": "user", "name": "x" * 5_000} for n in range(30)]
        small = [{"id": f"small{n}", "type": "user", "name": "x"} for n in range(30)]
        source.append([*small, *large, {"id": "large7", "type": "user", "name": "later, and small"}])
        sink = sink_of("redis", request, tmp_path, unique)
        letters = {"kind": "file", "path": str(tmp_path / "letters.jsonl")}
        strict = Operated(
            source, tmp_path, sink | {"event_bytes_max": "2KiB"}, on_rejected="dead_letter", dead_letter=letters
        )
        strict.deliver()
        listed = json.loads(strict.run("dead-letters", "list", PIPELINE, "--json"))
        assert len(listed) == 30
        assert "is more than" in listed[0]["reason"] or "more than event_bytes_max" in listed[0]["reason"]
        assert "x" * 5_000 in strict.run("dead-letters", "show", PIPELINE, listed[0]["id"])

        lenient = Operated(source, tmp_path, sink, on_rejected="dead_letter", dead_letter=letters)
        superseded = listed[7]["id"]
        refused = lenient.run("dead-letters", "redrive", PIPELINE, "--all", code=3)
        assert f"letter {superseded}: user/large7 was changed later" in refused
        lenient.run("dead-letters", "drop", PIPELINE, superseded)
        killed = killed_soon(
            lenient.start("dead-letters", "redrive", PIPELINE, "--all"), chance.uniform(0.6, 1.2), says=False
        )
        lenient.deliver()
        if killed:
            lenient.run("dead-letters", "redrive", PIPELINE, "--all")

        wanted = {one["id"] for one in listed} - {superseded}
        found = lenient.events()
        redriven = [one.id for one in found if one.id in wanted]
        assert sorted(redriven) == sorted(wanted), "each once"
        assert [one.id for one in found][-len(wanted) :] == sorted(wanted, key=int)
        assert json.loads(lenient.run("dead-letters", "list", PIPELINE, "--json")) == []
        every = json.loads(lenient.run("dead-letters", "list", PIPELINE, "--json", "--every"))
        assert sorted(one["handled"] for one in every) == ["dropped", *["redriven"] * 29]
        trail = lenient.run("audit")
        assert "dead-letters redrive" in trail
        assert "dead-letters drop" in trail


def test_verify_repairs_what_is_missing_where_the_order_of_its_key_allows_it(
    source: rig.EmulatorProcess, tmp_path: Path
) -> None:
    path = tmp_path / "events.jsonl"
    made = Operated(source, tmp_path, {"kind": "file", "path": str(path)})
    made.deliver()
    lines = [line + b"\n" for line in path.read_bytes().split(b"\n") if line]  # not at U+2028, which texts hold
    events = [json.loads(line) for line in lines]
    last_of_key = {event["subject"]: index for index, event in enumerate(events)}
    newest = sorted(last_of_key.values())[-40:-10]
    older = next(index for index, event in enumerate(events) if last_of_key[event["subject"]] > index)
    path.write_bytes(b"".join(line for index, line in enumerate(lines) if index not in {older, *newest}))
    sidecar = path.with_name(path.name + ".position")
    sidecar.write_text(json.dumps(json.loads(sidecar.read_text()) | {"length": path.stat().st_size}))

    said = made.run("verify", PIPELINE, "--repair", code=4)
    again = made.run("verify", PIPELINE, "--json", code=4)

    assert f"not repaired: {events[older]['id']}" in said
    assert "30 delivered now, 1 not" in said
    found = json.loads(again[: again.rindex("}") + 1])
    assert [one["id"] for one in found["missing"]["listed"]] == [events[older]["id"]]
    assert sorted(one.id for one in made.events()) == sorted({event["id"] for event in events} - {events[older]["id"]})
    assert "verify --repair" in made.run("audit")


@pytest.mark.parametrize("kind", ["file", "redis"])
def test_deletes_that_the_log_lost_are_told_by_a_snapshot_that_reconciles(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path, unique: str
) -> None:
    with rig.emulator() as source:
        ids = objects_made(source, 60)
        made = Operated(source, tmp_path, sink_of(kind, request, tmp_path, unique))
        made.deliver()
        for id_ in ids[:5]:
            headers = {"Authorization": source.authorization}
            url = f"{source.url}/objects/user/{id_}.json"
            urllib.request.urlopen(urllib.request.Request(url, headers=headers, method="DELETE")).close()
        source.fault("retention_cut", entries=65)
        made.deliver()
        source.written(3)
        made.deliver()

        made.run("snapshot", PIPELINE, "--reconcile")
        made.run("snapshot", PIPELINE, "--reconcile", "--types", "user")

        told = [one for one in made.events() if "-" in one.id]
        assert [one.operation for one in told] == ["snapshot"] * 55 + ["delete"] * (5 + 3) + ["snapshot"] * 55
        assert len({one.id for one in told}) == len(told)


def test_events_are_read_as_they_stand() -> None:
    assert Event._fields == ("id", "operation", "replay")
