"""What only standard output does: readers that leave, and readers that stop reading."""

from __future__ import annotations

import asyncio
import io
import os
from typing import IO

import pytest

from oplogbridge import Misconfigured, SinkContext
from oplogbridge.testing import make_batch, make_event
from oplogbridge_sinks.stdout import StdoutSettings, StdoutSink

FIRST = (1423124097 << 32) + 1


def sink_on(stream: IO[bytes]) -> StdoutSink:
    return StdoutSink(StdoutSettings(), SinkContext("bridge.orders", "orders", "shop", "any"), lambda: stream)


async def test_a_reader_that_left_stops_the_pipeline() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as stream:
        sink = sink_on(stream)
        await sink.open()

        for _ in range(2):  # a slow retry must find the same
            with pytest.raises(Misconfigured, match="nobody reads it any more; start the bridge again"):
                await sink.write(make_batch(FIRST))
            await sink.close()
            await sink.open()
        await sink.close()


async def test_a_stream_that_was_closed_stops_the_pipeline() -> None:
    stream = io.BytesIO()
    stream.close()
    sink = sink_on(stream)
    await sink.open()
    with pytest.raises(Misconfigured):
        await sink.write(make_batch(FIRST))
    await sink.close()


async def test_what_is_no_file_is_written_too() -> None:
    stream = io.BytesIO()
    sink = sink_on(stream)
    await sink.open()
    await sink.write(make_batch(make_event(FIRST, payload=b'{\n"a":1}')))
    await sink.close()
    assert stream.getvalue() == b'{ "a":1}\n'


async def test_a_reader_that_is_stuck_does_not_keep_the_sink_and_finds_whole_lines_later() -> None:
    reading, writing = os.pipe()
    large = make_event(FIRST, payload=b"x" * 1_000_000)
    with os.fdopen(writing, "wb") as stream, os.fdopen(reading, "rb") as reader:
        sink = sink_on(stream)
        await sink.open()
        write = asyncio.ensure_future(sink.write(make_batch(large)))
        first = await asyncio.to_thread(reader.read, 5)  # it is in the middle of the line now

        write.cancel()
        await asyncio.wait([write])
        await sink.close()
        sink = sink_on(stream)  # as a pipeline does for every opening
        await sink.open()
        rest = asyncio.create_task(asyncio.to_thread(reader.read))
        await sink.write(make_batch(FIRST + 1))
        await sink.close()
        stream.close()

        assert (first + await rest).splitlines() == [large.payload, make_event(FIRST + 1).payload]
