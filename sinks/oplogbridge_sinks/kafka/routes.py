"""Which topic and partition each event of a batch goes to. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from aiokafka import TopicPartition

from oplogbridge.templates import Template
from oplogbridge.values import Event
from oplogbridge_sinks.kafka.checkpoint import WrittenTopic
from oplogbridge_sinks.kafka.partitions import Partitioner

NAME_CHARACTERS_MAX = 249  # of a topic: Kafka's own bound


class Routed(NamedTuple):
    events: Mapping[str, Sequence[Event]]  # by topic, in order
    refused: Event | None = None  # the first one that no topic can have the name for
    reason: str = ""


class Routes:
    """Remembers the partitions of the keys that it saw."""

    def __init__(self, template: Template) -> None:
        self.constant = template.constant  # the topic, if it is the same for every event
        self._name_of = template.destination
        self._partitioner = Partitioner()

    def by_topic(self, events: Sequence[Event]) -> Routed:
        if self.constant is not None:
            return Routed({self.constant: events})
        by_topic: dict[str, list[Event]] = {}
        for event in events:
            by_topic.setdefault(self._name_of(event.object_type, event.operation), []).append(event)
        refused = [by_topic.pop(name)[0] for name in list(by_topic) if len(name) > NAME_CHARACTERS_MAX]
        first = min(refused, key=lambda event: event.sequence, default=None)
        return Routed(by_topic, first, f"its topic's name would be longer than {NAME_CHARACTERS_MAX} characters")

    def by_partition(
        self, by_topic: Mapping[str, Sequence[Event]], topics: Mapping[str, WrittenTopic]
    ) -> dict[TopicPartition, Sequence[Event]]:
        """The partitions that get events, each with its own in order."""
        by_partition: dict[TopicPartition, Sequence[Event]] = {}
        for name, events in by_topic.items():
            count = topics[name].partitions
            if count == 1:
                by_partition[TopicPartition(name, 0)] = events
                continue
            parts: list[list[Event]] = [[] for _ in range(count)]
            numbers = self._partitioner.partitions([event.key for event in events], count)
            for number, event in zip(numbers, events, strict=True):
                parts[number].append(event)
            by_partition.update({TopicPartition(name, number): part for number, part in enumerate(parts) if part})
        return by_partition
