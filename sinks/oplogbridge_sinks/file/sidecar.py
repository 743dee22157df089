"""The sidecar: an offset, and how much of the file belongs to it; and what it takes to get bytes onto a disk."""

from __future__ import annotations

import fcntl
import json
import os
from dataclasses import dataclass

from oplogbridge.errors import Misconfigured
from oplogbridge.values import OFFSET_MAX

FORMAT_VERSION = 1


@dataclass(frozen=True, slots=True)
class Sidecar:
    """What the sidecar holds: an offset, and the file that belongs to it."""

    offset: int
    length: int
    tail: int  # checksum of the last TAIL_BYTES before `length`
    owner: str
    source: str
    destination: str

    def encode(self) -> bytes:
        record = {
            "v": FORMAT_VERSION,
            "offset": str(self.offset),  # text: a double cannot hold it
            "length": self.length,
            "tail": self.tail,
            "owner": self.owner,
            "source": self.source,
            "destination": self.destination,
        }
        return json.dumps(record, ensure_ascii=False).encode() + b"\n"

    @classmethod
    def decode(cls, text: bytes) -> Sidecar:
        record = json.loads(text)
        if record["v"] > FORMAT_VERSION:
            raise Misconfigured(
                f"its sidecar has format {record['v']}, this version knows {FORMAT_VERSION}: use the newer oplog-bridge"
            )
        numbers = (int(record["offset"]), int(record["length"]), int(record["tail"]))
        if not 0 <= numbers[0] <= OFFSET_MAX or numbers[1] < 0:
            raise ValueError(f"offset {str(numbers[0])[:40]}, length {str(numbers[1])[:40]}")
        return cls(*numbers, str(record["owner"]), str(record["source"]), str(record["destination"]))


def write_all(descriptor: int, data: bytes) -> None:
    unwritten = memoryview(data)
    while unwritten:  # one call, unless a full disk cuts it short: the next one then says so
        unwritten = unwritten[os.write(descriptor, unwritten) :]


def sync(descriptor: int) -> None:
    if hasattr(fcntl, "F_FULLFSYNC"):  # macOS: fsync alone leaves it in the drive's cache
        fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)
    else:
        os.fdatasync(descriptor)
