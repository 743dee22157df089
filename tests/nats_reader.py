"""Reads a stream as a stranger would: with nats-py's own JetStream client."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

import nats
from nats.js import JetStreamContext
from nats.js.api import ConsumerConfig, DeliverPolicy
from nats.js.errors import NotFoundError

# Headers that the sink adds to an event's own.
OURS = frozenset(
    {
        "Nats-Msg-Id",
        "Oplog-Key",
        "Nats-Expected-Last-Sequence",
        "Nats-Batch-Id",
        "Nats-Batch-Sequence",
        "Nats-Batch-Commit",
        "Oplog-Offset",
        "Oplog-Owner",
        "Oplog-Source-Id",
        "Oplog-Destination",
    }
)


class Message(NamedTuple):
    subject: str
    sequence: int  # of the stream
    headers: tuple[tuple[str, bytes], ...]
    data: bytes

    @property
    def sequence_of_the_oplog(self) -> int:
        return int(dict(self.headers)["Oplog-Sequence"])

    @property
    def key(self) -> bytes:
        return unquote_to_bytes(dict(self.headers).get("Oplog-Key", b""))


@asynccontextmanager
async def stream_client(url: str) -> AsyncIterator[JetStreamContext]:
    client = await nats.connect(url, allow_reconnect=False)
    try:
        yield client.jetstream()
    finally:
        await client.close()


async def read_stream(url: str, stream: str, *, seconds_max: float = 60.0) -> list[Message]:
    """All that the stream holds, in order."""
    async with asyncio.timeout(seconds_max), stream_client(url) as jetstream:
        try:
            expected = (await jetstream.stream_info(stream)).state.messages
        except NotFoundError:
            return []
        if expected == 0:
            return []
        config = ConsumerConfig(deliver_policy=DeliverPolicy.ALL)
        subscription = await jetstream.subscribe("", stream=stream, ordered_consumer=True, config=config)
        found = []
        while len(found) < expected:
            message = await subscription.next_msg(timeout=seconds_max)
            headers = tuple((name, value.encode()) for name, value in (message.headers or {}).items())
            found.append(Message(message.subject, message.metadata.sequence.stream, headers, message.data))
        return found
