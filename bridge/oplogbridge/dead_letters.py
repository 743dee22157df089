"""Where events go that a destination will never take: a sink of their own, each kept once and durably."""

from __future__ import annotations

from collections.abc import Callable

import structlog

from oplogbridge.codec.dead_letters import dead_letter_event
from oplogbridge.errors import Misconfigured, Rejected
from oplogbridge.lease import Lease
from oplogbridge.sink import Sink
from oplogbridge.values import Batch, Position, log_of

_log = structlog.get_logger()


class DeadLetters:
    """The dead letters of one pipeline in one opening. The sink is opened at the first letter, so a broken dead-letter
    destination holds back nobody who has no letters."""

    def __init__(
        self,
        make_sink: Callable[[], Sink],
        *,
        holds_position: bool = True,
        pipeline: str,
        source: str,
        source_id: str,
        lease: Lease,
    ) -> None:
        self._make_sink = make_sink
        self._holds_position = holds_position
        self._pipeline = pipeline
        self._source = source
        self._source_id = source_id
        self._lease = lease
        self._sink: Sink | None = None
        self._position: Position | None = None

    async def keep(
        self,
        sequence: int,
        *,
        key: bytes | None,
        rejected: bytes,
        reason: str,
        number: str | None = None,
        place: str | None = None,
    ) -> bool:
        """Return when the letter is durable; False when it was there already.

        The letters' own position decides: a crash between this and the pipeline's save does not double a letter,
        unless their destination holds no position. Whoever takes the offset back takes that position along
        (`take_back`), so what lies below it was kept.
        """
        sink = self._sink or await self._open(sequence)
        if self._position is not None and self._position.offset > sequence:
            _log.info("dead letter kept already", pipeline=self._pipeline, sequence=sequence, reason=reason)
            return False
        letter = dead_letter_event(
            source=self._source,
            pipeline=self._pipeline,
            sequence=sequence,
            key=key,
            rejected=rejected,
            reason=reason,
            number=number,
            place=place,
        )
        position = self._position
        from_offset = position.offset if position is not None and position.is_known else sequence
        batch = Batch([letter], from_offset, sequence + 1)
        self._lease.check()
        try:
            self._position = await sink.write(batch)
        except Rejected as error:
            raise Misconfigured(
                f"sequence {sequence} is refused by its destination ({reason}) and by the dead letters' "
                f"({error.reason}): choose another `dead_letter` sink"
            ) from error
        _log.warning("dead letter", pipeline=self._pipeline, sequence=sequence, reason=reason)
        return True

    async def close(self) -> None:
        sink, self._sink = self._sink, None
        if sink is not None:
            await sink.close()

    async def _open(self, sequence: int) -> Sink:
        self._sink = sink = self._make_sink()
        self._lease.check()
        position = await sink.open()
        if position is None:
            if self._holds_position:
                self._lease.check()
                position = await sink.move(sequence)
        elif (log_of(position.source), position.destination) == (log_of(self._source_id), sink.destination):
            if position.source != self._source_id and self._holds_position:
                # An interlude has begun or ended: of all before it no letter is under way any more.
                self._lease.check()
                position = await sink.move(sequence)
        else:
            raise Misconfigured(
                f"the dead letters at {sink.destination} belong to source {position.source!r}: "
                "choose another `dead_letter` destination"
            )
        self._position = position
        return sink


async def take_back(make_sink: Callable[[], Sink], *, offset: int, pipeline: str, lease: Lease) -> None:
    """Let letters from `offset` on be written again, because the pipeline goes back there.

    Otherwise an event that was delivered or passed by hand the first time, and is refused now, would count as kept.
    Where the letters cannot go back this is said, and they count as kept.
    """
    letters = make_sink()
    try:
        lease.check()
        position = await letters.open()
        if position is not None and position.offset > offset:
            lease.check()
            await letters.move(offset)
    except Misconfigured as error:
        _log.warning("dead letters cannot be taken back", pipeline=pipeline, offset=offset, reason=str(error))
    finally:
        await letters.close()
