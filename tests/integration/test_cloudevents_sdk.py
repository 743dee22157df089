"""The official CloudEvents SDK reads what stands in Kafka and what a webhook receives: it shares no code with us."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pytest
from cloudevents.core.bindings import http, kafka
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent

from golden_files import FOLDER
from kafka_world import World
from oplogbridge import Event, SinkContext
from oplogbridge.codec.encode import Codec
from oplogbridge.codec.subjects import Filter
from oplogbridge.source.decode import PageDecoder
from oplogbridge.testing import make_batch
from oplogbridge_sinks.webhook.settings import WebhookSettings
from oplogbridge_sinks.webhook.sink import plugin as webhook
from receiver import Receiver
from services import KafkaServer

PAGE = json.loads((FOLDER / "page-v4.json").read_text())
ENTRIES = sorted(PAGE["entries"], key=lambda entry: int(entry["sequence_id"]))


def events(**options: Any) -> list[Event]:
    codec = Codec(source="my shop", format="cloudevents", filter=Filter("my shop"), **options)
    return codec.events(PageDecoder().decode((FOLDER / "page-v4.json").read_bytes(), 0))


def assert_read(found: list[Any]) -> None:
    """What the SDK made of our messages is what the entries say."""
    assert len(found) == len(ENTRIES)
    for event, entry in zip(found, ENTRIES, strict=True):
        assert isinstance(event, CloudEvent)
        object_, sequence = entry["object"], entry["sequence_id"]
        assert (event.get_id(), event.get_source()) == (sequence, "/oplogs/my%20shop")
        assert event.get_type() == f"oplog.{object_['type']}.{entry['operation']}"
        assert event.get_subject() == event.get_extension("partitionkey") == f"{object_['type']}/{object_['id']}"
        assert event.get_datacontenttype() == "application/json"
        assert event.get_extension("sequence") == sequence.zfill(19)
        assert event.get_extension("datamodelhash") == PAGE["datamodel_hash"]
        if object_["updated_at"] != "yesterday":  # which is no time, so the SDK gives its own
            assert event.get_time() == datetime.fromisoformat(object_["updated_at"])
        data = event.get_data()
        assert (data["sequence"], data["operation"], data["object"]) == (sequence, entry["operation"], object_)


@pytest.mark.parametrize("binary", [None, "ce_"])
async def test_kafka_records_are_read_in_either_mode(
    kafka_server: KafkaServer, unique: str, binary: str | None
) -> None:
    world = World(kafka_server.bootstrap_servers, unique)
    async with world.opened(create=True, partitions=1) as sink:
        await sink.write(make_batch(*events(binary=binary)))

    records = await world.records()

    for record in records:
        assert any(name.startswith("ce_") for name, _ in record.headers) == (binary is not None)
    messages = [kafka.KafkaMessage(dict(record.headers), record.key, record.value or b"") for record in records]
    assert_read([kafka.from_kafka(message, JSONFormat()) for message in messages])


async def posted(batch_max: int = 1, **options: Any) -> list[http.HTTPMessage]:
    async with Receiver() as receiver:
        chosen = WebhookSettings(url=receiver.url, allow_http=True, allow_private_addresses=True, batch_max=batch_max)
        sink = webhook.build(chosen, SinkContext("bridge.orders", "orders", "my shop", "https://source"))
        await sink.open()
        try:
            await sink.write(make_batch(*events(**options)))
        finally:
            await sink.close()
        return [http.HTTPMessage(dict(post.headers), post.body) for post in receiver.posts]


@pytest.mark.parametrize("binary", [None, "ce-"])
async def test_posts_are_read_in_either_mode(binary: str | None) -> None:
    messages = await posted(binary=binary)

    assert_read([http.from_http(message, JSONFormat()) for message in messages])
    for message in messages:
        shown = {name.lower() for name in message.headers}
        assert {"oplog-source", "oplog-sequence", "content-type"} <= shown


async def test_each_event_of_a_batch_is_read() -> None:
    """The SDK has no binding for batches: an array of events in structured mode, as the JSON format says."""
    (first, second) = await posted(batch_max=3)

    def each() -> Iterator[Any]:
        for message in (first, second):
            assert message.headers["Content-Type"] == "application/cloudevents-batch+json"
            for event in json.loads(message.body):
                yield JSONFormat().read(None, json.dumps(event).encode())

    assert_read(list(each()))
