"""A state store in this process: for tests, simulations and the embedded demo. Nothing survives the process.

Two stores over one `Memory` are two bridge instances in one process:

    memory = Memory()
    one, two = MemoryStateStore(clock, memory), MemoryStateStore(clock, memory)
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

from oplogbridge.clock import Clock
from oplogbridge.errors import Unavailable
from oplogbridge.state import FORMAT_VERSION, AuditRecord, Holder, LeaseToken, Stored, kept


@dataclass(slots=True)
class MemoryLease:
    token: str
    holder: Holder
    expires_at: float  # on the store's clock


@dataclass(slots=True)
class Memory:
    """What the stores share. Tests may look into it, change it, and put an older one back (a fail-over)."""

    format_version: int = FORMAT_VERSION
    leases: dict[str, MemoryLease] = field(default_factory=dict)
    epochs: dict[str, int] = field(default_factory=dict)
    offsets: dict[str, str] = field(default_factory=dict)  # pipeline to the text of a `Stored`
    notes: dict[str, dict[str, str]] = field(default_factory=dict)  # by kind, then by key
    audit: deque[AuditRecord] = field(default_factory=deque)  # newest first

    def wipe(self) -> None:
        """Forget everything, as a Redis without persistence does when it restarts."""
        self.format_version = FORMAT_VERSION
        self.leases.clear()
        self.epochs.clear()
        self.offsets.clear()
        self.notes.clear()
        self.audit.clear()


class MemoryStateStore:
    """Implements `StateStore`. No method waits, so none can be cancelled half done."""

    def __init__(self, clock: Clock, memory: Memory | None = None) -> None:
        self.memory = Memory() if memory is None else memory
        self._clock = clock
        self._opened = False

    def __repr__(self) -> str:
        return "MemoryStateStore()"

    async def open(self) -> None:
        kept.check_format(self.memory.format_version, "the state store in memory")
        self._opened = True

    async def close(self) -> None:
        self._opened = False

    async def acquire(self, source: str, holder: Holder, ttl_seconds: float) -> str | None:
        self._check_open()
        lease = self._valid_lease(source)
        if lease is not None and not (holder.reclaims and lease.holder.instance == holder.instance):
            return None
        epoch = self.memory.epochs.get(source, 0) + 1
        token = kept.token(epoch, kept.new_nonce())
        self.memory.epochs[source] = epoch
        self.memory.leases[source] = MemoryLease(token, holder, self._clock.monotonic() + ttl_seconds)
        return token

    async def renew(self, source: str, token: str, ttl_seconds: float) -> None:
        self._check_open()
        self._fence(source, token).expires_at = self._clock.monotonic() + ttl_seconds

    async def release(self, source: str, token: str) -> None:
        self._check_open()
        lease = self.memory.leases.get(source)
        if lease is not None and lease.token == token:
            del self.memory.leases[source]

    async def holder(self, source: str) -> Holder | None:
        self._check_open()
        lease = self._valid_lease(source)
        return None if lease is None else lease.holder

    async def load(self, source: str, token: str, pipeline: str) -> Stored | None:
        self._check_open()
        self._fence(source, token)
        return self._stored(pipeline)

    async def save(self, source: str, token: str, pipeline: str, stored: Stored, *, replacing: Stored | None) -> None:
        self._check_open()
        self._fence(source, token)
        expected = None if replacing is None else replacing.to_text()
        if self.memory.offsets.get(pipeline) != expected:
            raise kept.replaced_meanwhile(pipeline)
        self.memory.offsets[pipeline] = stored.to_text()

    async def peek(self, pipeline: str) -> Stored | None:
        self._check_open()
        return self._stored(pipeline)

    async def notes(self, kind: str) -> dict[str, str]:
        self._check_open()
        return dict(self.memory.notes.get(kind, {}))

    async def note(
        self,
        kind: str,
        changes: Mapping[str, str | None],
        *,
        expected: Mapping[str, str | None] | None = None,
        under: LeaseToken | None = None,
    ) -> bool:
        self._check_open()
        if under is not None:
            self._fence(under.source, under.token)
        notes = self.memory.notes.setdefault(kind, {})
        if any(notes.get(key) != text for key, text in (expected or {}).items()):
            return False
        for key, text in changes.items():
            if text is None:
                notes.pop(key, None)
            else:
                notes[key] = text
        return True

    async def record(self, record: AuditRecord) -> None:
        self._check_open()
        self.memory.audit.appendleft(record)
        while len(self.memory.audit) > kept.AUDIT_RECORDS_MAX:
            self.memory.audit.pop()

    async def audit(self, records_max: int) -> list[AuditRecord]:
        self._check_open()
        return list(self.memory.audit)[: max(records_max, 0)]

    def _check_open(self) -> None:
        if not self._opened:
            raise Unavailable("the state store is not open")

    def _valid_lease(self, source: str) -> MemoryLease | None:
        lease = self.memory.leases.get(source)
        if lease is None or lease.expires_at <= self._clock.monotonic():
            return None
        return lease

    def _fence(self, source: str, token: str) -> MemoryLease:
        lease = self._valid_lease(source)
        if lease is None or lease.token != token:
            raise kept.fenced(source)
        return lease

    def _stored(self, pipeline: str) -> Stored | None:
        text = self.memory.offsets.get(pipeline)
        return None if text is None else Stored.from_text(text)
