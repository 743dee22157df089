"""The ceiling: a destination's own client, with everything prepared, writing the very events that the bridge writes.

`python benchmarks/client_alone.py kafka --url … --into … --source URL --pages 4` reads and encodes the whole source
first; only what follows counts. It prints when that began and ended, on the clock that all processes share. It does no
more than the destination asks for: nothing is fenced, checked or saved beside it.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
from collections.abc import Iterator, Sequence
from time import monotonic, time
from typing import Any
from urllib.parse import urlsplit

import aiohttp
from source import PAGE_ENTRIES

from oplogbridge.codec.encode import Codec
from oplogbridge.codec.subjects import Filter
from oplogbridge.source.decode import PageDecoder
from oplogbridge.values import Event

KAFKA_BATCH_BYTES_MAX = 1_000_000  # below the brokers' default of message.max.bytes


async def _events(url: str) -> list[Event]:
    decoder, codec = PageDecoder(), Codec(source="bench", format="cloudevents", filter=Filter("bench"))
    events: list[Event] = []
    offset, more = 0, True
    async with aiohttp.ClientSession() as session:
        while more:
            parameters = {"start": str(offset), "limit": str(PAGE_ENTRIES), "sequence_ids": "true"}
            async with session.get(f"{url}/oplog.json", params=parameters) as response:
                page = decoder.decode(await response.read(), offset)
            events += codec.events(page)
            offset, more = page.next_offset, page.more
    return events


def _writes(events: Sequence[Event], pages: int) -> Iterator[Sequence[Event]]:
    step = pages * PAGE_ENTRIES
    return (events[begin : begin + step] for begin in range(0, len(events), step))


async def _kafka(arguments: argparse.Namespace, events: Sequence[Event]) -> tuple[float, float]:
    """A transaction a write, with a checkpoint record in it."""
    from aiokafka import AIOKafkaProducer

    # With the sink's two settings of aiokafka, which it has no options for: the fastest zstd level, and 1 ms instead of
    # 20 between transactions. Without them the ceiling would lie below the bridge.
    import oplogbridge_sinks.kafka.producer  # noqa: F401

    producer = AIOKafkaProducer(
        bootstrap_servers=arguments.url,
        transactional_id=f"{arguments.into}.alone",
        compression_type="zstd",
        max_batch_size=KAFKA_BATCH_BYTES_MAX,
    )
    await producer.start()
    await producer.partitions_for(arguments.into)
    await producer.partitions_for(arguments.checkpoint)
    begun = monotonic()
    for write in _writes(events, arguments.pages):
        timestamp_ms = int(time() * 1000)
        await producer.begin_transaction()
        sent: list[Any] = []
        batch = producer.create_batch()
        for event in write:
            headers = [*event.headers]
            if batch.append(key=event.key, value=event.payload, timestamp=timestamp_ms, headers=headers) is None:
                sent.append(await producer.send_batch(batch, arguments.into, partition=0))
                batch = producer.create_batch()
                batch.append(key=event.key, value=event.payload, timestamp=timestamp_ms, headers=headers)
        sent.append(await producer.send_batch(batch, arguments.into, partition=0))
        checkpoint = producer.create_batch()
        checkpoint.append(key=b"bench", value=b"%d" % write[-1].sequence, timestamp=timestamp_ms)
        sent.append(await producer.send_batch(checkpoint, arguments.checkpoint, partition=0))
        await asyncio.gather(*sent)
        await producer.commit_transaction()
    ended = monotonic()
    await producer.stop()
    return begun, ended


async def _redis(arguments: argparse.Namespace, events: Sequence[Event]) -> tuple[float, float]:
    """The sink's own script, its requests packed beforehand, over a bare socket."""
    import hiredis

    from oplogbridge_sinks.redis.scripts import OPEN, WRITE

    where = urlsplit(arguments.url)
    stream, state = arguments.into, f"{{{arguments.into}}}:alone"
    requests: list[bytes] = []
    offset = ""
    for write in _writes(events, arguments.pages):
        next_offset = str(write[-1].sequence + 1)
        head = ("token", offset, next_offset, "alone", "bench", stream, "", str(len(write)))
        fields = [text for event in write for text in (event.id, event.key, event.type, event.payload)]
        requests.append(_packed(hiredis, "EVALSHA", WRITE.sha, "2", state, stream, *head, *fields))
        offset = next_offset
    reader, writer = await asyncio.open_connection(where.hostname, where.port)
    answers = hiredis.Reader()

    async def ask(request: bytes) -> None:
        writer.write(request)
        while (answer := answers.gets()) is False:
            answers.feed(await reader.read(65_536))
        if isinstance(answer, Exception) or (isinstance(answer, list) and answer[0] != b"ok"):
            raise RuntimeError(f"Redis refused: {answer}")

    await ask(_packed(hiredis, "SCRIPT", "LOAD", WRITE.text))
    await ask(_packed(hiredis, "EVAL", OPEN.text, "2", state, stream, "1", "token", "alone"))
    begun = monotonic()
    for request in requests:
        await ask(request)
    ended = monotonic()
    writer.close()
    return begun, ended


def _packed(hiredis: Any, *words: str | bytes) -> bytes:
    packed: bytes = hiredis.pack_command(words)
    return packed


async def _nats(arguments: argparse.Namespace, events: Sequence[Event]) -> tuple[float, float]:
    """Atomic batches, laid out beforehand, over a bare socket: nats-py's own publish reaches half of that."""
    from oplogbridge.sink import SinkContext
    from oplogbridge_sinks.nats.frames import Frames, batch_headers, subject_template

    where, context = urlsplit(arguments.url), SinkContext("alone", "bench", "bench", "bench")
    frames = Frames(
        subject_template(f"{arguments.into}.{{type}}.{{operation}}", context), context, arguments.into, [">"]
    )
    batches: list[bytes] = []
    for number, write in enumerate(_writes(events, 1)):
        batch_id, count = b"%022d" % number, len(write)
        *most, last = frames.batch(write, batch_id)
        last = frames.message(write[-1], batch_headers(batch_id, count) + b"Nats-Batch-Commit: 1\r\n", b"alone.answer")
        batches.append(b"".join([*most, last]))
    reader, writer = await asyncio.open_connection(where.hostname, where.port)
    await reader.readline()  # INFO
    writer.write(b'CONNECT {"verbose":false,"headers":true}\r\nSUB alone.answer 1\r\nPING\r\n')
    while (await reader.readline()).strip() != b"PONG":
        pass
    begun = monotonic()
    for batch in batches:
        writer.write(batch)
        while (line := await reader.readline()).startswith(b"PING"):
            writer.write(b"PONG\r\n")
        answer = json.loads(await reader.readline())
        if not line.startswith(b"MSG ") or "error" in answer:
            raise RuntimeError(f"NATS refused: {line!r} {answer}")
    ended = monotonic()
    writer.close()
    return begun, ended


async def _file(arguments: argparse.Namespace, events: Sequence[Event]) -> tuple[float, float]:
    """Append and sync, a write at a time."""
    descriptor = os.open(arguments.into, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o640)
    begun = monotonic()
    for write in _writes(events, arguments.pages):
        lines = memoryview(b"\n".join([event.payload for event in write]) + b"\n")
        while lines:
            lines = lines[os.write(descriptor, lines) :]
        os.fdatasync(descriptor)
    ended = monotonic()
    os.close(descriptor)
    return begun, ended


async def _webhook(arguments: argparse.Namespace, events: Sequence[Event]) -> tuple[float, float]:
    """aiohttp's client: requests are made and signed beforehand; so many at once, each after an answer."""
    from oplogbridge_sinks.webhook.signature import key_of
    from oplogbridge_sinks.webhook.wire import Requests

    make = Requests("bench", [key_of(arguments.secret)], {}, as_array=arguments.batch > 1).made
    step = arguments.batch
    parts = (events[begin : begin + step] for begin in range(0, len(events), step))
    requests = iter([make(part, timestamp=int(time()), count=1) for part in parts])
    connector = aiohttp.TCPConnector(limit=arguments.at_once)
    async with aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar()) as session:

        async def send() -> None:
            for body, headers in requests:
                async with session.post(arguments.url, data=body, headers=headers, allow_redirects=False) as response:
                    response.raise_for_status()

        begun = monotonic()
        await asyncio.gather(*(send() for _ in range(arguments.at_once)))
        return begun, monotonic()


async def _run(arguments: argparse.Namespace) -> None:
    events = (await _events(arguments.source))[-arguments.last :]
    gc.collect()
    gc.freeze()
    gc.set_threshold(200_000, 50, 100)  # as the bridge does
    begun, ended = await CLIENTS[arguments.kind](arguments, events)
    print(json.dumps({"begun": begun, "ended": ended}), flush=True)


CLIENTS = {"kafka": _kafka, "redis": _redis, "nats": _nats, "file": _file, "webhook": _webhook}


def main() -> None:
    parser = argparse.ArgumentParser(description="A destination's client alone.")
    parser.add_argument("kind", choices=[*CLIENTS])
    parser.add_argument("--source", required=True)
    parser.add_argument("--url", help="of the destination's server")
    parser.add_argument("--into", help="topic, stream or path")
    parser.add_argument("--checkpoint", help="topic")
    parser.add_argument("--pages", type=int, default=4, help="in one write")
    parser.add_argument("--last", type=int, default=0, help="only so many events; 0: all")
    parser.add_argument("--batch", type=int, default=1, help="webhook: events in one request")
    parser.add_argument("--secret", help="webhook: that signs")
    parser.add_argument("--at-once", type=int, default=1, help="webhook: requests")
    asyncio.run(_run(parser.parse_args()))


main()
