"""The `kafka` sink: a transaction per batch, with a checkpoint in it. See `sink.py` for what it guarantees."""

from __future__ import annotations

from dataclasses import replace

from oplogbridge.sink import Refused, SinkContext, SinkPlugin, SinkTraits
from oplogbridge.templates import Template
from oplogbridge_sinks.kafka.reading import KafkaReader
from oplogbridge_sinks.kafka.rights import permissions
from oplogbridge_sinks.kafka.settings import KafkaSettings
from oplogbridge_sinks.kafka.sink import TRAITS, KafkaSink
from oplogbridge_sinks.kafka.topics import checkpoint_name, topic_template


def _traits(settings: KafkaSettings) -> SinkTraits:
    if "operation" not in Template(settings.topic).varies:
        return TRAITS
    return replace(TRAITS, tombstones=Refused("a topic over {operation} keeps deletes apart from what they delete"))


def _permissions(settings: KafkaSettings, ctx: SinkContext) -> list[str]:
    template = topic_template(settings, ctx)
    return permissions(ctx.owner, checkpoint_name(ctx), template.constant, template.prefix, create=settings.create)


plugin = SinkPlugin(
    kind="kafka",
    summary="Kafka topics, exactly once: a transaction per batch, with the position in it",
    settings=KafkaSettings,
    traits=_traits,
    build=KafkaSink,
    permissions=_permissions,
    aside=lambda _settings, _name: {"create": True},  # the same topics; a replay's checkpoint topic is its own
    reader=KafkaReader,
)

__all__ = ["KafkaSettings", "KafkaSink", "plugin"]
