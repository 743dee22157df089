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


def hash_of(stream: str, context: SinkContext) -> str:
    """The key of the position. It shares the streams' slot, so that one script may touch both on Redis Cluster."""
    text = streams_of(stream, context).fill({"type": "type", "operation": "operation"})
    tag = re.search(r"\{([^}]+)\}", text)  # as Redis Cluster reads it
    return f"{{{tag.group(1) if tag else text}}}:oplog-bridge"


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
