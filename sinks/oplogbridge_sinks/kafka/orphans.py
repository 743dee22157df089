"""Ends transactions of this pipeline that the broker forgot to end: the guard of `init_transactions`.

If a single broker (4.3.0) is killed while a transaction is in PrepareCommit, the restarted coordinator may record the
transaction as complete without writing its markers ("likely deleted already and hence can be skipped"). Its records
then stand open in the log: nobody who reads committed data gets past them, our checkpoint among them, so we read the
old position, send the page again, and the new commit, with the same producer id, commits the orphaned copy as well: a
duplicated page. When the kill comes right after the commit was answered that is one in four.

An open transaction is only ours to end when it carries our producer id: topics may be shared. It is committed if the
coordinator remembers it as committed, which is also what the writer was told, or if readers can already see a part of
it, since a transaction must have one outcome everywhere. Otherwise it is aborted, and the events are sent again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from aiokafka import TopicPartition

from oplogbridge.errors import Misconfigured, Unavailable
from oplogbridge_sinks.kafka.cluster import Cluster
from oplogbridge_sinks.kafka.producer import LastTransaction, Producer

SEQUENCE_HEADER = "Oplog-Sequence"
# A killed predecessor's ordinary transaction is aborted by the coordinator, which may still be writing the markers.
PATIENCE_SECONDS_MAX = 2.0
PATIENCE_PART = 0.2  # of the opening's deadline: longer, and an opening that meets an orphan would never end
_POLL_SECONDS_MIN, _POLL_SECONDS_MAX = 0.01, 0.1
# How much of a log is searched: a foreign transaction may have kept a shared topic open for long.
_SCAN_BYTES_MAX = 64 << 20
_VISIBLE_OFFSETS_MAX = 100_000


@dataclass(frozen=True, slots=True)
class Orphan:
    """Records of ours that stand open in one partition."""

    partition: TopicPartition
    epoch: int  # of the producer that wrote them
    sequence: int | None  # of the first of them; None for the checkpoint's record


def outcome_is_commit(
    orphans: Sequence[Orphan], last: LastTransaction | None, offset: int, visible: Sequence[int]
) -> bool:
    """Whether the orphaned transaction was committed. Pure.

    `last` is what the coordinator remembered before we fenced; of another epoch, it is another transaction.

    `offset` is the committed checkpoint's (0 without one), `visible` the highest committed sequence that the same
    producer epoch wrote in each partition that is not open. An epoch's sequences only grow, and the checkpoint covers
    exactly what was committed with it or before: so if it covers a record that is still open, or if a record that it
    does not cover yet can already be read, then part of the transaction is visible, and the rest must become so.
    """
    remembered = last is not None and last.committed and all(orphan.epoch == last.epoch for orphan in orphans)
    covered = any(orphan.sequence is not None and orphan.sequence < offset for orphan in orphans)
    return remembered or covered or any(sequence >= offset for sequence in visible)


async def end_orphans(
    producer: Producer,
    cluster: Cluster,
    checkpoint: TopicPartition,
    targets: Sequence[TopicPartition],
    offset: int,
    timeout_seconds: float,
) -> int:
    """End what is ours and return how many partitions that were. The checkpoint may only be read afterwards.

    `offset` is the committed one, as far as it can be read; `timeout_seconds` the deadline of the whole opening.

    Raises:
        Misconfigured: Somebody else's transaction stands open in the checkpoint's topic.
    """
    patience_seconds = min(PATIENCE_SECONDS_MAX, timeout_seconds * PATIENCE_PART)
    partitions = [checkpoint, *targets]
    orphans = await _open_long(producer.producer_id, cluster, partitions, patience_seconds)
    if orphans:
        visible = await _visible(producer.producer_id, cluster, orphans, checkpoint, targets)
        hanging = [orphan.partition for orphan in orphans]
        await producer.begin(hanging)
        await producer.added(hanging)  # without records: the end of the transaction alone writes a marker to each
        last = producer.predecessors
        if last is not None and last.producer_id != producer.producer_id:
            last = None  # the id was used up or had expired: what is remembered is not what stands open
        if outcome_is_commit(orphans, last, offset, visible):
            await producer.commit()
        else:
            await producer.abort_empty()
        if await _open_long(producer.producer_id, cluster, hanging, patience_seconds):
            raise Unavailable("kafka: an orphaned transaction of this pipeline does not end: trying again")
    await _check_nobody_elses(cluster, checkpoint)
    return len(orphans)


async def _open_long(
    producer_id: int, cluster: Cluster, partitions: Sequence[TopicPartition], patience_seconds: float
) -> list[Orphan]:
    """Our records that are still open after a while. Takes two requests, and no while, when nothing is open."""
    loop = asyncio.get_running_loop()
    give_up = loop.time() + patience_seconds
    poll_seconds = _POLL_SECONDS_MIN
    while True:
        orphans = await _open_now(producer_id, cluster, partitions)
        if not orphans or loop.time() >= give_up:
            return orphans
        await asyncio.sleep(poll_seconds)
        poll_seconds = min(poll_seconds * 2, _POLL_SECONDS_MAX)


async def _open_now(producer_id: int, cluster: Cluster, partitions: Sequence[TopicPartition]) -> list[Orphan]:
    # In this order: what becomes stable between the two questions must not look open.
    ends = await cluster.ends(partitions, committed=False)
    stable = await cluster.ends(partitions, committed=True)
    orphans = []
    for partition in partitions:
        if stable[partition] < ends[partition]:
            orphan = await _scan(producer_id, cluster, partition, stable[partition], ends[partition])
            if orphan is not None:
                orphans.append(orphan)
    return orphans


async def _scan(producer_id: int, cluster: Cluster, partition: TopicPartition, begin: int, end: int) -> Orphan | None:
    """Our open transaction in [begin, end), if there is one. A marker with our producer id ends it."""
    orphan = None
    async for batch in cluster.batches(partition, begin, end, bytes_max=_SCAN_BYTES_MAX):
        if batch.producer_id != producer_id:
            continue
        if batch.is_control_batch:
            orphan = None
        elif batch.is_transactional and orphan is None:
            orphan = Orphan(partition, batch.producer_epoch, _sequence(next(iter(batch), None)))
    return orphan


async def _visible(
    producer_id: int,
    cluster: Cluster,
    orphans: Sequence[Orphan],
    checkpoint: TopicPartition,
    targets: Sequence[TopicPartition],
) -> list[int]:
    """The highest sequence that the orphans' producer epoch has committed in each target that is not open."""
    hanging = {orphan.partition for orphan in orphans}
    epochs = {orphan.epoch for orphan in orphans}
    closed = [partition for partition in targets if partition not in hanging and partition != checkpoint]
    ends = await cluster.ends(closed, committed=True)
    begins = await cluster.begins(closed)
    visible = []
    for partition in closed:
        begin = max(begins[partition], ends[partition] - _VISIBLE_OFFSETS_MAX)
        undecided = committed = -1
        async for batch in cluster.batches(partition, begin, ends[partition], bytes_max=_SCAN_BYTES_MAX):
            if batch.producer_id != producer_id:
                continue
            if not batch.is_control_batch:
                if batch.producer_epoch in epochs:
                    undecided = max([undecided, *(_sequence(record) or -1 for record in batch)])
                continue
            if _is_commit(batch):
                committed = max(committed, undecided)
            undecided = -1
        if committed >= 0:
            visible.append(committed)
    return visible


async def _check_nobody_elses(cluster: Cluster, checkpoint: TopicPartition) -> None:
    end = (await cluster.ends([checkpoint], committed=False))[checkpoint]
    stable = (await cluster.ends([checkpoint], committed=True))[checkpoint]
    if stable >= end:
        return
    async for batch in cluster.batches(checkpoint, stable, end, bytes_max=1):
        raise Misconfigured(
            f"kafka: a transaction of producer {batch.producer_id} stands open in {checkpoint.topic}, which belongs to"
            " this pipeline alone: end it with `kafka-transactions.sh abort --topic"
            f" {checkpoint.topic} --partition 0 --start-offset {batch.base_offset}`"
        )


def _sequence(record: Any) -> int | None:
    if record is None:
        return None
    for name, value in record.headers:
        if name == SEQUENCE_HEADER and value is not None and value.isdigit():
            return int(value)
    return None


def _is_commit(control_batch: Any) -> bool:
    record = next(iter(control_batch), None)
    return record is not None and record.key[2:4] == b"\0\1"  # int16 version, int16 type: 0 abort, 1 commit
