"""Looks after what operators want of a source (`wishes`), for as long as its lease is held here."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping, Sequence

import structlog

from oplogbridge import wishes
from oplogbridge.backoff import Backoff
from oplogbridge.clock import Clock
from oplogbridge.errors import Misconfigured, Unavailable
from oplogbridge.lease import Lease
from oplogbridge.state import LeaseToken, StateStore
from oplogbridge.wishes import Interlude, Replay, Wishes

LOOK_SECONDS = 5.0  # a command pokes us where it can; elsewhere nobody waits longer than this

_log = structlog.get_logger()


class Watch:
    def __init__(
        self,
        store: StateStore,
        lease: Lease,
        *,
        clock: Clock,
        jitter: Callable[[], float],
        on_change: Callable[[], None],
    ) -> None:
        self._store = store
        self._lease = lease
        self._clock = clock
        self._jitter = jitter
        self._on_change = on_change
        self._poked = asyncio.Event()
        self._late: dict[str, list[int]] = {}  # by pipeline
        self.wishes = Wishes()

    async def first_look(self) -> None:
        """Before anything runs: what is paused must not begin. Waits for the store; raises Fenced as the lease does."""
        backoff = Backoff(first_seconds=0.5, max_seconds=30.0, jitter=self._jitter)
        while not await self.look():
            self._lease.check()
            await self._clock.sleep(backoff.next_seconds())
        if self.wishes.queued_by is not None:  # by us, or by somebody who will ask again
            with contextlib.suppress(Unavailable):
                await wishes.want_lease(self._store, self._lease.source, None)
        for name, reason in self.wishes.unreadable.items():
            _log.warning("a replay is not run", replay=name, error=reason)

    async def run(self) -> None:
        """Look again and again, until cancelled."""
        while True:
            self._poked.clear()
            waits = [
                asyncio.create_task(self._clock.sleep(LOOK_SECONDS)),
                asyncio.create_task(self._poked.wait()),
            ]
            try:
                await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for waiting in waits:
                    waiting.cancel()
            await self.look()

    def poke(self) -> None:
        """Look now."""
        self._poked.set()

    async def finish(self, replay: Replay) -> None:
        """Raises Unavailable: then it is still wanted, and finished at once when it is run again. Fenced."""
        under = LeaseToken(self._lease.source, self._lease.token)
        if await wishes.change_replay(self._store, self._lease.source, replay, "done", under=under):
            _log.info("replay done", replay=replay.name, pipeline=replay.pipeline)
        await self.look()

    async def look(self) -> bool:
        """False when it could not be found out."""
        try:
            found = await wishes.read(self._store, self._lease.source)
        except (Unavailable, Misconfigured) as error:
            _log.warning("what operators want is not known", source=self._lease.source, error=str(error))
            return False
        if found != self.wishes:
            self.wishes = found
            self._on_change()
        return True

    async def want_first_snapshots(self, pipelines: Sequence[str]) -> None:
        """`start: snapshot`, of those that are new. Waits for the store."""
        backoff = Backoff(first_seconds=0.5, max_seconds=30.0, jitter=self._jitter)
        for pipeline in pipelines:
            while pipeline not in self.wishes.interludes and pipeline not in self.wishes.paused:
                try:
                    if await self._store.peek(pipeline) is not None:
                        break
                    now = self._clock.unix()
                    await self._want(Interlude("snapshot", pipeline, only_new=True, at_unix_seconds=now))
                except (Unavailable, Misconfigured) as error:
                    _log.warning("a first snapshot could not be noted", pipeline=pipeline, error=str(error))
                    await self._clock.sleep(backoff.next_seconds())
                    await self.look()

    async def want_models_told(self, untold: Mapping[str, str]) -> None:
        """By pipeline, the hash of the data model that it waits for."""
        for pipeline, hash_ in untold.items():
            before = self.wishes.interludes.get(pipeline)
            if self.wishes.told.get(pipeline) == hash_ or (before is not None and before.phase != "done"):
                continue
            wanted = Interlude("datamodel", pipeline, datamodel_hash=hash_, at_unix_seconds=self._clock.unix())
            try:
                await self._want(wanted)
            except (Misconfigured, Unavailable) as error:  # the pipeline asks again
                _log.info("a data model could not be noted", pipeline=pipeline, error=str(error))

    async def _want(self, wanted: Interlude) -> None:
        await wishes.add_interlude(self._store, self._lease.source, wanted)
        await self.look()

    def note_late(self, pipeline: str, sequences: Sequence[int]) -> None:
        """Of entries below its offset that were committed late. Those that wait already go with them."""
        self._late[pipeline] = sorted({*self._late.get(pipeline, ()), *sequences})
        self._on_change()

    async def want_late_told(self, on_late: Mapping[str, str]) -> None:
        """What was noted, by each pipeline's `on_late`. What cannot be asked for yet waits."""
        for pipeline, sequences in [*self._late.items()]:
            before, what = self.wishes.interludes.get(pipeline), on_late.get(pipeline)
            if before is not None and before.kind == "late":  # noted already, though the answer may have been lost
                sequences = [one for one in sequences if str(one) not in before.sequences]
            if not sequences:
                del self._late[pipeline]
                continue
            try:
                if what == "stop":
                    why = f"sequence {sequences[0]} was committed late (on_late: stop)"
                    await wishes.pause(self._store, self._lease.source, pipeline, why)
                    await self.look()
                elif what is not None:
                    if before is not None and before.phase != "done":
                        continue
                    texts, as_letters = tuple(map(str, sequences)), what == "dead_letter"
                    now = self._clock.unix()
                    await self._want(
                        Interlude("late", pipeline, sequences=texts, as_letters=as_letters, at_unix_seconds=now)
                    )
            except (Misconfigured, Unavailable) as error:
                _log.info("late entries could not be noted", pipeline=pipeline, error=str(error))
            else:
                del self._late[pipeline]
