"""The destinations that keep a position, each empty, and what can happen to them from outside."""

from __future__ import annotations

import json
import shutil
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from redis.asyncio import Redis

from kafka_reader import delete_topic, read_committed
from nats_reader import Message, read_stream, stream_client
from oplogbridge.sink import Sink, SinkContext, SinkPlugin
from oplogbridge_sinks.file import FileSettings
from oplogbridge_sinks.file import plugin as file_plugin
from oplogbridge_sinks.kafka import KafkaSettings
from oplogbridge_sinks.kafka import plugin as kafka_plugin
from oplogbridge_sinks.nats import NatsSettings
from oplogbridge_sinks.nats import plugin as nats_plugin
from oplogbridge_sinks.redis import RedisSettings
from oplogbridge_sinks.redis import plugin as redis_plugin
from services import KafkaServer, NatsServer, RedisServer
from world import SOURCE, SOURCE_ID


class Place(ABC):
    """One empty destination, as whoever looks after the server sees it."""

    kind: str
    plugin: SinkPlugin
    settings: BaseModel
    renamed: BaseModel  # settings of another destination, which finds this one's position
    log_goes_back = True  # what `lose_writes` takes away, it takes from the log too

    def __init__(self, pipeline: str) -> None:
        self.pipeline = pipeline

    def sink(self, source_id: str = SOURCE_ID) -> Sink:
        """Somebody else's, with the pipeline's own name."""
        return self.plugin.build(
            self.settings, SinkContext(f"bridge.{self.pipeline}", self.pipeline, SOURCE, source_id)
        )

    @abstractmethod
    async def sequences(self) -> list[int]:
        """What a reader finds, in the destination's order."""

    @abstractmethod
    async def offset(self) -> int | None:
        """The position, read by a stranger."""

    @abstractmethod
    async def remember(self) -> None:
        """Keep a copy: a backup, a replica that lags."""

    @abstractmethod
    async def lose_writes(self) -> None:
        """Back to the copy."""

    @abstractmethod
    async def forget_position(self) -> None:
        """The record of the position is deleted; the log stays."""

    @abstractmethod
    async def forget_everything(self) -> None:
        """Log and position are deleted."""


class FilePlace(Place):
    kind = "file"
    plugin = file_plugin

    def __init__(self, pipeline: str, directory: Path) -> None:
        super().__init__(pipeline)
        (directory / "copy").mkdir()
        self._copy = directory / "copy"
        self.path = directory / "shop.jsonl"
        self.sidecar = directory / "shop.jsonl.position"
        self.settings = FileSettings(path=str(self.path))
        # The same file by another name.
        (directory / "link").symlink_to(directory)
        self.renamed = FileSettings(path=str(directory / "link" / "shop.jsonl"))

    async def sequences(self) -> list[int]:
        if not self.path.exists():
            return []
        return [int(json.loads(line)["id"]) for line in self.path.read_bytes().splitlines()]

    async def offset(self) -> int | None:
        return int(json.loads(self.sidecar.read_bytes())["offset"]) if self.sidecar.exists() else None

    async def remember(self) -> None:
        for file in (self.path, self.sidecar):
            shutil.copy(file, self._copy / file.name)

    async def lose_writes(self) -> None:
        for file in (self.path, self.sidecar):
            (self._copy / file.name).replace(file)

    async def forget_position(self) -> None:
        self.sidecar.unlink()

    async def forget_everything(self) -> None:
        self.sidecar.unlink()
        self.path.unlink()


class RedisPlace(Place):
    kind = "redis"
    plugin = redis_plugin

    def __init__(self, pipeline: str, server: RedisServer) -> None:
        super().__init__(pipeline)
        self._port = server.port
        # What is in double braces is the tag, which names the hash of the position.
        self.settings = RedisSettings.model_validate(
            {"url": server.url, "stream": f"{{{{{pipeline}}}}}:{{source}}", "timeout": "10s"}
        )
        self.renamed = RedisSettings.model_validate(
            {"url": server.url, "stream": f"{{{{{pipeline}}}}}:renamed", "timeout": "10s"}
        )
        self.stream = f"{{{pipeline}}}:{SOURCE}"
        self.hash = f"{{{pipeline}}}:oplog-bridge"
        self._copy: dict[str, bytes] = {}

    async def sequences(self) -> list[int]:
        return [int(entry.partition(b"-")[0]) for entry, _ in await self._ask(lambda redis: redis.xrange(self.stream))]

    async def offset(self) -> int | None:
        kept = await self._ask(lambda redis: redis.hget(self.hash, "offset"))
        return None if kept is None else int(kept)

    async def remember(self) -> None:
        for key in (self.stream, self.hash):
            self._copy[key] = await self._ask(lambda redis, key=key: redis.dump(key))

    async def lose_writes(self) -> None:
        for key, dump in self._copy.items():
            await self._ask(lambda redis, key=key, dump=dump: redis.restore(key, 0, dump, replace=True))

    async def forget_position(self) -> None:
        await self._ask(lambda redis: redis.delete(self.hash))

    async def forget_everything(self) -> None:
        await self._ask(lambda redis: redis.delete(self.hash, self.stream))

    async def _ask(self, question: Callable[[Redis], Awaitable[Any]]) -> Any:
        async with Redis(port=self._port) as redis:
            return await question(redis)


class KafkaPlace(Place):
    kind = "kafka"
    plugin = kafka_plugin
    log_goes_back = False  # one broker cannot be made to lose what it has committed

    def __init__(self, pipeline: str, server: KafkaServer) -> None:
        super().__init__(pipeline)
        self._servers = server.bootstrap_servers
        common = {"bootstrap_servers": self._servers, "create": True, "partitions": 1, "timeout": "5s"}
        self.settings = KafkaSettings.model_validate({**common, "topic": f"{pipeline}.{{source}}"})
        self.renamed = KafkaSettings.model_validate({**common, "topic": f"{pipeline}.renamed"})
        self.topic = f"{pipeline}.{SOURCE}"
        self.checkpoint = f"bridge.{pipeline}.checkpoint"
        self._copy = 0

    async def sequences(self) -> list[int]:
        return [int(dict(r.headers)["Oplog-Sequence"]) for r in await read_committed(self._servers, self.topic)]

    async def offset(self) -> int | None:
        records = await read_committed(self._servers, self.checkpoint)
        return int(json.loads(records[-1].value or b"")["offset"]) if records else None

    async def remember(self) -> None:
        self._copy = await self.offset() or 0

    async def lose_writes(self) -> None:
        """The nearest that one broker comes to it: the same owner's position goes back. The records stay."""
        sink = self.sink()
        await sink.open()
        await sink.move(self._copy)
        await sink.close()

    async def forget_position(self) -> None:
        await delete_topic(self._servers, self.checkpoint)

    async def forget_everything(self) -> None:
        await delete_topic(self._servers, self.checkpoint)
        await delete_topic(self._servers, self.topic)


class NatsPlace(Place):
    kind = "nats"
    plugin = nats_plugin

    def __init__(self, pipeline: str, server: NatsServer) -> None:
        super().__init__(pipeline)
        self._url = server.url
        self.stream = pipeline
        common = {"url": server.url, "stream": self.stream, "create": True, "timeout": "10s"}
        self.settings = NatsSettings.model_validate(
            {**common, "subject": f"{pipeline}.{{source}}.{{type}}.{{operation}}"}
        )
        self.renamed = NatsSettings.model_validate(
            {**common, "subject": f"{pipeline}.{{source}}.{{operation}}.{{type}}"}
        )
        self._copy: list[Message] = []

    async def sequences(self) -> list[int]:
        return [one.sequence_of_the_oplog for one in await read_stream(self._url, self.stream)]

    async def offset(self) -> int | None:
        messages = await read_stream(self._url, self.stream)
        return int(dict(messages[-1].headers)["Oplog-Offset"]) if messages else None

    async def remember(self) -> None:
        self._copy = await read_stream(self._url, self.stream)

    async def lose_writes(self) -> None:
        """As a backup has it."""
        async with stream_client(self._url) as jetstream:
            config = (await jetstream.stream_info(self.stream)).config
            await jetstream.delete_stream(self.stream)
            await jetstream.add_stream(config)
            for one in self._copy:
                headers = {name: value.decode() for name, value in one.headers if not name.startswith("Nats-")}
                await jetstream.publish(one.subject, one.data, headers=headers)

    async def forget_position(self) -> None:
        """The last message is deleted, and the stream's last sequence tells that there was one."""
        last = (await read_stream(self._url, self.stream))[-1].sequence
        async with stream_client(self._url) as jetstream:
            await jetstream.delete_msg(self.stream, last)

    async def forget_everything(self) -> None:
        async with stream_client(self._url) as jetstream:
            await jetstream.delete_stream(self.stream)
