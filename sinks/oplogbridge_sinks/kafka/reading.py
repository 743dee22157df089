"""Reads the topics back, beside whoever writes them: committed records only, by a client without a group or a
transactional id. Which topics there are, the pipeline's checkpoint says."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Sequence
from typing import Any
from urllib.parse import quote

from aiokafka import TopicPartition
from aiokafka import errors as kafka
from aiokafka.client import AIOKafkaClient
from aiokafka.consumer.fetcher import READ_COMMITTED, PartitionRecords

from oplogbridge.errors import Misconfigured, Unavailable
from oplogbridge.sink import Delivered, Lane, SinkContext
from oplogbridge.values import OFFSET_MAX, Event, offset_of
from oplogbridge_sinks.kafka import checkpoint as checkpoints
from oplogbridge_sinks.kafka.cluster import Cluster
from oplogbridge_sinks.kafka.failures import translate
from oplogbridge_sinks.kafka.partitions import Partitioner
from oplogbridge_sinks.kafka.settings import KafkaSettings
from oplogbridge_sinks.kafka.topics import checkpoint_name, topic_template

_DECIDED_POLL_SECONDS = 0.02


class KafkaReader:
    """Topics may be shared: what another source's events are is left out, and so is what has no `Oplog-Source`."""

    def __init__(self, settings: KafkaSettings, ctx: SinkContext) -> None:
        self._settings = settings
        self._owner = ctx.owner
        self._source = quote(ctx.source, safe="").encode()
        self._template = topic_template(settings, ctx)
        self._partitioner = Partitioner()
        self._partitions: dict[str, int] = {}  # by topic
        self._checkpoint = TopicPartition(checkpoint_name(ctx), 0)
        self._client: Any = None
        self._lanes_at_first: list[Lane] = []
        self._ends: dict[str, tuple[TopicPartition, int, int]] = {}  # by lane: where it begins and ends

    async def open(self) -> Sequence[Lane]:
        await self.close()
        self._ends.clear()
        async with self._attempt("open"):
            new: Any = AIOKafkaClient
            self._client = new(
                **self._connection(),
                client_id=f"{self._owner}.reader",
                request_timeout_ms=max(1, int(self._settings.timeout * 1000 / 3)),
            )
            await self._client.bootstrap()
            cluster = Cluster(self._client)
            names = await self._topics(cluster)
            self._lanes_at_first = [lane for name in names for lane in await self._lanes(cluster, name)]
            return self._lanes_at_first

    async def pages(self, lane: Lane, from_sequence: int, to_sequence: int) -> AsyncIterator[Sequence[Delivered]]:
        partition, offset, end = self._ends[lane.name]
        cluster = Cluster(self._client)
        while offset < end:
            async with self._attempt(f"read {lane.name}"):
                try:
                    fetched = await cluster.fetch(partition, offset, committed=True)
                except kafka.OffsetOutOfRangeError:  # retention goes on meanwhile
                    begin = (await cluster.begins([partition]))[partition]
                    if begin <= offset:
                        raise
                    offset = begin
                    continue
                records = PartitionRecords(  # type: ignore[no-untyped-call]  # aiokafka has no types there
                    partition, fetched.batches, fetched.aborted, offset, None, None, True, READ_COMMITTED
                )
                found = [self._delivered(record, lane.name) for record in records if record.offset < end]
                before, offset = offset, max(offset, records.next_fetch_offset)
            page = [one for one in found if one is not None and _within(one, from_sequence, to_sequence)]
            if page:
                yield page
            if offset == before:
                return  # compacted away up to the end

    async def kept(self) -> Sequence[Lane]:
        async with self._attempt("look at the topics"):
            cluster = Cluster(self._client)
            begins = await cluster.begins([partition for partition, _, _ in self._ends.values()])
            for lane, (partition, _, end) in self._ends.items():
                self._ends[lane] = (partition, begins[partition], end)
            return [await self._lane(lane.name, lane.thinned) for lane in self._lanes_at_first]

    def lane_of(self, event: Event) -> str:
        topic = self._template.destination(event.object_type, event.operation)
        count = self._partitions.get(topic, 0)
        number = self._partitioner.partitions([event.key], count)[0] if count else 0
        return f"{topic}-{number}"

    def shown(self, event: Event) -> bytes:
        return event.payload

    async def close(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            with contextlib.suppress(Exception):
                await client.close()

    def _connection(self) -> dict[str, Any]:
        try:
            return self._settings.connection()
        except (OSError, ssl.SSLError) as error:
            raise Misconfigured(f"kafka: cannot read the files under `tls` ({error})") from error

    async def _topics(self, cluster: Cluster) -> list[str]:
        names = set() if self._template.constant is None else {self._template.constant}
        if await cluster.topics([self._checkpoint.topic]):
            found = await checkpoints.read(cluster, self._checkpoint, self._owner.encode())
            names |= set() if found is None else set(found.topics)
        return sorted(await cluster.topics(names))

    async def _lanes(self, cluster: Cluster, name: str) -> list[Lane]:
        partitions = (await cluster.topics([name]))[name].partitions
        begins, ends = await cluster.begins(partitions), await self._decided_ends(cluster, partitions)
        self._partitions[name] = len(partitions)
        configs = await cluster.configs([name], ["cleanup.policy"])
        compacted = configs is not None and "compact" in configs[name].get("cleanup.policy", "")
        lanes = []
        for partition in partitions:
            lane = f"{partition.topic}-{partition.partition}"
            self._ends[lane] = (partition, begins[partition], ends[partition])
            lanes.append(await self._lane(lane, f"topic {name} is compacted" if compacted else ""))
        return lanes

    async def _lane(self, name: str, thinned: str) -> Lane:
        return Lane(name, await self._first_kept(name) if self._ends[name][1] > 0 else None, thinned)

    async def _decided_ends(self, cluster: Cluster, partitions: list[TopicPartition]) -> dict[TopicPartition, int]:
        """Where the logs end now, once all of it may be read: a commit is answered before its markers are written, so
        that what was delivered last may still look undecided."""
        ends = await cluster.ends(partitions, committed=False)
        until = asyncio.get_running_loop().time() + self._settings.timeout / 2
        while True:
            stable = await cluster.ends(partitions, committed=True)
            if all(stable[partition] >= ends[partition] for partition in partitions):
                return ends
            if asyncio.get_running_loop().time() > until:
                raise Unavailable(
                    f"kafka: a transaction in {partitions[0].topic} is still open, and nobody may read what lies "
                    "behind it: try again when it has ended"
                )
            await asyncio.sleep(_DECIDED_POLL_SECONDS)

    async def _first_kept(self, lane: str) -> int:
        """Of what is left; where nothing of ours is, all of it is trimmed."""
        async for page in self.pages(Lane(lane, None), 0, OFFSET_MAX):
            for one in page:
                if one.sequence is not None:
                    return one.sequence
        return OFFSET_MAX

    def _delivered(self, record: Any, lane: str) -> Delivered | None:
        headers = tuple(record.headers)
        told = dict(headers)
        if told.get("Oplog-Source") != self._source:
            return None
        shown, place = told.get("Oplog-Sequence", b"").decode(errors="replace"), told.get("Oplog-Place")
        replay = told.get("Oplog-Replay")
        place_text = None if place is None else place.decode(errors="replace")
        sequence = offset_of(shown)
        # A snapshot's event has its place for an id, and shows the sequence behind which that is.
        own_id = place_text if place_text is not None and place_text.partition("-")[0] == shown else shown
        return Delivered(
            sequence,
            own_id if sequence is not None else None,
            record.key,
            record.value,
            lane,
            f"offset {record.offset}",
            headers,
            place_text,
            None if replay is None else replay.decode(errors="replace"),
        )

    @contextlib.asynccontextmanager
    async def _attempt(self, doing: str) -> AsyncIterator[None]:
        """A deadline and one translation around everything that talks to brokers."""
        try:
            async with asyncio.timeout(self._settings.timeout):
                yield
        except Exception as error:
            translated = translate(error, doing, self._settings.timeout)
            if translated is error:
                raise
            raise translated from translated.__cause__ or error


def _within(one: Delivered, from_sequence: int, to_sequence: int) -> bool:
    return one.sequence is None or from_sequence <= one.sequence < to_sequence
