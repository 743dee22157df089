"""What the sink asks brokers besides producing: which topics there are, where logs end, and what stands in them.

Built on the producer's own connections, so that opening a sink costs one bootstrap and no consumer.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from aiokafka import TopicPartition
from aiokafka import errors as kafka
from aiokafka.protocol.admin import DescribeConfigsRequest
from aiokafka.protocol.fetch import FetchRequest
from aiokafka.protocol.metadata import MetadataRequest
from aiokafka.protocol.offset import OffsetRequest
from aiokafka.record.memory_records import MemoryRecords

from oplogbridge_sinks.kafka.rights import Denied
from oplogbridge_sinks.kafka.wire import MakeTopicRequest, TopicIdsRequest, Uuid

_LATEST, _EARLIEST = -1, -2
_FETCH_BYTES_MAX = 1 << 20  # per request; a larger batch still comes whole
_FETCH_WAIT_MS_MAX = 50  # we never read at the end, so this is only met when the end moved back
_RETRY_SECONDS = 0.05
_TOPIC_RESOURCE = 2
_NOT_TOLD = -(1 << 31)
_TRANSIENT = (kafka.LeaderNotAvailableError, kafka.UnknownTopicOrPartitionError, kafka.NotLeaderForPartitionError)


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic as the brokers describe it. `id` is "" where the broker is too old to name ids (before Kafka 2.8)."""

    name: str
    id: str
    leaders: tuple[int, ...]  # by partition; -1 while there is none
    allowed: int | None = None  # a bit for each operation that we may do; None where the broker did not tell

    @property
    def partitions(self) -> list[TopicPartition]:
        return [TopicPartition(self.name, number) for number in range(len(self.leaders))]


@dataclass(frozen=True, slots=True)
class Fetched:
    """One answer of a log: whole record batches from the asked offset on, and who aborted among them."""

    batches: Any  # aiokafka's MemoryRecords
    aborted: list[tuple[int, int]]  # (producer id, first offset)


class Cluster:
    """Every method retries what passes by itself (a leader is being elected) until the caller's deadline."""

    def __init__(self, client: Any) -> None:
        self._client = client

    async def topics(self, names: Iterable[str]) -> dict[str, Topic]:
        """The topics that exist, without making any.

        Raises:
            KafkaError: Also Denied, when the right to describe one of them is missing.
        """
        wanted = sorted(set(names))
        if not wanted:
            return {}
        while True:
            answer = await self._describe(wanted)
            found = {topic.name: topic for topic in answer}
            if all(leader >= 0 for topic in answer for leader in topic.leaders):
                return found
            await asyncio.sleep(_RETRY_SECONDS)

    async def _describe(self, names: list[str]) -> list[Topic]:
        try:
            response = await self._anyone(TopicIdsRequest(names))
        except (NotImplementedError, kafka.IncompatibleBrokerVersion):
            response = await self._anyone(MetadataRequest(names, allow_auto_topic_creation=False))
        topics = []
        for topic in response.to_object()["topics"]:
            error = kafka.for_code(topic["error_code"])
            if error is kafka.UnknownTopicOrPartitionError:
                continue
            if error is kafka.TopicAuthorizationFailedError:
                raise Denied("Describe", f"topic {topic['topic']}")
            if error not in (kafka.NoError, kafka.LeaderNotAvailableError):
                raise error(topic["topic"])
            by_number = {partition["partition"]: partition["leader"] for partition in topic["partitions"]}
            leaders = tuple(by_number.get(number, -1) for number in range(max(by_number, default=-1) + 1))
            topic_id = topic.get("topic_id", "")
            allowed = topic.get("authorized_operations", _NOT_TOLD)
            topics.append(
                Topic(
                    topic["topic"],
                    "" if topic_id == Uuid.NONE else topic_id,
                    leaders or (-1,),
                    None if allowed == _NOT_TOLD else allowed,
                )
            )
        return topics

    async def configs(self, topics: Sequence[str], keys: list[str]) -> dict[str, dict[str, str]] | None:
        """These configurations of each topic; None when the right to read one of them is missing."""
        response = await self._anyone(DescribeConfigsRequest([(_TOPIC_RESOURCE, topic, keys) for topic in topics]))
        found = {}
        for resource in response.to_object()["resources"]:
            error = kafka.for_code(resource["error_code"])
            if error in (kafka.TopicAuthorizationFailedError, kafka.ClusterAuthorizationFailedError):
                return None
            if error is not kafka.NoError:
                raise error(resource["resource_name"])
            entries = resource["config_entries"]
            found[resource["resource_name"]] = {
                entry["config_names"]: entry["config_value"] for entry in entries if entry["config_value"] is not None
            }
        return found

    async def make(self, topic: str, partitions: int, replication_factor: int, configs: dict[str, str]) -> None:
        """Make a topic; that it exists already is fine. -1 is the broker's default."""
        request = MakeTopicRequest(topic, partitions, replication_factor, configs, timeout_ms=5000)
        while True:
            response = await self._controller(request)
            ((_, code, message),) = response.topic_errors
            error = kafka.for_code(code)
            if error in (kafka.NoError, kafka.TopicAlreadyExistsError):
                return
            if error in (kafka.TopicAuthorizationFailedError, kafka.ClusterAuthorizationFailedError):
                raise Denied("Create", f"topic {topic}")
            if not error.retriable:
                raise error(message or topic)
            await asyncio.sleep(_RETRY_SECONDS)

    async def ends(self, partitions: Sequence[TopicPartition], *, committed: bool) -> dict[TopicPartition, int]:
        """Where each log ends: for readers of committed data (the last stable offset), or for all readers."""
        return await self._offsets(partitions, _LATEST, committed)

    async def begins(self, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        return await self._offsets(partitions, _EARLIEST, False)

    async def fetch(self, partition: TopicPartition, offset: int, *, committed: bool) -> Fetched:
        """Read from `offset` on, once. No batches when nothing stands at or above it."""
        limits = (partition.partition, offset, _FETCH_BYTES_MAX)
        request = FetchRequest(_FETCH_WAIT_MS_MAX, 1, _FETCH_BYTES_MAX, int(committed), [(partition.topic, [limits])])
        while True:
            topics = await self.topics([partition.topic])
            if partition.topic in topics and partition.partition < len(topics[partition.topic].leaders):
                leader = topics[partition.topic].leaders[partition.partition]
                response = await self._ask(leader, request)
                ((_, (answer,)),) = response.topics
                error = kafka.for_code(answer[1])
                if error is kafka.NoError:
                    aborted = answer[5 if response.API_VERSION >= 5 else 4]
                    return Fetched(MemoryRecords(answer[-1] or b""), aborted or [])
                if error not in _TRANSIENT:
                    raise error(partition)
            await asyncio.sleep(_RETRY_SECONDS)

    async def batches(self, partition: TopicPartition, begin: int, end: int, *, bytes_max: int) -> AsyncIterator[Any]:
        """Every record batch of [begin, end), whatever became of its transaction, up to `bytes_max` of them."""
        offset = begin
        read = 0
        while offset < end and read < bytes_max:
            fetched = (await self.fetch(partition, offset, committed=False)).batches
            read += fetched.size_in_bytes()
            before = offset
            while fetched.has_next():
                batch = fetched.next_batch()
                offset = batch.next_offset
                if batch.base_offset < end:
                    yield batch
            if offset == before:
                return

    async def _offsets(
        self, partitions: Sequence[TopicPartition], when: int, committed: bool
    ) -> dict[TopicPartition, int]:
        found: dict[TopicPartition, int] = {}
        while True:
            missing = [partition for partition in partitions if partition not in found]
            if not missing:
                return found
            topics = await self.topics(partition.topic for partition in missing)
            by_leader: dict[int, dict[str, list[tuple[int, int]]]] = {}
            for topic, number in missing:
                leaders = topics[topic].leaders if topic in topics else ()
                if number < len(leaders):
                    by_leader.setdefault(leaders[number], {}).setdefault(topic, []).append((number, when))
            for leader, asked in by_leader.items():
                response = await self._ask(leader, OffsetRequest(-1, int(committed), list(asked.items())))
                for answer in response.to_object()["topics"]:
                    for part in answer["partitions"]:
                        error = kafka.for_code(part["error_code"])
                        partition = TopicPartition(answer["topic"], part["partition"])
                        if error is kafka.NoError:
                            found[partition] = part["offset"]
                        elif error not in _TRANSIENT:
                            raise error(partition)
            if len(found) < len(partitions):
                await asyncio.sleep(_RETRY_SECONDS)

    async def _anyone(self, request: Any) -> Any:
        """Ask any broker: one that is down is only one of several."""
        nodes = [broker.nodeId for broker in self._client.cluster.brokers()]
        random.shuffle(nodes)
        for node in nodes[:-1]:
            try:
                return await self._ask(node, request)
            except (kafka.NodeNotReadyError, kafka.KafkaConnectionError, kafka.RequestTimedOutError):
                continue
        return await self._ask(nodes[-1] if nodes else self._client.get_random_node(), request)

    async def _controller(self, request: Any) -> Any:
        controller = self._client.cluster.controller
        if controller is None:
            await self._client.force_metadata_update()
            controller = self._client.cluster.controller
        return await self._ask(controller.nodeId, request)

    async def _ask(self, node: int, request: Any) -> Any:
        """Once more when the broker closed the connection: it does so at the first request after a login has expired
        (`connections.max.reauth.ms`), and aiokafka does not log in again on an open connection. Every idle pipeline
        was reopened that often. Nothing here does harm twice.
        """
        try:
            return await self._client.send(node, request)
        except kafka.KafkaConnectionError:
            return await self._client.send(node, request)
