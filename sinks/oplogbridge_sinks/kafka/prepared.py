"""What a write sends: the record batches of every partition, made before its transaction begins."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from aiokafka import TopicPartition

from oplogbridge.values import Event
from oplogbridge_sinks.kafka.batches import Codec, TopicLimits, build
from oplogbridge_sinks.kafka.checkpoint import WrittenTopic
from oplogbridge_sinks.kafka.records import RecordBatch
from oplogbridge_sinks.kafka.routes import Routed, Routes


class Prepared(NamedTuple):
    """With a refused event none of it may be sent: what stands before that event has to be prepared on its own."""

    batches: Mapping[TopicPartition, list[RecordBatch]]
    refused: Event | None  # the first event that its topic will never take
    reason: str


async def prepared(
    routed: Routed,
    routes: Routes,
    topics: Mapping[str, WrittenTopic],
    limits: Mapping[str, TopicLimits],
    codec: Codec,
    timestamp_ms: int,
) -> Prepared:
    """Lay out and compress the events of every partition. All their topics must be known."""
    batches: dict[TopicPartition, list[RecordBatch]] = {}
    refused, reason = routed.refused, routed.reason
    for partition, events in routes.by_partition(routed.events, topics).items():
        built = await build(events, limits[partition.topic], codec, timestamp_ms)
        if built.refused is None:
            batches[partition] = built.batches
        elif refused is None or built.refused.sequence < refused.sequence:
            refused = built.refused
            reason = f"its record {built.reason}: see max.message.bytes of topic {partition.topic}"
    return Prepared(batches, refused, reason)
