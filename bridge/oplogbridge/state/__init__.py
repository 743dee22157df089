"""What a state store is: offsets, leases, notes and the audit trail of operator commands.

The executable half of the contract is `oplogbridge.testing.StateStoreContract`. Stores keep a `Stored` as its JSON text
and compare that text; they need not understand it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import msgspec

from oplogbridge.errors import Misconfigured
from oplogbridge.values import OFFSET_MAX, OFFSET_UNKNOWN

FORMAT_VERSION = 1  # of everything kept; a newer one is refused by name


class Mark(msgspec.Struct, frozen=True):
    """The position that the sink had when an offset was saved."""

    offset: int
    proof: str = ""


class Stored(msgspec.Struct, frozen=True):
    """What is kept for one pipeline. `mark` is None for a sink without a position, or with none yet."""

    offset: int
    mark: Mark | None
    source: str  # the source's id
    destination: str

    def to_text(self) -> str:
        """Canonical JSON: equal values give equal text, so stores can compare it."""
        mark = None if self.mark is None else _MarkText(str(self.mark.offset), self.mark.proof)
        text = _StoredText(FORMAT_VERSION, str(self.offset), mark, self.source, self.destination)
        return msgspec.json.encode(text).decode()

    @classmethod
    def from_text(cls, text: str) -> Stored:
        """Raises Misconfigured for what a newer version wrote, and for what is not ours."""
        try:
            version = msgspec.json.decode(text, type=_Version).v
            if version > FORMAT_VERSION:
                raise Misconfigured(
                    f"the state store holds an offset of format {version}, this version knows {FORMAT_VERSION}: "
                    "upgrade oplog-bridge"
                )
            kept = msgspec.json.decode(text, type=_StoredText)
            mark = None if kept.mark is None else Mark(_offset_of(kept.mark.offset, OFFSET_UNKNOWN), kept.mark.proof)
            return cls(_offset_of(kept.offset, 0), mark, kept.source, kept.destination)
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            raise Misconfigured(
                f"the state store holds an offset that cannot be read ({error}): restore it, or delete it there and "
                "decide with `oplog-bridge offsets set`"
            ) from error


def _offset_of(text: str, least: int) -> int:
    offset = int(text)
    if not least <= offset <= OFFSET_MAX:
        raise ValueError(f"{text[:40]} is no offset")
    return offset


class _MarkText(msgspec.Struct, frozen=True):
    offset: str  # text: JSON readers elsewhere would round a number
    proof: str


class _StoredText(msgspec.Struct, frozen=True):
    v: int
    offset: str
    mark: _MarkText | None
    source: str
    destination: str


class _Version(msgspec.Struct, frozen=True):
    v: int


class Holder(msgspec.Struct, frozen=True):
    """Who holds a lease: what a waiting instance shows, and where `tail` and `offsets set` ask."""

    instance: str  # configured `instance:`, else host and process id with a random part
    host: str
    pid: int
    admin_url: str | None
    reclaims: bool = False  # `instance:` is configured and unique: it takes its own lease back at once
    yields: bool = False  # a command that carries out a replay: it gives way to whoever runs pipelines


@dataclass(frozen=True, slots=True)
class AuditRecord:
    """One operator command. `at_unix_seconds` is the wall clock of whoever ran it."""

    at_unix_seconds: float
    actor: str  # user@host
    action: str  # "offsets set"
    pipeline: str
    detail: str


class LeaseToken(NamedTuple):
    """Under which lease something is written; refused when the token is not the lease's."""

    source: str
    token: str


class StateStore(Protocol):
    """Every method raises `Unavailable` within a deadline of its own when the store cannot be reached: none hangs.

    A *token* is a growing epoch and a random nonce: `"17-5f0c…"`. The epoch of a source grows with every acquisition
    as long as the store forgets nothing; the nonce keeps tokens apart even when it does.
    """

    async def open(self) -> None:
        """Connect and check the format version. Raises Misconfigured when a newer version wrote here."""

    async def close(self) -> None:
        """Release everything. Never raises. May come twice. Close after the pipelines have stopped: a store may
        give up its locks with this, so that others may take the leases at once."""

    async def acquire(self, source: str, holder: Holder, ttl_seconds: float) -> str | None:
        """The token of a new lease, or None while somebody else's is valid.

        A holder that `reclaims` takes the lease of its own instance name at once.
        """

    async def renew(self, source: str, token: str, ttl_seconds: float) -> None:
        """Raises Fenced when the token is not the lease's any more."""

    async def release(self, source: str, token: str) -> None:
        """Give the lease up; nothing happens when the token is not the lease's."""

    async def holder(self, source: str) -> Holder | None:
        """Who holds a valid lease now."""

    async def load(self, source: str, token: str, pipeline: str) -> Stored | None:
        """What is kept for a pipeline. Raises Fenced unless the token is the lease's, for equality."""

    async def save(self, source: str, token: str, pipeline: str, stored: Stored, *, replacing: Stored | None) -> None:
        """Replace `replacing` (None: nothing kept) by `stored`, durably and atomically.

        Raises:
            Fenced: The token is not the lease's.
            Unavailable: Also when another value than `replacing` is kept: a delayed save must not go back
                (protocol check, schedule 5). The pipeline opens again and reads it.
        """

    async def peek(self, pipeline: str) -> Stored | None:
        """What is kept, for lists; needs no lease."""

    async def notes(self, kind: str) -> dict[str, str]:
        """All notes of a kind, by key; needs no lease. A *note* is a small text for what is neither an offset nor a
        lease: a job, a pause, an attachment that is still to come. Whoever owns a kind bounds how many it has."""

    async def note(
        self,
        kind: str,
        changes: Mapping[str, str | None],
        *,
        expected: Mapping[str, str | None] | None = None,
        under: LeaseToken | None = None,
    ) -> bool:
        """Write the texts, and forget the keys whose text is None: durably, all in one step. False, and nothing is
        changed, when one of `expected` is not what is kept (None: nothing).

        Raises Fenced when `under` is given and is not the lease's token.
        """

    async def record(self, record: AuditRecord) -> None:
        """Append to the audit trail (bounded: the newest 10,000 are kept)."""

    async def audit(self, records_max: int) -> list[AuditRecord]:
        """The newest records, newest first."""
