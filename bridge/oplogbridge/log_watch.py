"""What the source does to its own log: entries that were committed late, a log that was put back or cut. Looked for
beside the pipelines, now and then, in turns of its own; what is found is counted, told, and dealt with."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import structlog

from oplogbridge.clock import Clock
from oplogbridge.errors import Misconfigured
from oplogbridge.source.asking import Patience
from oplogbridge.source.late import Recent
from oplogbridge.source.reader import Reader
from oplogbridge.status import PipelineStatus, SourceStatus

LOOK_SECONDS = 30.0  # one turn in thirty
ENDS_EVERY = 20  # looks: the log's ends every ten minutes, and soon after the beginning

_log = structlog.get_logger()


class LogWatch:
    """Of one source, while its lease is held."""

    def __init__(
        self,
        reader: Reader,
        status: SourceStatus,
        pipelines: Callable[[], Iterable[PipelineStatus]],
        on_late: Callable[[str, list[int]], None],
        *,
        clock: Clock,
        jitter: Callable[[], float],
    ) -> None:
        self._reader = reader
        self._status = status
        self._pipelines = pipelines
        self._on_late = on_late
        self._clock = clock
        self._patience = Patience(reader, "the log once more", clock=clock, jitter=jitter)
        self._has_tail = True

    async def run(self) -> None:
        """Until cancelled. Raises Fenced."""
        recent = self._reader.recent
        looks = 0
        while True:
            await self._clock.sleep(LOOK_SECONDS)
            if looks % ENDS_EVERY == 0:
                await self._look_at_ends()
            looks += 1
            await self._look_for_late(recent)

    async def _look_for_late(self, recent: Recent) -> None:
        begin = recent.begin
        if begin is None:
            return
        try:
            page = await self._patience.ask(lambda client: client.poll(begin))
        except Misconfigured as error:
            _log.warning("late entries were not looked for", source=self._status.name, error=str(error))
            return
        late = recent.late(page)
        if late:
            self._status.entries_late += len(late)
            _log.warning("entries were committed late", source=self._status.name, sequences=late[:10], count=len(late))
            for one in self._pipelines():
                passed = [sequence for sequence in late if one.offset is not None and sequence < one.offset]
                if passed:
                    self._on_late(one.name, passed)

    async def _look_at_ends(self) -> None:
        """Oldest and newest entry, and what they say of each pipeline's offset."""
        before = {one.name: one.offset for one in self._pipelines() if one.offset is not None}
        try:
            first = await self._patience.ask(lambda client: client.poll(0))
            oldest = first.entries[0].sequence if first.entries else 0
            newest = None
            if self._has_tail:
                tail = await self._patience.ask(lambda client: client.poll_tail())
                newest = tail.entries[-1].sequence if tail.entries else 0
        except Misconfigured as error:  # v1 shows no tail
            self._has_tail = False
            _log.info("the log's ends are not known", source=self._status.name, reason=str(error))
            return
        for one in self._pipelines():
            offset = before.get(one.name)
            trouble = None if offset is None else what_is_wrong(one.name, offset, one.opened_offset, oldest, newest)
            if trouble is not None and trouble != one.log_trouble:
                _log.warning("the source's log is not what it was", pipeline=one.name, detail=trouble)
            one.log_trouble = trouble


def what_is_wrong(pipeline: str, offset: int, opened_offset: int | None, oldest: int, newest: int | None) -> str | None:
    """One line that says what to do. `offset` is of before the newest entry was asked for. Pure."""
    if newest is not None and offset > newest + 1:
        return (
            f"the source's newest entry is {newest}, the offset is {offset}: its log was put back, or is empty; see "
            f"what differs with `oplog-bridge verify {pipeline}`, then decide: `oplog-bridge offsets reset {pipeline}`"
        )
    if opened_offset is not None and 1 < opened_offset < oldest:
        return (
            f"the source's log begins at {oldest}, the offset was {opened_offset}: what was between, if anything, is "
            f"gone; `oplog-bridge snapshot {pipeline}` tells the present state"
        )
    return None
