"""Where the logs end that a sink writes to: what it compares before each commit, and for each heartbeat. Pure."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, NamedTuple

from aiokafka import TopicPartition

from oplogbridge.errors import Misconfigured, Unavailable
from oplogbridge_sinks.kafka.records import RecordBatch


class Sent(NamedTuple):
    partition: TopicPartition
    batch: RecordBatch
    future: asyncio.Future[Any]  # aiokafka's RecordMetadata


class LogEnds:
    """Begins with the end of the checkpoint's log as it was when the checkpoint was read."""

    def __init__(self, checkpoint: TopicPartition, end: int) -> None:
        self._checkpoint = checkpoint
        self._checkpoint_ends = {end}  # where it ends while nobody else writes to it; empty when that is not known
        self._last_offsets: dict[TopicPartition, int] = {}

    def unchanged(self, checkpoint_end: int) -> bool:
        """Whether the last checkpoint of that log is still the one that we know."""
        return checkpoint_end in self._checkpoint_ends

    def advance(self, sent: Sequence[Sent]) -> None:
        """Before the commit: does every batch stand where it must?

        Raises:
            Unavailable: A log is shorter than it was: the topic was made again under our hands. The broker takes an
                unknown producer's batches, whatever their numbers, so nothing else would notice before the next
                opening, which compares ids.
            Misconfigured: Somebody else wrote to the checkpoint's topic. It was no successor: we would be fenced.
        """
        for partition, batch, future in sent:
            offset = future.result().offset
            known = offset >= 0  # a retry of what was stored already: the broker may have forgotten where
            if known and offset <= self._last_offsets.get(partition, -1):
                raise Unavailable(f"kafka: the log of {partition.topic}-{partition.partition} went back: reopening")
            if known:
                self._last_offsets[partition] = offset + batch.record_count() - 1
            if partition == self._checkpoint:
                self._advance_checkpoint(offset if known else None)

    def _advance_checkpoint(self, offset: int | None) -> None:
        if offset is not None and self._checkpoint_ends:
            topic = self._checkpoint.topic
            if offset < min(self._checkpoint_ends):
                raise Unavailable(f"kafka: the log of {topic} went back: reopening")
            if offset > max(self._checkpoint_ends):
                raise Misconfigured(
                    f"kafka: somebody else writes to {topic}, which belongs to this pipeline alone: find out who, then"
                    " `oplog-bridge offsets set` puts a new checkpoint there"
                )
        # Before and after the transaction's marker.
        self._checkpoint_ends = set() if offset is None else {offset + 1, offset + 2}
