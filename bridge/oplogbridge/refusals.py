"""What becomes of an event that its destination will never take, and of an entry that is no event: `on_rejected`."""

from __future__ import annotations

from oplogbridge.dead_letters import DeadLetters, take_back
from oplogbridge.errors import Misconfigured, Rejected
from oplogbridge.lease import Lease
from oplogbridge.spec import PipelineSpec
from oplogbridge.status import PipelineStatus
from oplogbridge.values import Malformed


class Refusals:
    """Of one delivery."""

    def __init__(self, spec: PipelineSpec, lease: Lease, status: PipelineStatus) -> None:
        self._spec = spec
        self._lease = lease
        self._status = status
        self._letters: DeadLetters | None = None

    async def rejected(self, error: Rejected) -> None:
        """As `malformed`, of an event that the destination will never take."""
        event = error.event
        number = event.number.decode()
        await self._set_aside(event.sequence, event.key, event.payload, error.reason, number=number, place=event.place)

    async def malformed(self, one: Malformed) -> None:
        """Stop, or keep it as a dead letter, durably, before anything behind it is delivered."""
        await self._set_aside(one.sequence, None, one.raw, one.reason, number=one.number, place=one.place)

    async def _set_aside(
        self,
        sequence: int,
        key: bytes | None,
        rejected: bytes,
        reason: str,
        *,
        number: str | None,
        place: str | None,
    ) -> None:
        spec = self._spec
        self._status.events_rejected += 1
        if spec.make_dead_letters is None:
            raise Misconfigured(
                f"sequence {sequence} cannot be delivered: {reason}; mend it, set `on_rejected: dead_letter`, or pass "
                f"it with `oplog-bridge offsets set {spec.name} {sequence + 1}`"
            )
        if self._letters is None:
            self._letters = DeadLetters(
                spec.make_dead_letters,
                holds_position=spec.dead_letters_hold_position,
                pipeline=spec.name,
                source=spec.source,
                source_id=spec.source_id,
                lease=self._lease,
            )
        if await self._letters.keep(sequence, key=key, rejected=rejected, reason=reason, number=number, place=place):
            self._status.dead_letters += 1

    async def take_back(self, offset: int) -> None:
        """The destination lost what lies at and above the offset: its letters come again, too."""
        make = self._spec.make_dead_letters
        if make is not None and self._spec.dead_letters_hold_position:
            await take_back(make, offset=offset, pipeline=self._spec.name, lease=self._lease)

    async def close(self) -> None:
        letters, self._letters = self._letters, None
        if letters is not None:
            await letters.close()
