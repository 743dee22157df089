"""The `kafka` sink: a transaction per batch, with a checkpoint in it. See `sink.py` for what it guarantees."""

from __future__ import annotations

from oplogbridge.sink import SinkContext, SinkPlugin
from oplogbridge_sinks.kafka.rights import permissions
from oplogbridge_sinks.kafka.settings import KafkaSettings
from oplogbridge_sinks.kafka.sink import TRAITS, KafkaSink
from oplogbridge_sinks.kafka.topics import checkpoint_name, topic_template


def _permissions(settings: KafkaSettings, ctx: SinkContext) -> list[str]:
    template = topic_template(settings, ctx)
    return permissions(ctx.owner, checkpoint_name(ctx), template.constant, template.prefix, create=settings.create)


plugin = SinkPlugin(
    kind="kafka",
    summary="Kafka topics, exactly once: a transaction per batch, with the position in it",
    settings=KafkaSettings,
    traits=lambda _settings: TRAITS,
    build=KafkaSink,
    permissions=_permissions,
)

__all__ = ["KafkaSettings", "KafkaSink", "plugin"]
