"""One fault meets one sink: what came of it."""

from __future__ import annotations

import random
import statistics
import tempfile
import time
import traceback
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import planted
import rig
from auditor import EXACT, Audit
from chaos.background import Background, Wire
from chaos.catalogue import Fault
from chaos.destinations import DESTINATIONS
from chaos.line import Line
from services import MissingServer, RedisServer


@dataclass
class Result:
    fault: Fault
    kind: str
    seed: int
    strikes: int = 0
    audit: Audit | None = None
    copies: int = 0
    early_polls: int = 0
    recoveries: list[float] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    seconds: float = 0.0
    trouble: str | None = None

    @property
    def holds(self) -> bool:
        return self.trouble is None and self.audit == EXACT and self.early_polls == 0

    def __str__(self) -> str:
        if self.trouble is not None:
            return f"FAILED: {self.trouble.splitlines()[0]}"
        assert self.audit is not None
        parts = [f"{self.strikes} × {self.audit.lost}/{self.audit.duplicated}/{self.audit.reordered}"]
        if self.audit.altered or self.audit.foreign or self.early_polls:
            parts.append(f"{self.audit.altered} altered, {self.audit.foreign} foreign, {self.early_polls} early polls")
        if self.copies:
            parts.append(f"{self.copies} copies by id")
        if self.recoveries:
            parts.append(f"{statistics.median(self.recoveries):.1f} s, worst {max(self.recoveries):.1f}")
        return "; ".join(parts + self.notes)


def run(fault: Fault, kind: str, times: int, seed: int) -> Result:
    """One cell of the table."""
    begin = time.monotonic()
    result = Result(fault, kind, seed)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix=f"chaos-{fault.name}-{kind}-")))
        background = stack.enter_context(Background())
        line = None
        try:
            destination = DESTINATIONS[kind](
                background, folder, proxied=fault.proxied, more=fault.sink, options=fault.options
            )
            stack.callback(destination.close)
            store, wire = None, None
            if fault.store != "sqlite":
                store = stack.enter_context(RedisServer().start(config={"appendfsync": "always"}))
            if store is not None and fault.store == "proxied redis":
                wire = Wire(background, store.port)
                stack.callback(wire.close)
            source = stack.enter_context(rig.emulator())
            line = Line(destination, source, folder, times, random.Random(seed), store, wire, fault.version)
            with line:
                fault.strike(line)
                result.audit = line.verdict()
                result.early_polls = line.early_polls()
                shown = planted.shown_in_logs(folder)
                assert not shown, f"secrets are shown: {shown}"
        except MissingServer:
            raise
        except Exception as error:
            result.trouble = f"{type(error).__name__}: {error}"
            traceback.print_exc()
            _keep_logs(folder)
        if line is not None:
            result.strikes, result.recoveries, result.notes = line.strikes, line.recoveries, line.notes
            result.copies = line.destination.copies()
    result.seconds = time.monotonic() - begin
    return result


def _keep_logs(folder: Path) -> None:
    for log in sorted(folder.glob("*.log")):
        print(f"--- the end of {log.name}:")
        print("\n".join(log.read_text(errors="replace").splitlines()[-40:]))
