"""Input that nobody here wrote, carried by the commands themselves through every exactly-once sink, and audited there.

`python tests/real_data.py` takes Debian's package index (`apt-cache dumpavail`, more than 50,000 records) where there
is one, else the text of Python's own library. `oplog-bridge emulator --load` plays it, `oplog-bridge run` carries it to
a real Kafka, a real Redis and a file at once, and a reader that shares nothing with the sinks holds what it finds
against the input: every entry once, in order, its object byte for byte.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
import urllib.request
from collections.abc import AsyncIterator, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec
import redis
import yaml
from aiokafka import AIOKafkaConsumer, TopicPartition

from services import KafkaServer, MissingServer, RedisServer

PARTITIONS = 3
PACKAGES_MIN = 1_000  # fewer is a machine whose index was never fetched
CHUNK_LINES = 40
PAGE_ENTRIES = 1_000
RUN_WITHIN_SECONDS = 600
DIFFERENCES_SHOWN_MAX = 5

Entry = tuple[int, bytes]  # a sequence, and the bytes of its object


# ---- the input


def records(limit: int | None = None) -> Iterator[bytes]:
    """JSON Lines, each an object with `type` and `id`."""
    packages = islice(_packages(), limit)
    first = list(islice(packages, PACKAGES_MIN))
    if len(first) == min(PACKAGES_MIN, limit or PACKAGES_MIN):
        yield from first
        yield from packages
        return
    print(
        f"apt-cache has {len(first)} packages here (`apt-get update` fetches the index on Debian and Ubuntu): "
        "taking the text of Python's own library instead",
        file=sys.stderr,
    )
    yield from islice(_library(), limit)


def _packages() -> Iterator[bytes]:
    """A record for each version of each package, with its fields as they are."""
    program = shutil.which("apt-cache")
    if program is None:
        return
    with subprocess.Popen([program, "dumpavail"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as dumping:
        assert dumping.stdout is not None
        fields: dict[str, str] = {}
        name = ""
        for raw in dumping.stdout:
            line = raw.decode(errors="replace").rstrip("\n")
            if not line:
                yield _package(fields)
                fields = {}
            elif line[0] in " \t":
                fields[name] += "\n" + line
            else:
                name, _, value = line.partition(":")
                fields[name] = value.strip()
        if fields:
            yield _package(fields)


def _package(fields: dict[str, str]) -> bytes:
    id_ = f"{fields.get('Package')}={fields.get('Version')}:{fields.get('Architecture')}"
    return _line({"type": "package", "id": id_, **fields})


def _library() -> Iterator[bytes]:
    """A record for every few lines of the standard library: quotes, escapes, tabs, other alphabets."""
    root = Path(sysconfig.get_paths()["stdlib"])
    for path in sorted(root.rglob("*.py")):
        lines = path.read_text(errors="replace").splitlines()
        for begin in range(0, len(lines), CHUNK_LINES):
            name = str(path.relative_to(root))
            text = "\n".join(lines[begin : begin + CHUNK_LINES])
            yield _line({"type": "source", "id": f"{name}:{begin + 1}", "file": name, "text": text})


def _line(object_: dict[str, str]) -> bytes:
    return json.dumps(object_, ensure_ascii=False, separators=(",", ":")).encode()


# ---- the way


@contextlib.contextmanager
def played(lines: Path) -> Iterator[str]:
    """`oplog-bridge emulator --load`: its base URL."""
    command = ["emulator", "--listen", "127.0.0.1:0", "--password", "secret", "--load", str(lines)]
    with subprocess.Popen(
        [sys.executable, "-m", "oplogbridge", *command], stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            said = process.stdout.readline()  # once its port answers
            if not said.startswith("v4 "):
                raise RuntimeError(f"the emulator said {said!r}")
            yield said.removeprefix("v4 ").strip()
        finally:
            process.terminate()


def configuration(url: str, sinks: dict[str, dict[str, Any]], name: str, directory: Path) -> Path:
    """One source, and a pipeline for each sink."""
    auth = {"username": url.rpartition("/")[2], "password": "secret"}
    path = directory / "oplog-bridge.yaml"
    settings = {
        "name": name,
        "state": f"sqlite:///{directory / 'state.db'}",
        "sources": {"real": {"url": url, "auth": auth, "poll_interval": "1ms"}},
        "pipelines": {f"to-{kind}": {"source": "real", "sink": {"kind": kind, **sink}} for kind, sink in sinks.items()},
    }
    path.write_text(yaml.safe_dump(settings))
    return path


def carried(configuration: Path) -> None:
    """`oplog-bridge run --until-caught-up`. Raises CalledProcessError when it doesn't end with 0."""
    command = ["run", "-c", str(configuration), "--until-caught-up", "--admin", "off"]
    subprocess.run([sys.executable, "-m", "oplogbridge", *command], check=True, timeout=RUN_WITHIN_SECONDS)


# ---- the audit


class _EventData(msgspec.Struct):
    sequence: str
    object: msgspec.Raw


class _Event(msgspec.Struct):
    id: str
    data: _EventData


_event = msgspec.json.Decoder(_Event)


def entry_of(payload: bytes) -> Entry:
    """What a CloudEvent says that its entry was, without the second that the emulator wrote into the object."""
    event = _event.decode(payload)
    assert event.id == event.data.sequence
    stamped = bytes(event.data.object)
    begin = b'{"updated_at":"'
    assert stamped.startswith(begin)
    return int(event.id), b"{" + stamped[stamped.index(b'",', len(begin)) + 2 :]


def sequences_at(url: str) -> list[int]:
    """Every sequence of the source, in its order: asked with plain numbers, which the bridge does not do."""
    login = urllib.request.HTTPPasswordMgrWithPriorAuth()
    login.add_password(None, url, url.rpartition("/")[2], "secret", is_authenticated=True)
    opener = urllib.request.build_opener(urllib.request.HTTPBasicAuthHandler(login))
    sequences: list[int] = []
    while True:
        start = sequences[-1] + 1 if sequences else 0
        with opener.open(f"{url}/oplog.json?start={start}&limit={PAGE_ENTRIES}") as answer:
            page = json.load(answer)["entries"]
        if not page:
            return sequences
        sequences += [entry["sequence"] for entry in page]


async def kafka_logs(bootstrap_servers: str, topic: str) -> list[list[Entry]]:
    """What a reader of committed data finds, a list for each partition."""
    return [[entry async for entry in _partition(bootstrap_servers, topic, number)] for number in range(PARTITIONS)]


async def _partition(bootstrap_servers: str, topic: str, number: int) -> AsyncIterator[Entry]:
    partition = TopicPartition(topic, number)
    reader = AIOKafkaConsumer(bootstrap_servers=bootstrap_servers, enable_auto_commit=False)  # sees the real end
    async with (
        reader,
        AIOKafkaConsumer(
            bootstrap_servers=bootstrap_servers, isolation_level="read_committed", enable_auto_commit=False
        ) as consumer,
    ):
        end = (await reader.end_offsets([partition]))[partition]
        consumer.assign([partition])
        await consumer.seek_to_beginning(partition)
        while await consumer.position(partition) < end:
            for found in (await consumer.getmany(timeout_ms=1000)).values():
                for record in found:
                    entry = entry_of(record.value)
                    assert ("Oplog-Sequence", str(entry[0]).encode()) in record.headers
                    yield entry


def redis_log(url: str, stream: str) -> list[Entry]:
    entries: list[Entry] = []
    after = b"-"
    with redis.Redis.from_url(url) as client:
        while found := client.xrange(stream, min=after, count=PAGE_ENTRIES):
            after = b"(" + found[-1][0]
            for id_, fields in found:
                entries.append(entry_of(fields[b"event"]))
                assert id_ == b"%d-0" % entries[-1][0]
    return entries


def file_log(path: Path) -> list[Entry]:
    with path.open("rb") as lines:
        return [entry_of(line) for line in lines]


def differences(expected: Sequence[Entry], logs: Sequence[Sequence[Entry]]) -> list[str]:
    """What is wrong with the logs that together should hold the expected entries; empty when nothing is."""
    wanted = dict(expected)
    found: dict[int, int] = {}
    wrong: list[str] = []
    for number, log in enumerate(logs):
        last = 0
        for sequence, object_ in log:
            if sequence <= last:
                wrong.append(f"log {number}: {sequence} comes after {last}")
            last = sequence
            found[sequence] = found.get(sequence, 0) + 1
            if wanted.get(sequence, object_) != object_:
                wrong.append(f"log {number}: the object of {sequence} is not the input's: {object_[:200]!r}")
    wrong += [f"{sequence} is there {times} times" for sequence, times in found.items() if times > 1]
    wrong += [f"{sequence} is missing" for sequence in wanted if sequence not in found]
    wrong += [f"{sequence} is nothing that the source has" for sequence in found if sequence not in wanted]
    return wrong


async def audited(
    lines: Path, url: str, kafka: KafkaServer, redis_server: RedisServer, name: str, directory: Path
) -> dict[str, list[str]]:
    """Carry the lines, and tell for each sink what is wrong there."""
    file = directory / "events.jsonl"
    sinks: dict[str, dict[str, Any]] = {
        "kafka": {
            "bootstrap_servers": kafka.bootstrap_servers,
            "topic": name,
            "create": True,
            "partitions": PARTITIONS,
            "replication_factor": 1,
        },
        "redis": {"url": redis_server.url, "stream": name},
        "file": {"path": str(file)},
    }
    await asyncio.to_thread(carried, configuration(url, sinks, name, directory))
    expected = list(zip(sequences_at(url), lines.read_bytes().splitlines(), strict=True))
    return {
        "kafka": differences(expected, await kafka_logs(kafka.bootstrap_servers, name)),
        "redis": differences(expected, [redis_log(redis_server.url, name)]),
        "file": differences(expected, [file_log(file)]),
    }


async def main(limit: int | None) -> int:
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="real-data-")))
        kafka = stack.enter_context(KafkaServer()).start()
        redis_server = stack.enter_context(RedisServer()).start()
        lines = directory / "records.jsonl"
        lines.write_bytes(b"".join(line + b"\n" for line in records(limit)))
        count, size_mib = lines.read_bytes().count(b"\n"), lines.stat().st_size / 2**20
        print(f"{count:,} records, {size_mib:.0f} MiB")
        url = stack.enter_context(played(lines))
        begun = time.monotonic()
        found = await audited(lines, url, kafka, redis_server, "real-data", directory)
        for kind, wrong in found.items():
            print(f"{kind:<6} {'every entry once, in order, byte for byte' if not wrong else f'{len(wrong):,} wrong'}")
            for line in wrong[:DIFFERENCES_SHOWN_MAX]:
                print(f"       {line}")
        print(f"carried and audited in {time.monotonic() - begun:.0f} s")
    return 1 if any(found.values()) else 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Real data through every exactly-once sink, audited there.")
    parser.add_argument("--records", type=int, help="at most so many; default: all")
    try:
        sys.exit(asyncio.run(main(parser.parse_args().records)))
    except MissingServer as missing:
        print(missing, file=sys.stderr)
        sys.exit(2)
