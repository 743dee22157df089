"""What the sinks write to, as whoever looks after the servers sees it: nothing here shares code with the bridge."""

from __future__ import annotations

import asyncio
import contextlib
import json
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import redis
from aiokafka import AIOKafkaConsumer, TopicPartition
from nats.errors import Error as NatsError
from nats.js.errors import APIError

from auditor import Found, read_file, read_kafka, read_nats, read_posts, read_redis
from chaos.background import Background, Wire
from nats_reader import stream_client
from receiver import Receiver
from services import KafkaServer, NatsServer, RedisServer
from services.process import ServerProcess

NAME = "chaos"  # of topic, stream and file
PARTITIONS = 3
LATEST = 100  # posts; more than are ever under way
TAIL_BYTES = 256 * 1024  # of a file, in which its last line begins


class Destination(ABC):
    """One empty destination. With `wire` the bridge reaches it through a proxy, and nobody else does."""

    kind: str
    server: ServerProcess
    wire: Wire | None = None

    def __init__(
        self, background: Background, folder: Path, *, proxied: bool, more: dict[str, Any], options: dict[str, str]
    ) -> None:
        """`more` are settings of the sink, `options` of the server."""
        self.background = background
        self.folder = folder
        self.more = more
        self.begin(options)
        if proxied and self.kind != "file":
            self.wire = self.wired()

    @abstractmethod
    def begin(self, options: dict[str, str]) -> None:
        """Start what it is."""

    def wired(self) -> Wire:
        return Wire(self.background, self.port)

    @property
    def port(self) -> int:
        return self.server.port

    @property
    def reached_port(self) -> int:
        """Where the bridge finds it."""
        return self.port if self.wire is None else self.wire.port

    def settings(self) -> dict[str, Any]:
        """The sink's configuration."""
        return {"kind": self.kind, **self.sink(), **self.more}

    @abstractmethod
    def sink(self) -> dict[str, Any]:
        """What is the destination's own in that."""

    @abstractmethod
    def newest(self) -> int:
        """The highest sequence that a reader of committed data sees now; 0: none, or nobody answers."""

    @abstractmethod
    def read(self) -> list[Found]:
        """All of it, in its order."""

    def copies(self) -> int:
        """What a receiver was sent beyond the first of each."""
        return 0

    def kill(self) -> None:
        self.server.kill()

    def restart(self) -> None:
        self.server.restart()

    def close(self) -> None:
        if self.wire is not None:
            self.wire.close()
        self.server.close()


class FileDestination(Destination):
    kind = "file"

    def begin(self, options: dict[str, str]) -> None:
        self.path = self.folder / "events.jsonl"

    def sink(self) -> dict[str, Any]:
        return {"path": str(self.path)}

    def newest(self) -> int:
        if not self.path.exists():
            return 0
        with self.path.open("rb") as file:
            file.seek(max(0, self.path.stat().st_size - TAIL_BYTES))
            lines = file.read().split(b"\n")
        # What has no newline yet is not whole, and the first of these may have lost its beginning.
        return int(json.loads(lines[-2])["id"]) if len(lines) > 1 and lines[-2] else 0

    def read(self) -> list[Found]:
        return read_file(self.path)

    def close(self) -> None:
        pass


class RedisDestination(Destination):
    kind = "redis"
    server: RedisServer

    def begin(self, options: dict[str, str]) -> None:
        """`appendfsync: always`: what was acknowledged survives the server's own SIGKILL."""
        self.server = RedisServer().start(config={"appendfsync": "always", **options})
        self.reader = self.server  # the one that counts, after a fail-over another
        self._others: list[RedisServer] = []

    def also(self, server: RedisServer) -> RedisServer:
        """Ended with this destination."""
        self._others.append(server)
        return server

    def sink(self) -> dict[str, Any]:
        return {"url": f"redis://127.0.0.1:{self.reached_port}/0", "stream": NAME, "timeout": "2s"}

    def newest(self) -> int:
        try:
            with redis.Redis(port=self.reader.port, socket_timeout=2) as client:
                last = client.xrevrange(NAME, count=1)
        except redis.RedisError:
            return 0
        return int(last[0][0].partition(b"-")[0]) if last else 0

    def read(self) -> list[Found]:
        return read_redis(self.reader.url, NAME)

    def close(self) -> None:
        super().close()
        for server in self._others:
            server.close()


class NatsDestination(Destination):
    kind = "nats"
    server: NatsServer

    def begin(self, options: dict[str, str]) -> None:
        self.server = NatsServer().start()

    def sink(self) -> dict[str, Any]:
        url = f"nats://127.0.0.1:{self.reached_port}"
        return {"url": url, "stream": NAME, "subject": f"{NAME}.{{type}}", "create": True}

    def newest(self) -> int:
        return self.background.run(self._newest())

    async def _newest(self) -> int:
        try:
            async with asyncio.timeout(2), stream_client(self.server.url) as jetstream:
                last = (await jetstream.stream_info(NAME)).state.last_seq
                message = await jetstream.get_msg(NAME, last)
        except (NatsError, APIError, OSError, TimeoutError):
            return 0
        return int((message.headers or {})["Oplog-Sequence"])

    def read(self) -> list[Found]:
        return self.background.run(read_nats(self.server.url, NAME))


class KafkaDestination(Destination):
    kind = "kafka"
    server: KafkaServer

    def begin(self, options: dict[str, str]) -> None:
        self.server = KafkaServer().start(config=options)
        self._consumer: AIOKafkaConsumer | None = None
        self._newest = 0

    def wired(self) -> Wire:
        """On the port that the broker's own listener for it advertises."""
        return Wire(self.background, self.server.behind_proxy_port, port=self.server.proxied_port)

    def sink(self) -> dict[str, Any]:
        servers = f"127.0.0.1:{self.reached_port}"
        return {"bootstrap_servers": servers, "topic": NAME, "create": True, "partitions": PARTITIONS, "timeout": "5s"}

    def newest(self) -> int:
        return self.background.run(self._look())

    async def _look(self) -> int:
        """Reads on from where it was: as a consumer does."""
        try:
            async with asyncio.timeout(5):
                consumer = self._consumer or await self._started()
                for records in (await consumer.getmany(timeout_ms=20)).values():
                    sequences = [int(dict(record.headers)["Oplog-Sequence"]) for record in records]
                    self._newest = max([self._newest, *sequences])
        except (OSError, RuntimeError, TimeoutError):  # KafkaError is a RuntimeError
            await self.forget()
        return self._newest

    async def _started(self) -> AIOKafkaConsumer:
        self._consumer = consumer = AIOKafkaConsumer(
            bootstrap_servers=self.server.bootstrap_servers,
            isolation_level="read_committed",
            enable_auto_commit=False,
            fetch_max_wait_ms=10,
        )
        await consumer.start()
        metadata = await consumer._client.fetch_all_metadata()
        partitions = [TopicPartition(NAME, number) for number in metadata.partitions_for_topic(NAME) or ()]
        if not partitions:
            raise OSError("no topic yet")
        consumer.assign(partitions)
        await consumer.seek_to_beginning(*partitions)
        return consumer

    async def forget(self) -> None:
        """Look anew: the broker does not answer, or the topic is another one, or has other partitions."""
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(2):
                    await consumer.stop()

    def read(self) -> list[Found]:
        return self.background.run(read_kafka(self.server.bootstrap_servers, NAME), within_seconds=120)

    def close(self) -> None:
        self.background.run(self.forget())
        super().close()


class WebhookDestination(Destination):
    """At least once; the receiver drops copies by their id, as it is told to."""

    kind = "webhook"

    def begin(self, options: dict[str, str]) -> None:
        self.receiver = Receiver()
        self.restart()

    @property
    def port(self) -> int:
        return self.receiver.port

    def sink(self) -> dict[str, Any]:
        local = {"allow_http": True, "allow_private_addresses": True, "ack_wait": "2s"}
        return {"url": f"http://127.0.0.1:{self.reached_port}/hook", **local}

    def newest(self) -> int:
        latest = self.receiver.acknowledged[-LATEST:]  # by key, the highest is not always the last
        return max((int(post.headers["Oplog-Sequence"]) for post in latest), default=0)

    def read(self) -> list[Found]:
        posts = [(post.id, post.key, post.body) for post in self.receiver.acknowledged]
        return read_posts(posts, by_key=self.more.get("ordering") == "key")

    def copies(self) -> int:
        return len(self.receiver.posts) - len({post.id for post in self.receiver.posts})

    def kill(self) -> None:
        self.background.run(self.receiver.__aexit__())

    def restart(self) -> None:
        self.background.run(self.receiver.__aenter__())

    def close(self) -> None:
        if self.wire is not None:
            self.wire.close()
        self.kill()


DESTINATIONS: dict[str, type[Destination]] = {
    destination.kind: destination
    for destination in (KafkaDestination, RedisDestination, NatsDestination, FileDestination, WebhookDestination)
}
