"""The `kafka` sink: a transaction per batch, with a checkpoint in it. See `sink.py` for what it guarantees."""

from __future__ import annotations

from oplogbridge.sink import SinkContext, SinkPlugin
from oplogbridge_sinks.kafka.settings import KafkaSettings
from oplogbridge_sinks.kafka.sink import TRAITS, KafkaSink
from oplogbridge_sinks.kafka.topics import checkpoint_name, topic_template


def _permissions(settings: KafkaSettings, ctx: SinkContext) -> list[str]:
    template = topic_template(settings, ctx)
    if template.constant is not None:
        topic = f"topic {template.constant}"
    else:
        filled = template.fill({"type": "\0", "operation": "\0"})
        topic = f"topics beginning with {filled.partition('_00')[0]}"
    rights = "Read, Write, Describe, DescribeConfigs" + (", Create" if settings.create else "")
    return [
        f"Write, Describe on transactional id {ctx.owner}",
        f"{rights} on topic {checkpoint_name(ctx)}",
        f"{rights} on {topic}",
    ]


plugin = SinkPlugin(
    kind="kafka",
    summary="Kafka topics, exactly once: a transaction per batch, with the position in it",
    settings=KafkaSettings,
    traits=lambda _settings: TRAITS,
    build=KafkaSink,
    permissions=_permissions,
)

__all__ = ["KafkaSettings", "KafkaSink", "plugin"]
