"""One line under test: the emulator, the bridge, a destination and a state store, each a process of its own."""

from __future__ import annotations

import contextlib
import random
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import rig
from auditor import Audit, audit
from chaos.background import Wire
from chaos.destinations import Destination
from services import RedisServer

POLL_INTERVAL_SECONDS = 0.02
LOOK_SECONDS = 0.02
RECOVERED_WITHIN_SECONDS = 90.0
COPIED_WITHIN_SECONDS = 240.0
WORK_ENTRIES = 600
PAGE_LIMIT = 50  # small pages and short polls: whenever something strikes, a write is under way
AUDIT_LIMIT = 1000  # `EmulatorProcess.entries` reads by so many
LEASE_TTL = "2s"


@dataclass
class Line:
    """Made whole by `with`; started by whoever is about to break it."""

    destination: Destination
    source: rig.EmulatorProcess
    folder: Path
    times: int
    moments: random.Random
    store: RedisServer | None = None  # where the state is; None: SQLite
    store_wire: Wire | None = None
    version: str = "v4"
    recoveries: list[float] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    destroyed: set[int] = field(default_factory=set)  # what the destination itself lost for good
    strikes: int = 0
    standby: rig.BridgeProcess | None = None
    newest_written: int = 0

    def __post_init__(self) -> None:
        self.bridge = self.instance("bridge")

    def instance(self, name: str, *options: str) -> rig.BridgeProcess:
        """A bridge of this line's configuration with a log of its own. Instances of one name are one pod, restarted."""
        config = self.folder / f"{name}.yaml"
        wire = self.store_wire
        state = f"sqlite:///{self.folder / 'state.db'}"
        if self.store is not None:
            state = f"redis://127.0.0.1:{self.store.port if wire is None else wire.port}/0"
        url = self.source.url if self.version == "v4" else f"{self.source.root}/api/v1"
        rig.write_config(
            config,
            self.source,
            {"copy": self.destination.settings()},
            state=state,
            source_options={
                "url": url,
                "api": self.version,
                "id": "shop",
                "page_limit": PAGE_LIMIT,
                "poll_interval": f"{POLL_INTERVAL_SECONDS * 1000:g}ms",
                "request_timeout": "3s",
            },
            defaults={"tombstones": True} if self.destination.kind == "kafka" else {},
            instance=name,
            lease_ttl=LEASE_TTL,
        )
        return rig.BridgeProcess(config, self.folder / f"{name}.log", *options)

    # Work -----------------------------------------------------------------------------------------------------------

    def work(self, entries: int = WORK_ENTRIES) -> None:
        """So much more is in the source's log."""
        self.newest_written = self.source.write(entries)

    def start(self) -> None:
        """The bridge runs and has delivered something."""
        self.work()
        self.bridge.start()
        self.delivered()

    def struck(self) -> Iterator[int]:
        """Once for each time that this fault is to strike, at a random moment while the line is at work."""
        for number in range(self.times):
            self.work()
            self.wait(self.moments.uniform(0.0, 0.2))
            self.strikes += 1
            yield number

    def delivered(self) -> None:
        """A reader sees all that the source has."""
        self.until(lambda: self.destination.newest() >= self.newest_written, "everything delivered")

    @contextlib.contextmanager
    def recovery(self) -> Iterator[None]:
        """Counts from here until a reader sees all that was written before."""
        self.work(entries=10)
        begin = time.monotonic()
        yield
        self.delivered()
        self.recoveries.append(time.monotonic() - begin)

    def recovered(self) -> None:
        """What was done to it is over: counts from here."""
        with self.recovery():
            pass

    def restarted(self) -> None:
        """SIGKILL, and a new start, from which it counts."""
        self.bridge.kill()
        with self.recovery():
            self.bridge.start()

    def until(self, holds: Callable[[], bool], what: str) -> None:
        """Looks again and again, while the bridge lives."""
        deadline = time.monotonic() + RECOVERED_WITHIN_SECONDS
        while not holds():
            code = self.bridge.exited(LOOK_SECONDS)
            assert code is None, f"the bridge ended with {code} before: {what}\n{self.bridge.tail()}"
            assert time.monotonic() < deadline, f"not in time: {what}\n{self.bridge.tail()}"

    def wait(self, seconds: float) -> None:
        """A fault lasts so long, and the bridge outlives it."""
        code = self.bridge.exited(seconds)
        assert code is None, f"the bridge ended with {code}:\n{self.bridge.tail()}"

    def works_for(self, seconds: float) -> None:
        """As `wait`, with work to do."""
        self.work()
        self.wait(seconds)

    # What it says ---------------------------------------------------------------------------------------------------

    def mark(self) -> int:
        """A place in the log, for `said_since`."""
        return self.bridge.log.stat().st_size if self.bridge.log.exists() else 0

    def said_since(self, mark: int, text: str) -> None:
        def there() -> bool:
            with self.bridge.log.open("rb") as log:
                log.seek(mark)
                return text.encode() in log.read()

        self.bridge.until(there, f"{text!r} in the log")

    def gave_up(self, instance: rig.BridgeProcess) -> None:
        """It woke up, saw that its lease is another's, and waits for it again: so says the end of its log."""

        def waits() -> bool:
            said = instance.log.read_text(errors="replace")
            return "lease held" not in said[said.rfind("lease given up") :] and "lease given up" in said

        instance.until(waits, "the lease given up")

    def note(self, text: str) -> None:
        """For the table, in the cell."""
        self.notes.append(text)

    # The end --------------------------------------------------------------------------------------------------------

    def stop(self) -> None:
        """SIGTERM, and the end that it promises."""
        if self.bridge.process is not None and self.bridge.process.poll() is None:
            self.bridge.signal(signal.SIGTERM)
            code = self.bridge.exited(rig.WITHIN_SECONDS)
            assert code == 0, f"SIGTERM ended with {code}:\n{self.bridge.tail()}"

    def decided(self, mark: int, said: str, offset: int) -> None:
        """It stopped, and says why; an operator ends it, sets the offset, and starts it."""
        self.said_since(mark, said)
        self.bridge.signal(signal.SIGTERM)
        code = self.bridge.exited(rig.WITHIN_SECONDS)
        assert code in (0, 3), f"SIGTERM ended with {code}:\n{self.bridge.tail()}"
        self.command("offsets", "set", "copy", str(offset))
        with self.recovery():
            self.bridge.start()

    def settled(self) -> int:
        """All is delivered, and the state store knows, by `offsets list`, which asks nobody's leave. The offset."""
        self.delivered()
        offset = self.newest_written + 1
        self.until(lambda: str(offset) in self.command("offsets", "list", "--json"), "everything saved")
        return offset

    def destroyed_so_far(self) -> None:
        """All that was written up to now may be lost at the destination, which is not ours to keep."""
        self.destroyed.update(int(entry["sequence_id"]) for entry in self.source.entries())

    def command(self, *words: str) -> str:
        """`oplog-bridge WORDS -c FILE`, as an operator would."""
        done = rig.run_command(*words, "-c", str(self.folder / "bridge.yaml"))
        assert done.returncode == 0, f"{words} ended with {done.returncode}: {done.stderr}{done.stdout}"
        return done.stdout

    def verdict(self) -> Audit:
        """All that was written is copied to the end; then a stranger counts what stands there."""
        self.stop()
        last = self.instance("bridge", "--until-caught-up")
        last.start()
        code = last.exited(COPIED_WITHIN_SECONDS)
        assert code == 0, f"the last run ended with {code}:\n{last.tail()}"
        written = self.source.entries() if self.version == "v4" else self.source.entries_v1()
        wanted = [entry for entry in written if int(entry["sequence_id"]) not in self.destroyed]
        return audit(wanted, self.destination.read())

    def early_polls(self) -> int:
        """How often the source was asked before its time, by the source's own log."""
        ours = str(AUDIT_LIMIT)  # the auditor reads the same log
        polls = [poll for poll in self.source.polls() if poll["limit"] != ours]
        return len(rig.early_polls(polls, POLL_INTERVAL_SECONDS))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: Any) -> None:
        for process in (self.bridge, self.standby):
            if process is not None:
                process.close()
