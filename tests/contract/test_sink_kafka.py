"""The Kafka sink keeps the contract. What only Kafka does is in tests/integration/test_kafka_*.py."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import ClassVar, Literal

import pytest

from kafka_reader import cut_front, make_topic, read_committed, write_record
from oplogbridge import DestinationReader, Event, Sink
from oplogbridge.testing import ReadBack, SinkContract, SinkReaderContract, SinkRig
from oplogbridge.testing.proxy import FaultProxy
from oplogbridge.testing.sink_reading import all_of, cloudevent, reading, written
from oplogbridge.testing.sink_rig import FIRST, SOURCE_ID, make_batch
from oplogbridge_sinks.kafka import KafkaSettings, plugin
from services import KafkaServer

_END_TRANSACTION_KEY = 26
_UNCOMPRESSED_TOPIC_BYTES_MAX = 1_048_588


def _ends_a_transaction(request: bytes) -> bool:
    return int.from_bytes(request[4:6], "big") == _END_TRANSACTION_KEY


class KafkaRig(SinkRig):
    plugin = plugin
    deadline_seconds = 60.0  # beyond the sink's own, which a loaded machine may need

    def __init__(self, server: KafkaServer, proxy: FaultProxy, name: str, compression: str, timeout: str) -> None:
        self.server, self.proxy, self.name = server, proxy, name
        self.topic = f"{name}.shop"
        self.checkpoint = f"{name}.bridge.orders.checkpoint"
        self.settings = KafkaSettings.model_validate(
            {
                "bootstrap_servers": server.proxied_bootstrap_servers,
                "topic": f"{name}.{{source}}",
                "create": True,
                "compression": compression,
                "timeout": timeout,
            }
        )

    def sink(self, source_id: str = SOURCE_ID, owner: str = "bridge.orders") -> Sink:
        return super().sink(source_id, f"{self.name}.{owner}")  # the server is shared, the destination is not

    def reader(self, owner: str = "bridge.orders") -> DestinationReader:
        return super().reader(f"{self.name}.{owner}")

    async def trim(self, kept: int) -> None:
        await cut_front(self.server.bootstrap_servers, self.topic, kept)

    async def read_back(self) -> list[ReadBack]:
        records = await read_committed(self.server.bootstrap_servers, self.topic)
        return [ReadBack(record.value, record.key, None, record.headers) for record in records]

    def expected(self, event: Event) -> ReadBack:
        return ReadBack(event.payload, event.key, None, event.headers)

    async def write_foreign(self) -> None:
        """The topic of the events may be shared; the checkpoint's may not."""
        await make_topic(self.server.bootstrap_servers, self.checkpoint, 1, {"cleanup.policy": "compact"})
        await write_record(self.server.bootstrap_servers, self.checkpoint, b"somebody", b"else")

    async def restart(self) -> None:
        await asyncio.to_thread(self.server.kill)
        await asyncio.to_thread(self.server.restart)

    @asynccontextmanager
    async def down(self) -> AsyncIterator[None]:
        self._part()
        yield
        self.proxy.heal()

    @asynccontextmanager
    async def cut(self, where: Literal["request", "reply"]) -> AsyncIterator[None]:
        """And stays cut: otherwise the client would connect again and send the same batch again, rightly."""
        if where == "request":
            cut = self.proxy.cut_after("upstream", 400)  # the transaction's first request, and a part of the batch
        else:
            cut = self.proxy.reset_before_reply(_ends_a_transaction)  # the broker commits, and nobody hears of it
        then = asyncio.create_task(self._part_after(cut))
        yield
        await then
        self.proxy.heal()

    async def _part_after(self, cut: asyncio.Event) -> None:
        await cut.wait()
        self._part()

    def _part(self) -> None:
        self.proxy.refuse()
        self.proxy.cut()

    async def connections(self) -> int:
        return self.proxy.open_connections


@pytest.fixture
async def make_rig(
    request: pytest.FixtureRequest, kafka_server: KafkaServer, own_kafka: Callable[..., KafkaServer], unique: str
) -> AsyncIterator[Callable[[str], KafkaRig]]:
    words = request.node.name
    server = own_kafka() if "killed" in words else kafka_server
    # Where the client would retry for as long as it may, the deadline is what the test waits for.
    timeout = "5s" if "down" in words or "cut_off" in words else "30s"
    async with FaultProxy("127.0.0.1", server.behind_proxy_port, port=server.proxied_port) as proxy:
        yield lambda compression: KafkaRig(server, proxy, unique, compression, timeout)


class TestKafkaSink(SinkContract):
    lacks: ClassVar = {"lock", "expectation", "size limit"}  # of the suite's events: see the class below
    waived: ClassVar = {
        "test_a_destination_of_another_pipeline_is_left_to_it": (
            "topics may be shared; the checkpoint's topic is named after the pipeline"
        ),
        "test_lost_writes_show_in_the_position": "a single broker cannot be made to lose what it has committed",
    }

    @pytest.fixture
    async def rig(self, make_rig: Callable[[str], KafkaRig]) -> KafkaRig:
        return make_rig("zstd")


class TestKafkaReader(SinkReaderContract):
    rig = TestKafkaSink.rig

    async def test_in_a_shared_topic_others_are_left_out_and_what_a_replay_delivered_says_so(
        self, rig: KafkaRig
    ) -> None:
        headers = (("Oplog-Source", b"shop"),)
        told = [
            cloudevent(FIRST, constant_headers=headers),
            cloudevent(FIRST + 1, constant_headers=(("Oplog-Source", b"another"),)),
            cloudevent(FIRST + 2, constant_headers=(*headers, ("Oplog-Replay", b"again"))),
        ]
        await written(rig, [make_batch(*told)])
        await write_record(rig.server.bootstrap_servers, rig.topic, b"somebody", b"else")

        async with reading(rig) as (reader, lanes):
            found = await all_of(rig, reader, lanes)

        assert [(one.id, one.replay) for one in found] == [(str(FIRST), None), (str(FIRST + 2), "again")]


class TestKafkaSinkWithEventsThatAreTooLarge:
    """The suite's events are one letter repeated: compressed, a topic takes them at any size."""

    test_in_the_middle = SinkContract.test_an_event_that_is_too_large_is_named_and_what_came_before_it_is_durable
    test_at_the_front = SinkContract.test_a_poison_event_at_the_front_leaves_everything_as_it_was

    @pytest.fixture
    async def rig(self, make_rig: Callable[[str], KafkaRig]) -> KafkaRig:
        rig = make_rig("none")
        rig.rejected_bytes = _UNCOMPRESSED_TOPIC_BYTES_MAX
        return rig
