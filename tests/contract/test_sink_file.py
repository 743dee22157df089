"""The file sink keeps the contract. What only a file does is in tests/integration/test_file_sink.py."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import ClassVar, Literal

import pytest

from oplogbridge import Event
from oplogbridge.testing import ReadBack, SinkContract, SinkReaderContract, SinkRig
from oplogbridge_sinks.file import FileSettings, plugin

NO_SERVER = "nothing is connected: the disk is asked by this process itself"


class FileRig(SinkRig):
    plugin = plugin
    opening: Literal["fences", "is refused"] = "is refused"

    def __init__(self, directory: Path) -> None:
        self.settings = FileSettings(path=f"{directory}/{{source}}.jsonl")
        self.directory = directory
        self.path = directory / "shop.jsonl"

    async def read_back(self) -> list[ReadBack]:
        lines = self.path.read_bytes().split(b"\n") if self.path.exists() else [b""]
        assert lines.pop() == b"", "the file ends in the middle of a line"
        return [ReadBack(line, None, None, None) for line in lines]

    def expected(self, event: Event) -> ReadBack:
        return ReadBack(event.payload.replace(b"\n", b" ").replace(b"\r", b" "), None, None, None)

    async def write_foreign(self) -> None:
        with self.path.open("ab") as file:
            file.write(b"not ours\n")

    @asynccontextmanager
    async def down(self) -> AsyncIterator[None]:
        """A directory that is not there stands for a file system that is not mounted."""
        away = self.directory.rename(f"{self.directory}.away")
        yield
        away.rename(self.directory)


class TestFileSink(SinkContract):
    lacks: ClassVar = {"fencing", "expectation", "size limit"}
    waived: ClassVar = {
        "test_a_destination_that_is_down_is_unavailable_and_works_again": NO_SERVER,
        "test_a_write_that_is_cut_off_is_whole_or_not_there": NO_SERVER,
        "test_the_position_survives_the_destination_being_killed": NO_SERVER,
        "test_lost_writes_show_in_the_position": "a file shorter than its sidecar stops the pipeline",
        "test_a_foreign_writer_is_noticed_by_the_next_opener": (
            "what lies beyond the sidecar's length cannot be told from a torn tail, and is cut"
        ),
    }

    @pytest.fixture
    def rig(self, tmp_path: Path) -> FileRig:
        directory = tmp_path / "out"
        directory.mkdir()
        return FileRig(directory)


class TestFileReader(SinkReaderContract):
    waived: ClassVar = {
        "test_what_retention_has_taken_is_known_to_be_trimmed": "a file keeps everything",
        "test_what_retention_takes_while_lanes_are_read_is_told_too": "a file keeps everything",
        "test_a_destination_that_is_down_is_said_to_be": NO_SERVER,
    }

    rig = TestFileSink.rig
