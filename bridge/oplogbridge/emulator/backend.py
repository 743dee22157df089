"""Everything that the emulated deployment consists of, and what can be done to it from within the process."""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec

from oplogbridge.clock import Clock, SystemClock
from oplogbridge.emulator.attachments import Attachment, State
from oplogbridge.emulator.datamodel import DataModel, load_datamodel
from oplogbridge.emulator.entry import entry_body
from oplogbridge.emulator.faults import Fault, FaultQueue
from oplogbridge.emulator.history import load_lines, write_history
from oplogbridge.emulator.log import Log, MemoryLog
from oplogbridge.emulator.objects import Objects
from oplogbridge.emulator.page import PreparedPages, Query
from oplogbridge.emulator.ratelimit import TokenBucket
from oplogbridge.emulator.requests import RequestLog
from oplogbridge.emulator.sequences import iso_second, next_sequence, second_of
from oplogbridge.emulator.settings import DATAMODEL_HASH_DEFAULT, EmulatorSettings
from oplogbridge.emulator.sqlite_log import SqliteLog
from oplogbridge.emulator.switches import Switches
from oplogbridge.emulator.workload import AppWorkload, FixedWorkload, Workload
from oplogbridge.emulator.workload_model import WORKLOAD_MODEL
from oplogbridge.errors import ConfigError

WRITE_TICK_SECONDS = 0.05  # `rate` in steps no shorter than this


class Backend:
    """Settings are given whole or by name."""

    def __init__(
        self, settings: EmulatorSettings | None = None, /, *, clock: Clock | None = None, **changes: Any
    ) -> None:
        self.settings = settings = replace(settings or EmulatorSettings(), **changes)
        self.clock = clock or SystemClock()
        self.faults = FaultQueue(settings.seed, self.clock.monotonic)
        self.requests = RequestLog()
        self.switches = settings.switches
        self.prepared = PreparedPages()
        self.last_query: Query | None = None  # what was answered last, for the fault `duplicate_page`
        self.bucket: TokenBucket | None = None
        if settings.requests_per_second is not None:
            self.bucket = TokenBucket(settings.requests_per_second, settings.request_burst)
        self.log: Log = MemoryLog() if settings.data == "memory" else _open_file(Path(settings.data))
        self._workload: Workload | None = None
        self._minted = 0
        model = WORKLOAD_MODEL if settings.model is None else load_datamodel(settings.model)
        self.objects = Objects(self.log, self._mint, model, lambda: self.switches)
        self.objects.attachments.unix = self.clock.unix
        # Set it for a deploy that changes nothing else: history carries the new one from then on.
        self.datamodel_hash = settings.datamodel_hash or (
            DATAMODEL_HASH_DEFAULT if settings.model is None else model.hash
        )
        self._deployed_at = self.clock.unix()

    @property
    def deployed_at(self) -> str:
        return iso_second(int(self._deployed_at)).decode()

    def deploy(self, model: DataModel) -> None:
        """A new data model, while it runs. History is shown by it from now on."""
        self.objects.deploy(model)
        self.datamodel_hash, self._deployed_at = model.hash, self.clock.unix()

    def attach(self, id_: str, state: State, content: bytes = b"", filename: str = "attachment") -> None:
        """An attachment's bytes come later, or never: its state changes. Whether that is logged is a switch."""
        with self.objects.writing():
            self.objects.keep_attachment(Attachment(id_, state, filename, content))
            if self.switches.attachment_entry:
                self.objects.touch(id_)

    @property
    def username(self) -> str:
        return self.settings.username or self.settings.deployment

    def fill(self) -> None:
        """Bring in what the settings name. A log that already holds entries, in its file, is left as it is.

        Raises ConfigError for a file that cannot be read, ValueError for an `entry_bytes` that holds no entry.
        """
        if self.settings.entry_bytes is not None:
            FixedWorkload(self.settings.entry_bytes, objects=1)
        if self.settings.faults is not None:
            for fault in _read_faults(self.settings.faults):
                self.faults.add(fault)
        if len(self.log) > 0:
            return
        if self.settings.load is not None:
            self.load(self.settings.load)
        if self.settings.entries > 0:
            write_history(self.log, self.workload, self.settings.entries, seed=self.settings.seed)

    @property
    def workload(self) -> Workload:
        """Made when it is first needed: a log from a file goes on with other objects than those that it holds."""
        if self._workload is None:
            seed = f"{self.settings.seed}/{len(self.log)}"
            if self.settings.entry_bytes is not None:
                self._workload = FixedWorkload(self.settings.entry_bytes, seed)
            else:
                self._workload = AppWorkload(seed)
        self._workload.delete_object = self.switches.delete_object
        return self._workload

    def append(self, operation: str, object_: Mapping[str, Any] | bytes, *, sequence: int | None = None) -> int:
        """Write one entry and return its sequence. A sequence below the newest is an entry that was committed late.

        A mapping without `updated_at` gets one; bytes are the object's JSON and are kept as they are.
        """
        sequence = self._mint() if sequence is None else sequence
        self.log.append([sequence], [entry_body(operation, object_)])
        return sequence

    def append_raw(self, text: str | bytes, *, sequence: int | None = None) -> int:
        """Place an entry's own text in the log, served as it stands in every mode: malformed entries are made so."""
        text = text.encode() if isinstance(text, str) else text
        if not text.startswith(b"{"):
            raise ValueError("an entry's text begins with '{'")
        sequence = self._mint() if sequence is None else sequence
        self.log.append([sequence], [text])
        return sequence

    def append_lines(self, lines: Iterable[bytes]) -> list[int]:
        """Play JSON Lines as `--load` does, beginning now."""
        now = int(self.clock.unix())
        return load_lines(self.log, lines, default_type="object", first_second=now, where="entries")

    def load(self, path: Path) -> list[int]:
        """Play a file of JSON Lines, beginning in the fixed second of all histories."""
        try:
            with path.open("rb") as file:
                return load_lines(self.log, file, default_type=path.stem, where=str(path))
        except OSError as error:
            raise ConfigError(str(path), [f"cannot be read: {error.strerror}"]) from error

    def write(self, entries: int) -> range:
        """Let the workload write so many entries in this second; returns their sequences."""
        if entries < 1:
            return range(0)
        first = self._mint(entries)
        written = range(first, first + entries)
        self.log.append(written, self.workload.bodies(entries, second_of(first)))
        return written

    async def write_on(self) -> None:
        """Write `rate` entries a second until cancelled. What a suspended machine missed is not made up for."""
        rate = self.settings.rate
        begun_seconds, written = self.clock.monotonic(), 0
        while True:
            await self.clock.sleep(max(1 / rate, WRITE_TICK_SECONDS))
            due = int((self.clock.monotonic() - begun_seconds) * rate) - written
            written += due
            self.write(min(due, math.ceil(rate)))

    def switch(self, **changes: Any) -> None:
        """Change undocumented behaviour while it runs: `switch(tail_order="descending")`."""
        self.switches = msgspec.convert(msgspec.structs.asdict(self.switches) | changes, Switches)

    def _mint(self, count: int = 1) -> int:
        """The first of so many in a row."""
        # What a fault took out of the log was given out all the same: no sequence comes twice.
        first = next_sequence(max(self.log.newest, self._minted), int(self.clock.unix()))
        self._minted = first + count - 1
        return first


def _open_file(path: Path) -> SqliteLog:
    try:
        return SqliteLog(path)
    except sqlite3.DatabaseError as error:
        raise ConfigError(str(path), [f"cannot be used as the emulator's data: {error}"]) from error


def _read_faults(path: Path) -> list[Fault]:
    try:
        return msgspec.json.decode(path.read_bytes(), type=list[Fault])
    except OSError as error:
        raise ConfigError(str(path), [f"cannot be read: {error.strerror}"]) from error
    except msgspec.DecodeError as error:
        raise ConfigError(str(path), [str(error)]) from error
