"""The stdout sink keeps what the contract asks of a sink without a position."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from typing import IO, ClassVar

import pytest

from oplogbridge import Event, Sink, SinkContext
from oplogbridge.testing import ReadBack, SinkContract, SinkRig
from oplogbridge_sinks.stdout import StdoutSettings, StdoutSink, plugin


class StdoutRig(SinkRig):
    """A pipe, and a reader in a thread, as a shell would make them."""

    plugin = plugin
    settings = StdoutSettings()

    def __init__(self) -> None:
        reading, writing = os.pipe()
        self.stream: IO[bytes] = os.fdopen(writing, "wb")
        self.received = bytearray()
        self.reader = threading.Thread(target=self._read, args=[reading])
        self.reader.start()

    def _read(self, reading: int) -> None:
        with os.fdopen(reading, "rb", buffering=0) as pipe:
            while chunk := pipe.read(65536):
                self.received += chunk

    def sink(self, source_id: str = "any", owner: str = "bridge.orders") -> Sink:
        return StdoutSink(StdoutSettings(), SinkContext(owner, "orders", "shop", source_id), lambda: self.stream)

    async def read_back(self) -> list[ReadBack]:
        self.close()  # a pipe is read to its end
        lines = bytes(self.received).split(b"\n")
        assert lines.pop() == b"", "it ends in the middle of a line"
        return [ReadBack(line, None, None, None) for line in lines]

    def expected(self, event: Event) -> ReadBack:
        return ReadBack(event.payload.replace(b"\n", b" ").replace(b"\r", b" "), None, None, None)

    def close(self) -> None:
        if not self.stream.closed:
            self.stream.close()
        self.reader.join()


class TestStdoutSink(SinkContract):
    lacks: ClassVar = {"position", "bare offset", "lock", "expectation", "size limit"}
    waived: ClassVar = {
        "test_a_destination_that_is_down_is_unavailable_and_works_again": "a pipe whose reader left does not come back",
        "test_a_write_that_is_cut_off_is_whole_or_not_there": "nothing is acknowledged by a reader: at least once",
    }

    @pytest.fixture
    def rig(self) -> Iterator[StdoutRig]:
        rig = StdoutRig()
        yield rig
        rig.close()
