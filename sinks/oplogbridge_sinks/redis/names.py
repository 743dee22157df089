"""What things are called at the destination: streams, the hash that holds the position, the rights to both. Pure."""

from __future__ import annotations

import re

from oplogbridge.sink import SinkContext
from oplogbridge.templates import Template

_GLOB = re.compile(r"([*?\[\]\\])")


def streams_of(stream: str, context: SinkContext) -> Template:
    """Fills in the stream of an event."""
    return Template(stream, constants={"source": context.source, "pipeline": context.pipeline}, escape=_escape)


def shown(stream: str, context: SinkContext) -> str:
    """The template for people, what varies still in braces."""
    return Template(stream, constants=_constants(context)).fill({"type": "{type}", "operation": "{operation}"})


def stream_aside(stream: str, name: str) -> str:
    """The template of another stream, with a position of its own: in a constant tag, which names that, too."""
    before, ends, behind = stream.partition("}}")
    return f"{before}:replay:{name}{ends}{behind}"


def hash_of(stream: str, context: SinkContext) -> str:
    """The key of the position. It shares the streams' slot, so that one script may touch both on Redis Cluster."""
    return _position_of(streams_of(stream, context).fill({"type": "type", "operation": "operation"}))


def has_one_slot(stream: str) -> bool:
    """Whether all that the template makes lies in one slot of Redis Cluster, the position with it."""
    named = Template(stream, constants={"source": "source", "pipeline": "pipeline"})
    keys = [named.fill({"type": word, "operation": word}) for word in ("one", "other")]
    return len({_hashed(key) for key in (*keys, _position_of(keys[0]))}) == 1


def _position_of(stream: str) -> str:
    return f"{{{_hashed(stream)}}}:oplog-bridge"


def _hashed(key: str) -> str:
    """What of a key Redis Cluster takes the slot from."""
    tag = re.match(r"[^{]*\{([^}]+)\}", key)
    return tag.group(1) if tag else key


def patterns_of(stream: str, context: SinkContext) -> tuple[str, str]:
    """The same two as patterns of an ACL."""
    constants = {name: _GLOB.sub(r"\\\1", value) for name, value in _constants(context).items()}
    streams = Template(stream, constants=constants).fill({"type": "*", "operation": "*"})
    return streams, _GLOB.sub(r"\\\1", hash_of(stream, context))


def _constants(context: SinkContext) -> dict[str, str]:
    return {"source": _escape(context.source), "pipeline": _escape(context.pipeline)}


def _escape(value: str) -> str:
    """Braces make hash tags: a name must not choose the slot."""
    return value.replace("%", "%25").replace("{", "%7B").replace("}", "%7D")
