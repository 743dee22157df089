"""Where a run delivers to: made fresh for each, watched while it runs, read back by an independent reader."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any, Protocol, Self

import msgspec
import nats
import redis.asyncio
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from arrived import sequences_of
from child import Child, child, script

from services import KafkaServer, NatsServer, RedisServer

READ_ENTRIES = 5_000
WEBHOOK_SECRET = "whsec_" + "YmVuY2htYXJr" * 3  # every request is signed


class Destination(Protocol):
    """`async with` makes it and removes it again, so that no run pays for what an earlier one left."""

    kind: str
    name: str
    expected: int  # the least `end` that holds everything

    @property
    def server_pid(self) -> int: ...

    def sink(self) -> dict[str, Any]:
        """The bridge's `sink:`."""

    async def end(self) -> int:
        """How far it is written; cheap, since it is asked fifty times a second."""

    def stored(self) -> AsyncIterator[list[int]]:
        """The sequences that a reader finds, in the destination's order."""

    async def __aenter__(self) -> Self: ...

    async def __aexit__(self, *_: object) -> None: ...


class KafkaTopic:
    """One partition, so that its order is the oplog's."""

    kind = "kafka"

    def __init__(self, server: KafkaServer, name: str, expected: int) -> None:
        self.name = name
        self.expected = expected
        self._server = server
        self._partition = TopicPartition(name, 0)
        self._watcher: AIOKafkaConsumer | None = None

    @property
    def bootstrap_servers(self) -> str:
        return self._server.bootstrap_servers

    @property
    def server_pid(self) -> int:
        return self._server.pid

    @property
    def checkpoint_topic(self) -> str:
        """What the sink calls it for a bridge of our name with a pipeline `bench`; the client alone uses it too."""
        return f"{self.name}.bench.checkpoint"

    def sink(self) -> dict[str, Any]:
        return {"kind": "kafka", "bootstrap_servers": self.bootstrap_servers, "topic": self.name}

    async def end(self) -> int:
        """The high watermark; in a log of transactions it counts their markers as well."""
        assert self._watcher is not None
        return int((await self._watcher.end_offsets([self._partition]))[self._partition])

    async def stored(self) -> AsyncIterator[list[int]]:
        async for records in committed_records(self.bootstrap_servers, self._partition, await self.end()):
            yield sequences_of([record.value for record in records])

    async def __aenter__(self) -> Self:
        configs = {"cleanup.policy": "compact", "segment.bytes": str(16 << 20)}  # as the sink makes its own
        checkpoint = NewTopic(self.checkpoint_topic, 1, 1, topic_configs=configs)
        await self._admin("create_topics", [NewTopic(self.name, 1, 1), checkpoint])
        self._watcher = AIOKafkaConsumer(bootstrap_servers=self.bootstrap_servers)
        await self._watcher.start()
        await self._watcher.end_offsets([self._partition])
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._watcher is not None:
            await self._watcher.stop()
        await self._admin("delete_topics", [self.name, self.checkpoint_topic])

    async def _admin(self, what: str, topics: Sequence[Any]) -> None:
        admin = AIOKafkaAdminClient(bootstrap_servers=self.bootstrap_servers)
        await admin.start()
        try:
            await getattr(admin, what)(topics)
        finally:
            await admin.close()


async def committed_records(bootstrap_servers: str, partition: TopicPartition, end: int) -> AsyncIterator[list[Any]]:
    """What a reader of committed data finds from the beginning to the high watermark `end`."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap_servers,
        isolation_level="read_committed",
        enable_auto_commit=False,
        fetch_max_wait_ms=50,
        max_partition_fetch_bytes=8 << 20,
    )
    await consumer.start()
    try:
        consumer.assign([partition])
        await consumer.seek_to_beginning(partition)
        while await consumer.position(partition) < end:
            for records in (await consumer.getmany(timeout_ms=1000, max_records=READ_ENTRIES)).values():
                yield records
    finally:
        await consumer.stop()


class RedisStream:
    kind = "redis"

    def __init__(self, server: RedisServer, name: str, expected: int) -> None:
        self.name = name
        self.expected = expected
        self._server = server
        self._client = redis.asyncio.from_url(server.url)

    @property
    def url(self) -> str:
        return self._server.url

    @property
    def server_pid(self) -> int:
        return self._server.pid

    def sink(self) -> dict[str, Any]:
        return {"kind": "redis", "url": self.url, "stream": self.name}

    async def end(self) -> int:
        return int(await self._client.xlen(self.name))

    async def stored(self) -> AsyncIterator[list[int]]:
        after = "-"
        while entries := await self._client.xrange(self.name, min=after, count=READ_ENTRIES):
            after = b"(" + entries[-1][0]
            yield sequences_of([_payload(fields) for _, fields in entries])

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.flushall()
        await self._client.aclose()


class NatsStream:
    kind = "nats"

    def __init__(self, server: NatsServer, name: str, expected: int) -> None:
        self.name = name
        self.expected = expected
        self._server = server
        self._client = nats.NATS()

    @property
    def url(self) -> str:
        return self._server.url

    @property
    def server_pid(self) -> int:
        return self._server.pid

    def sink(self) -> dict[str, Any]:
        return {"kind": "nats", "url": self.url, "stream": self.name, "subject": f"{self.name}.{{type}}.{{operation}}"}

    async def end(self) -> int:
        return int((await self._client.jetstream().stream_info(self.name)).state.messages)

    async def stored(self) -> AsyncIterator[list[int]]:
        subscription = await self._client.jetstream().subscribe("", stream=self.name, ordered_consumer=True)
        left = await self.end()
        while left:
            part = [await subscription.next_msg(timeout=10) for _ in range(min(left, READ_ENTRIES))]
            left -= len(part)
            yield sequences_of([message.data for message in part])

    async def __aenter__(self) -> Self:
        await self._client.connect(self.url)
        await self._client.jetstream().add_stream(
            name=self.name, subjects=[f"{self.name}.>"], allow_atomic=True, storage="file"
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.jetstream().delete_stream(self.name)
        await self._client.close()


def _payload(fields: dict[bytes, bytes]) -> bytes:
    """Ours is in `event`; a peer may call it what it likes."""
    return fields.get(b"event") or next(value for value in fields.values() if value[:1] == b"{")


class _Sidecar(msgspec.Struct):
    length: int


class LineFile:
    kind = "file"

    def __init__(self, directory: Path, name: str, expected: int) -> None:
        self.name = name
        self.expected = expected
        self._directory = directory / name
        self.path = self._directory / "events.jsonl"

    @property
    def server_pid(self) -> int:
        return os.getpid()  # there is none; a process has to be named

    def sink(self) -> dict[str, Any]:
        return {"kind": "file", "path": str(self.path)}

    async def end(self) -> int:
        """The length that counts: what the sidecar says where there is one."""
        try:
            return msgspec.json.decode(Path(f"{self.path}.position").read_bytes(), type=_Sidecar).length
        except FileNotFoundError:
            return self.path.stat().st_size if self.path.exists() else 0

    async def stored(self) -> AsyncIterator[list[int]]:
        with self.path.open("rb") as lines:
            while part := lines.readlines(READ_ENTRIES * 500):
                yield sequences_of(part)

    async def __aenter__(self) -> Self:
        self._directory.mkdir()
        return self

    async def __aexit__(self, *_: object) -> None:
        shutil.rmtree(self._directory)


class Webhook:
    """A receiver in a process of its own, which writes down what it takes."""

    kind = "webhook"

    def __init__(self, directory: Path, name: str, expected: int, options: dict[str, Any]) -> None:
        self.name = name
        self.expected = expected
        self._options = options
        self._directory = directory
        self._path = directory / f"{name}.posts"
        self._running = contextlib.AsyncExitStack()
        self._process: Child | None = None
        self.url = ""

    @property
    def server_pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def sink(self) -> dict[str, Any]:
        inside = {"allow_http": True, "allow_private_addresses": True}
        return {"kind": "webhook", "url": self.url, "secret": WEBHOOK_SECRET, **inside, **self._options}

    async def end(self) -> int:
        return self._path.stat().st_size

    async def stored(self) -> AsyncIterator[list[int]]:
        with self._path.open("rb") as lines:
            while part := lines.readlines(READ_ENTRIES * 500):
                payloads = [bytes(one) for line in part for one in _payloads(line)]
                yield sequences_of(payloads)

    async def __aenter__(self) -> Self:
        command = script("receiver.py", str(self._path))
        self._process = await self._running.enter_async_context(
            child(f"{self.name}-receiver", command, self._directory)
        )
        self.url = f"http://127.0.0.1:{await self._process.line()}/hook"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._running.aclose()
        self._path.unlink()


def _payloads(line: bytes) -> list[Any]:
    return msgspec.json.decode(line, type=list[msgspec.Raw]) if line[:1] == b"[" else [line]
