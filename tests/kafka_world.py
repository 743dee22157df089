"""What the tests of the Kafka sink are written in: one pipeline's names on a broker, and its sinks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from kafka_reader import Record, admin, read_committed
from oplogbridge import Batch, Misconfigured, Sink, SinkContext, Unavailable
from oplogbridge.testing.sink_rig import assert_ends_in_a_next_step
from oplogbridge_sinks.kafka import KafkaSettings, plugin

_DELIVERED_WITHIN_SECONDS = 60.0


class World:
    """One pipeline's names on a shared broker."""

    def __init__(self, bootstrap_servers: str, name: str) -> None:
        self.servers = bootstrap_servers
        self.owner = f"{name}.orders"
        self.topic = f"{name}.shop"
        self.by_type = f"{name}.{{type}}"
        self.checkpoint = f"{name}.orders.checkpoint"
        self.name = name

    def sink(self, **changes: Any) -> Sink:
        settings = {"bootstrap_servers": self.servers, "topic": f"{self.name}.{{source}}", "timeout": "30s"} | changes
        context = SinkContext(self.owner, "orders", "shop", "https://run.example.com/api/v4/1")
        return plugin.build(KafkaSettings.model_validate(settings), context)

    @asynccontextmanager
    async def opened(self, **changes: Any) -> AsyncIterator[Sink]:
        sink = self.sink(**changes)
        try:
            await sink.open()
            yield sink
        finally:
            await sink.close()

    async def refused(self, **changes: Any) -> str:
        """What opening says."""
        sink = self.sink(**changes)
        try:
            with pytest.raises(Misconfigured) as stopped:
                await sink.open()
            assert_ends_in_a_next_step(stopped.value)
            return str(stopped.value)
        finally:
            await sink.close()

    async def topics(self) -> list[str]:
        """Those of events that there are."""
        async with admin(self.servers) as client:
            names = await client.list_topics()
        return sorted(name for name in names if name.startswith(f"{self.name}.") and name != self.checkpoint)

    async def sequences(self, topic: str | None = None) -> list[int]:
        return [sequence_of(record) for record in await self.records(topic)]

    async def records(self, topic: str | None = None) -> list[Record]:
        return await read_committed(self.servers, topic or self.topic)


async def deliver(sink: Sink, batches: Sequence[Batch]) -> int:
    """What a pipeline does, doubts and all: returns how often it had to open the sink."""
    openings = 0
    deadline = asyncio.get_running_loop().time() + _DELIVERED_WITHIN_SECONDS
    while True:
        try:
            openings += 1
            position = await sink.open()
            for batch in batches:
                if position is None or batch.from_offset >= position.offset:
                    position = await sink.write(batch)
            return openings
        except Unavailable:
            if asyncio.get_running_loop().time() > deadline:
                raise
        finally:
            await sink.close()


def sequence_of(record: Record) -> int:
    return int(dict(record.headers)["Oplog-Sequence"])
