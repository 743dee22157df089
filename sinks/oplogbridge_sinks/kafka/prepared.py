"""What a write sends: the record batches of every partition, made before its transaction begins."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import NamedTuple

from aiokafka import TopicPartition

from oplogbridge.values import Batch, Event
from oplogbridge_sinks.kafka.batches import Codec, TopicLimits, build
from oplogbridge_sinks.kafka.checkpoint import WrittenTopic
from oplogbridge_sinks.kafka.records import RecordBatch
from oplogbridge_sinks.kafka.routes import Routed, Routes


class Prepared(NamedTuple):
    """With a refused event none of it may be sent: what stands before that event has to be prepared on its own."""

    batches: Mapping[TopicPartition, list[RecordBatch]]
    refused: Event | None  # the first event that its topic will never take
    reason: str

    def event_count(self) -> int:
        return sum([batch.event_count for batches in self.batches.values() for batch in batches])


class Sendable(NamedTuple):
    """What of a batch can be sent, laid out (None: nothing), and the refused event that stands right behind it."""

    batch: Batch | None
    prepared: Prepared
    refused: Event | None
    reason: str


async def sendable(
    batch: Batch, prepared: Prepared, prepare: Callable[[Sequence[Event]], Awaitable[Prepared]]
) -> Sendable:
    """All of a batch, or what stands before the first event that is refused.

    That part is laid out again, and looked at again: in other groups, or with limits that another pipeline has learned
    meanwhile, an earlier event can be the one that is refused. Sent without that look, the checkpoint would stand
    behind events that nobody sent.
    """
    part: Batch | None = batch
    refused, reason = None, ""
    while part is not None and prepared.refused is not None:
        refused, reason = prepared.refused, prepared.reason
        index = next(index for index, event in enumerate(part.events) if event is refused)
        part = part.before(index)
        if part is not None:
            prepared = await prepare(part.events)
    if part is not None and prepared.event_count() != len(part.events):
        raise ValueError(f"records of {prepared.event_count()} events for {len(part.events)}")  # a defect, and no loss
    return Sendable(part, prepared, refused, reason)


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
