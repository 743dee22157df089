"""Kafka: exactly once, for readers of committed data.

Every write is one transaction: the events' records and the checkpoint behind them. `transactional.id` is the owner, so
opening fences whoever wrote before; only then are orphaned transactions ended and the checkpoint read. After the first
doubt the producer is thrown away: the next opening finds out what became of the transaction.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from functools import partial

from aiokafka import TopicPartition

from oplogbridge.errors import Misconfigured, Rejected, Unavailable
from oplogbridge.sink import SinkContext, SinkTraits
from oplogbridge.values import OFFSET_MAX, Batch, Event, Position
from oplogbridge_sinks.kafka import checkpoint as checkpoints
from oplogbridge_sinks.kafka.batches import CODECS, single
from oplogbridge_sinks.kafka.checkpoint import Checkpoint, WrittenTopic
from oplogbridge_sinks.kafka.cluster import Cluster, Topic
from oplogbridge_sinks.kafka.ends import LogEnds, Sent
from oplogbridge_sinks.kafka.failures import translate
from oplogbridge_sinks.kafka.orphans import end_orphans
from oplogbridge_sinks.kafka.prepared import Prepared, prepared, sendable
from oplogbridge_sinks.kafka.producer import Producer
from oplogbridge_sinks.kafka.routes import Routed, Routes
from oplogbridge_sinks.kafka.settings import KafkaSettings
from oplogbridge_sinks.kafka.topics import TOO_LARGE, Topics, as_written, changes, destination_of, topic_template

TRAITS = SinkTraits(
    guarantee="exactly_once",
    holds_position=True,
    goes_back=True,
    events_max=10_000,
    bytes_max=64 << 20,
    binary="ce_",
    tombstones=True,
)

_SEQUENCE_NUMBER_MAX = 2**31 - 1  # per partition and producer; aiokafka goes on with negative ones
_CHECKPOINT_COMPRESS_BYTES_MIN = 1024  # it grows with the number of topics


class KafkaSink:
    def __init__(
        self, settings: KafkaSettings, ctx: SinkContext, *, unix_seconds: Callable[[], float] = time.time
    ) -> None:
        self._settings = settings
        self._ctx = ctx
        self._unix_seconds = unix_seconds
        self._destination = destination_of(settings, ctx)
        self._routes = Routes(topic_template(settings, ctx))
        self._codec = CODECS[settings.compression]
        self._topics = Topics(settings, ctx)
        self._checkpoint = TopicPartition(self._topics.checkpoint, 0)
        self._key = ctx.owner.encode()
        self._producer: Producer | None = None
        self._doubtful = False  # a call was cancelled in the middle
        self._forget()

    def _forget(self) -> None:
        """Trust nothing in memory: what is known of the destination is read at every opening."""
        self._cluster: Cluster | None = None
        self._checkpoint_id = ""
        self._position: Position | None = None
        self._refusal: Misconfigured | None = None  # why only `move` is allowed
        self._written: dict[str, WrittenTopic] = {}
        self._ends = LogEnds(self._checkpoint, 0)

    @property
    def destination(self) -> str:
        return self._destination

    async def open(self) -> Position | None:
        """As the contract says. Besides, `move` is allowed after a Misconfigured that is about the checkpoint or its
        topics: it is how an operator accepts topics as they are now, or replaces what cannot be read.
        """
        await self.close()
        async with self._attempt("open"):
            producer = self._producer = self._new_producer()
            await producer.start()
            cluster = self._cluster = Cluster(producer.client)
            self._checkpoint_id = (await self._topics.require_checkpoint(cluster)).id
            await self._end_orphans(producer, cluster)
            ends = await cluster.ends([self._checkpoint], committed=False)
            self._ends = LogEnds(self._checkpoint, ends[self._checkpoint])
            try:
                found = await checkpoints.read(cluster, self._checkpoint, self._key)
                if found is not None:
                    self._written = dict(found.topics)
                    await self._check_topics(cluster, found.topics)
            except Misconfigured as error:
                self._refusal = error
            else:
                await self._require_constant_topic(cluster)
                await producer.know([self._checkpoint.topic, *self._written])
                self._position = None if found is None else _position_of(found)
        if self._refusal is not None:
            raise self._refusal
        return self._position

    async def cautions(self) -> list[str]:
        """As `oplogbridge.sink.Cautious`."""
        async with self._attempt("look"):
            assert self._cluster is not None, "after open"
            return await self._topics.cautions(self._cluster, [*self._constant_topic(), *self._written])

    def _new_producer(self) -> Producer:
        try:
            connection = self._settings.connection()
        except (OSError, ssl.SSLError) as error:
            raise Misconfigured(f"kafka: cannot read the files under `tls` ({error})") from error
        return Producer(connection, self._ctx.owner, self._settings.timeout, self._settings.transaction_timeout)

    async def _end_orphans(self, producer: Producer, cluster: Cluster) -> None:
        offset, names = 0, set(self._constant_topic())
        # Also the last record that nobody may read yet: only an orphan's own names the topics that it was first to
        # write to. Its checkpoint ended, its records in such a topic left open, these were lost at the next abort.
        for committed in (False, True):
            with contextlib.suppress(Misconfigured):  # said again, if still so, when the checkpoint is read for good
                found = await checkpoints.read(cluster, self._checkpoint, self._key, committed=committed)
                if found is not None:
                    offset = found.offset if committed else 0
                    names.update(found.topics)
        targets = [partition for topic in (await cluster.topics(names)).values() for partition in topic.partitions]
        await end_orphans(producer, cluster, self._checkpoint, targets, offset, self._settings.timeout)

    async def _check_topics(self, cluster: Cluster, written: Mapping[str, WrittenTopic]) -> None:
        """Raises Misconfigured when a topic that was written to is another one now."""
        lines = changes(written, await self._topics.found(cluster, written))
        if lines:
            raise Misconfigured(
                f"kafka: {'; '.join(lines)}: readers may miss or mix what was delivered before: decide from where to go"
                " on with `oplog-bridge offsets set`, which accepts the topics as they are now"
            )

    def _constant_topic(self) -> list[str]:
        return [] if self._routes.constant is None else [self._routes.constant]

    async def _require_constant_topic(self, cluster: Cluster) -> None:
        names = {*self._written, *self._constant_topic()}
        self._admit(await self._topics.require(cluster, names))

    def _admit(self, topics: dict[str, Topic]) -> None:
        for name, topic in topics.items():
            self._written.setdefault(name, as_written(topic))

    async def prepare(self, events: Sequence[Event]) -> Prepared | None:
        """The record batches. None when a topic is new: looking at it, or making it, is for `write`."""
        routed = self._routes.by_topic(events)
        if self._refusal is not None or self._new_topics(routed):
            return None
        return await self._prepared(routed)

    async def write(self, batch: Batch) -> Position | None:
        producer, cluster = self._opened()
        if self._refusal is not None:
            raise self._refusal
        if self._position is not None and self._position.offset != batch.from_offset:
            raise Unavailable(
                f"kafka: the batch begins at {batch.from_offset}, the position is {self._position.offset}: reopening"
            )
        prepare = partial(self._prepared_at_last, producer, cluster)
        async with self._attempt(f"write {len(batch.events)} events"):
            first = batch.prepared if isinstance(batch.prepared, Prepared) else await prepare(batch.events)
            found = await sendable(batch, first, prepare)
            if found.batch is not None:
                await self._commit(producer, found.prepared, found.batch.next_offset)
            if found.refused is None:
                return self._position
        raise Rejected(found.refused, found.reason)

    async def _prepared_at_last(self, producer: Producer, cluster: Cluster, events: Sequence[Event]) -> Prepared:
        """Topics appear as types do: they are checked, or made, before the write that needs them."""
        routed = self._routes.by_topic(events)
        new = self._new_topics(routed)
        if new:
            self._admit(await self._topics.require(cluster, new))
            await producer.know(new)
        return await self._prepared(routed)

    def _new_topics(self, routed: Routed) -> list[str]:
        return [name for name in routed.events if name not in self._written]

    async def _prepared(self, routed: Routed) -> Prepared:
        timestamp_ms = int(self._unix_seconds() * 1000)
        return await prepared(routed, self._routes, self._written, self._topics.limits, self._codec, timestamp_ms)

    async def _commit(self, producer: Producer, prepared: Prepared, next_offset: int) -> Position:
        """Send the batches and the checkpoint, wait for every one of them, and only then commit."""
        batches = prepared.batches
        for partition, parts in batches.items():
            if (
                producer.sequence_number(partition) + sum([part.record_count() for part in parts])
                > _SEQUENCE_NUMBER_MAX
            ):
                raise Unavailable("kafka: the producer's sequence numbers are used up: reopening")
        await producer.begin([*batches, self._checkpoint])
        checkpoint = Checkpoint(next_offset, self._ctx.source_id, self._destination, self._written)
        value = checkpoints.encode(checkpoint)
        codec = self._codec if len(value) >= _CHECKPOINT_COMPRESS_BYTES_MIN else CODECS["none"]
        record = await single(self._key, value, int(self._unix_seconds() * 1000), codec)
        sent = [Sent(self._checkpoint, record, await producer.send(record, self._checkpoint))]
        # The second batch of a partition waits for the first, so the firsts of all partitions go together.
        for turn in range(max(map(len, batches.values()), default=0)):
            for partition, parts in batches.items():
                if turn < len(parts):
                    sent.append(Sent(partition, parts[turn], await producer.send(parts[turn], partition)))
        try:
            await producer.delivered([part.future for part in sent])
        except TOO_LARGE as error:
            raise self._topics.learn_refusal(sent) from error
        self._ends.advance(sent)
        await producer.commit()
        self._position = _position_of(checkpoint)
        return self._position

    async def move(self, offset: int) -> Position | None:
        producer, cluster = self._opened()
        if not 0 <= offset <= OFFSET_MAX:
            raise Misconfigured(f"kafka: {offset} is no offset: it must be from 0 to {OFFSET_MAX}")
        async with self._attempt(f"move the position to {offset}"):
            if self._position is not None and self._position.destination != self._destination:
                self._written = {}  # the topics of another template are nobody's business any more
            if self._refusal is not None or not self._written:
                await self._accept_topics(producer, cluster)
            return await self._commit(producer, Prepared({}, None, ""), offset)

    async def _accept_topics(self, producer: Producer, cluster: Cluster) -> None:
        """From now on count on the topics as they are. Those that an unreadable checkpoint named are forgotten."""
        found = await self._topics.found(cluster, self._written)
        self._written = {name: as_written(topic) for name, topic in found.items()}
        await self._require_constant_topic(cluster)
        await producer.know([self._checkpoint.topic, *self._written])
        self._refusal = None

    async def position(self) -> Position | None:
        _, cluster = self._opened()
        if self._refusal is not None:
            raise self._refusal
        async with self._attempt("read the position"):
            topics = await cluster.topics([self._checkpoint.topic, *self._written])
            lines = changes(self._written, topics)
            if lines:
                await self._check_topics(cluster, self._written)
            checkpoint = topics.get(self._checkpoint.topic)
            if checkpoint is not None and checkpoint.id == self._checkpoint_id:
                ends = await cluster.ends([self._checkpoint], committed=False)
                if self._ends.unchanged(ends[self._checkpoint]):
                    return self._position
            await self._topics.require_checkpoint(cluster)
            found = await checkpoints.read(cluster, self._checkpoint, self._key)
            return None if found is None else _position_of(found)

    async def close(self) -> None:
        doubtful, self._doubtful = self._doubtful, True  # cancelled in here, the next `close` goes on with it
        if self._producer is not None:
            await (self._producer.discard() if doubtful else self._producer.stop())
        self._producer, self._doubtful = None, False
        self._forget()

    def _opened(self) -> tuple[Producer, Cluster]:
        if self._producer is None or self._cluster is None:
            raise Unavailable("kafka: the sink is closed, or was closed after a doubt: open it again")
        return self._producer, self._cluster

    @contextlib.asynccontextmanager
    async def _attempt(self, doing: str) -> AsyncIterator[None]:
        """A deadline and one translation around everything that talks to brokers; afterwards, no doubtful producer."""
        try:
            async with asyncio.timeout(self._settings.timeout):
                yield
        except Exception as error:
            self._doubtful = True
            await self.close()
            translated = translate(error, doing, self._settings.timeout)
            if translated is error:
                raise
            raise translated from translated.__cause__ or error
        except BaseException:
            self._doubtful = True  # cancelled: only `close` follows
            raise


def _position_of(checkpoint: Checkpoint) -> Position:
    return Position(checkpoint.offset, checkpoint.source, checkpoint.destination)
