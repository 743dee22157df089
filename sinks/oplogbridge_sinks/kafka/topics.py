"""Topic names, and what must be true of a topic before anything is written to it."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Iterable, Mapping, Sequence

from aiokafka import errors as kafka

from oplogbridge.errors import BridgeError, Misconfigured, Unavailable
from oplogbridge.sink import SinkContext
from oplogbridge.templates import Template
from oplogbridge_sinks.kafka.batches import BATCH_BYTES_MAX, TopicLimits
from oplogbridge_sinks.kafka.checkpoint import WrittenTopic
from oplogbridge_sinks.kafka.cluster import Cluster, Topic
from oplogbridge_sinks.kafka.ends import Sent
from oplogbridge_sinks.kafka.rights import check_topic
from oplogbridge_sinks.kafka.settings import KafkaSettings

_UNSAFE_IN_VALUE = re.compile(r"[^A-Za-z0-9-]")
_UNSAFE_IN_NAME = re.compile(r"[^A-Za-z0-9._-]")
_BROKER_DEFAULT = -1
# A compacted topic is only compacted behind its active segment, so a small one keeps the checkpoint's log small.
_DAY_MS = 86_400_000
_WEAK = {
    "unclean.leader.election.enable": ("true", "a fail-over may lose acknowledged events, unseen: set it to false"),
    "min.insync.replicas": ("1", "what is acknowledged may be on one broker alone: set it to 2, with three replicas"),
}
_CHECKPOINT_CONFIGS = {"cleanup.policy": "compact", "segment.bytes": str(16 << 20)}
# How often a missing topic is looked for again: a broker that has just started answers before it knows them all.
_LOOKS_MAX = 5
_LOOK_SECONDS = 0.1
TOO_LARGE = (kafka.MessageSizeTooLargeError, kafka.RecordListTooLargeError)
# What is known by (servers, topic, compression), over all openings. A pipeline builds a new sink for each, and one that
# forgot what a refusal had taught sent the same batch for ever (a topic with `compression.type=uncompressed`).
_learned: dict[tuple[str, str, str], TopicLimits] = {}
_LEARNED_MAX = 4096
_LEARNED_SECONDS_MAX = 600.0  # after a refusal; then the next opening tries again: somebody may have raised the limit


def _hex(match: re.Match[str]) -> str:
    return "".join(f"_{byte:02X}" for byte in match.group().encode())


def safe(value: str) -> str:
    """A template's value as part of a topic name: `order line` is `order_20line`.

    Dots and underscores too, so that two values never share a name, and since Kafka refuses `a.b` beside `a_b`.
    """
    return _UNSAFE_IN_VALUE.sub(_hex, value)


def checkpoint_name(ctx: SinkContext) -> str:
    return _UNSAFE_IN_NAME.sub(_hex, f"{ctx.owner}.checkpoint")


def topic_template(settings: KafkaSettings, ctx: SinkContext) -> Template:
    return Template(settings.topic, constants={"source": ctx.source, "pipeline": ctx.pipeline}, escape=safe)


def destination_of(settings: KafkaSettings, ctx: SinkContext) -> str:
    """The topic as configured, with what is constant filled in: `kafka:oplog.shop.{type}`."""
    constants = {"source": safe(ctx.source), "pipeline": safe(ctx.pipeline)}
    return "kafka:" + Template(settings.topic, constants=constants).fill({"type": "{type}", "operation": "{operation}"})


def changes(written: Mapping[str, WrittenTopic], found: Mapping[str, Topic]) -> list[str]:
    """What is no longer true of the topics that the checkpoint counts on, one line each. Pure."""
    lines = []
    for name, before in written.items():
        now = found.get(name)
        if now is None:
            lines.append(f"topic {name} is gone")
        elif before.id and now.id and before.id != now.id:
            lines.append(f"topic {name} was deleted and made again (its id was {before.id}, now it is {now.id})")
        elif before.partitions != len(now.leaders):
            lines.append(f"topic {name} had {before.partitions} partitions and now has {len(now.leaders)}")
    return lines


def as_written(topic: Topic) -> WrittenTopic:
    return WrittenTopic(topic.id, len(topic.leaders))


class Topics:
    """Looks topics up, makes them where `create` allows it, and learns their limits."""

    def __init__(self, settings: KafkaSettings, ctx: SinkContext) -> None:
        self._settings = settings
        self._ctx = ctx
        self.checkpoint = checkpoint_name(ctx)
        self.limits: dict[str, TopicLimits] = {}

    async def found(self, cluster: Cluster, names: Iterable[str]) -> dict[str, Topic]:
        """Those of the topics that exist, after looking more than once for the others."""
        wanted = set(names)
        for look in range(_LOOKS_MAX):
            if look:
                await asyncio.sleep(_LOOK_SECONDS)
            topics = await cluster.topics(wanted)
            if topics.keys() >= wanted:
                break
        return topics

    async def _there(self, cluster: Cluster, names: Iterable[str]) -> dict[str, Topic]:
        """Like `found`; but where topics may be made, making one that exists does no harm, so one look is enough."""
        return await (cluster.topics(names) if self._settings.create else self.found(cluster, names))

    async def require_checkpoint(self, cluster: Cluster) -> Topic:
        """The checkpoint's topic, made if it may be, with one partition and compaction."""
        name = self.checkpoint
        topic = (await self._there(cluster, [name])).get(name)
        if topic is None:
            if not self._settings.create:
                raise Misconfigured(self._missing(name, "--partitions 1 --config cleanup.policy=compact"))
            topic = await self._make(cluster, name, 1, _CHECKPOINT_CONFIGS)
        check_topic(name, topic.allowed)
        if len(topic.leaders) != 1:
            raise Misconfigured(
                f"kafka: checkpoint topic {name} has {len(topic.leaders)} partitions and must have one:"
                f" delete it and make it again: {self._command(name, '--partitions 1 --config cleanup.policy=compact')}"
            )
        configs = await cluster.configs([name], ["cleanup.policy"])
        policy = configs[name].get("cleanup.policy", "") if configs is not None else "compact"  # no right: trust
        if {part.strip() for part in policy.split(",")} != {"compact"}:
            raise Misconfigured(
                f"kafka: checkpoint topic {name} has cleanup.policy={policy}, under which the position would expire:"
                f" kafka-configs.sh --bootstrap-server {self._settings.bootstrap_servers} --alter --topic {name}"
                " --add-config cleanup.policy=compact"
            )
        return topic

    async def require(self, cluster: Cluster, names: Iterable[str]) -> dict[str, Topic]:
        """The topics that events go to, made if they may be; their limits are known afterwards."""
        wanted = sorted(set(names))
        topics = await self._there(cluster, wanted)
        for name in wanted:
            if name not in topics:
                if not self._settings.create:
                    raise Misconfigured(self._missing(name, self._options()))
                topics[name] = await self._make(cluster, name, self._settings.partitions or _BROKER_DEFAULT, {})
            check_topic(name, topics[name].allowed)
        configs = await cluster.configs(wanted, ["max.message.bytes"]) if wanted else {}
        for name in wanted:
            limit = (configs or {}).get(name, {}).get("max.message.bytes")
            self._learn_limit(name, int(limit) if limit is not None else None)
        return topics

    async def cautions(self, cluster: Cluster, names: Iterable[str]) -> list[str]:
        """What in the topics' settings weakens the promise, or will."""
        wanted = sorted({self.checkpoint, *names})
        configs = await cluster.configs(wanted, [*_WEAK, "retention.ms"])
        if configs is None:
            return ["the topics' settings were not looked at: DescribeConfigs would let `check --connect` do so"]
        found = [
            f"topic {name} has {key}={value}: {why}"
            for name in wanted
            for key, (value, why) in _WEAK.items()
            if configs[name].get(key) == value
        ]
        for name in wanted:
            kept_ms = int(configs[name].get("retention.ms", "-1"))
            if name != self.checkpoint and kept_ms >= 0:
                found.append(f"topic {name} keeps events for {kept_ms / _DAY_MS:g} days, read or not")
        return found

    def _learn_limit(self, name: str, bytes_max: int | None) -> None:
        key = (self._settings.bootstrap_servers, name, self._settings.compression)
        limits, now_seconds = _learned.pop(key, None), time.monotonic()
        changed = limits is not None and bytes_max is not None and limits.event_bytes_max != bytes_max
        if limits is None or changed or limits.refused_at_seconds < now_seconds - _LEARNED_SECONDS_MAX:
            limits = TopicLimits(bytes_max or BATCH_BYTES_MAX, bytes_max, refused_at_seconds=now_seconds)
        while len(_learned) >= _LEARNED_MAX:
            del _learned[next(iter(_learned))]  # the one that was longest not asked for
        _learned[key] = self.limits[name] = limits

    def learn_refusal(self, sent: Sequence[Sent]) -> BridgeError:
        """A limit that we may not read, or that recompression by the broker moves: next time we keep it ourselves."""
        for partition, batch, future in sent:
            if future.done() and not future.cancelled() and isinstance(future.exception(), TOO_LARGE):
                if partition.topic == self.checkpoint:
                    return Misconfigured(
                        "kafka: the checkpoint names more topics than one record can:"
                        f" raise max.message.bytes of {self.checkpoint}"
                    )
                self.limits[partition.topic].learn_refusal(batch, time.monotonic())
        return Unavailable(
            "kafka: a batch was larger than its topic takes: smaller ones from now on", retry_after_seconds=0
        )

    async def _make(self, cluster: Cluster, name: str, partitions: int, configs: dict[str, str]) -> Topic:
        factor = self._settings.replication_factor or _BROKER_DEFAULT
        await cluster.make(name, partitions, factor, configs)
        while True:  # until the caller's deadline: brokers learn of a new topic one by one
            topics = await cluster.topics([name])
            if name in topics:
                return topics[name]
            await asyncio.sleep(_LOOK_SECONDS)

    def _options(self) -> str:
        options = f"--partitions {self._settings.partitions or 'N'}"
        factor = self._settings.replication_factor
        return options + (f" --replication-factor {factor}" if factor else "")

    def _missing(self, name: str, options: str) -> str:
        return (
            f"kafka: topic {name} does not exist: set `create: true` in the pipeline's sink, or run"
            f" {self._command(name, options)}"
        )

    def _command(self, name: str, options: str) -> str:
        servers = self._settings.bootstrap_servers
        return f"`kafka-topics.sh --bootstrap-server {servers} --create --topic {name} {options}`"
