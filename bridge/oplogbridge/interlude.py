"""An interlude: a pipeline stands still at its offset and delivers what is none of the log's, then goes on.

While it lasts the position names another source, `SOURCE#KIND@OFFSET`, and counts the interlude's own events from that
offset on; so everything that makes the line exact (positions, marks, the choice at opening) makes the interlude exact,
too. At its end the position is moved back to where it was. The phases, each noted before the next step:

    wanted   nobody knows yet where                  telling   its line runs, beginning with the move to its own count
    closing  all is delivered, the move back follows   done    the pipeline goes on
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgspec
import structlog

from oplogbridge import letters, wishes
from oplogbridge.backoff import Backoff
from oplogbridge.choice import GoOn, Stop, choose_offset
from oplogbridge.clock import Clock
from oplogbridge.errors import Fenced, Misconfigured, Unavailable
from oplogbridge.garbage import collect_after_failure
from oplogbridge.lease import Lease
from oplogbridge.model_pages import ModelPages
from oplogbridge.offsets import move_offset
from oplogbridge.pipeline import STOPPED_RETRY_SECONDS, STOPPED_RETRY_SECONDS_MAX, Pipeline
from oplogbridge.snapshot_pages import SnapshotPages, forget
from oplogbridge.source.reader import Reader
from oplogbridge.source.start import CLOCK_SLIP_SECONDS, Pages, Start, resolve
from oplogbridge.spec import PipelineSpec
from oplogbridge.state import LeaseToken, StateStore
from oplogbridge.status import PipelineState, PipelineStatus
from oplogbridge.told_pages import ToldPages
from oplogbridge.wishes import Interlude, source_during

_log = structlog.get_logger()


class InterludeLine:
    """Carries one interlude out. It is run and stopped as a `Pipeline` is, in its place."""

    def __init__(
        self,
        wanted: Interlude,
        live: PipelineSpec,
        make_spec: Callable[[Interlude], PipelineSpec],
        *,
        reader: Reader,
        settle_seconds: float,
        store: StateStore,
        lease: Lease,
        clock: Clock,
        jitter: Callable[[], float],
        status: PipelineStatus,
        gives_up: bool,
    ) -> None:
        """`make_spec` makes the pipeline's line whose positions name `source_during`. `settle_seconds` are the
        source's: below what is not settled yet a new pipeline must not begin."""
        self._wanted = wanted
        self._live = live
        self._make_spec = make_spec
        self._reader = reader
        self._settle_seconds = settle_seconds
        self._store = store
        self._lease = lease
        self._clock = clock
        self._jitter = jitter
        self._status = status
        self._gives_up = gives_up
        self._backoff = Backoff(first_seconds=0.2, max_seconds=30.0, jitter=jitter)
        self._stopped_backoff = Backoff(STOPPED_RETRY_SECONDS, STOPPED_RETRY_SECONDS_MAX, jitter)
        self._pipeline: Pipeline | None = None
        self._task: asyncio.Task[None] | None = None
        self._stopping = False
        self.is_finished = False

    async def run(self) -> None:
        """Until it is done or stopped. Raises Fenced; it deals with all other trouble."""
        self._task = asyncio.current_task()
        try:
            while not self._stopping:
                wait_seconds = await self._try()
                if wait_seconds is None:
                    return
                collect_after_failure()
                await self._clock.sleep(wait_seconds)
        except asyncio.CancelledError:
            if not self._stopping:
                raise

    def stop(self) -> None:
        self._stopping = True
        if self._pipeline is not None:
            self._pipeline.stop()
        elif self._task is not None:
            self._task.cancel()

    async def _try(self) -> float | None:
        """How long to wait before the next attempt; None when there is to be none."""
        try:
            await self._through()
            return None
        except Unavailable as error:
            return self._troubled("retrying", error, self._backoff.next_seconds(error.retry_after_seconds))
        except Misconfigured as error:
            wait_seconds = self._troubled("stopped", error, self._stopped_backoff.next_seconds())
            return None if self._gives_up else wait_seconds
        except Fenced:
            raise
        except Exception as error:
            # A defect of ours stops this pipeline and not its neighbours; the traceback goes to the log.
            _log.exception("unexpected error", pipeline=self._live.name)
            told = Misconfigured(f"unexpected {type(error).__name__}: {error}; please report it")
            wait_seconds = self._troubled("stopped", told, self._stopped_backoff.next_seconds())
            return None if self._gives_up else wait_seconds

    def _troubled(self, state: PipelineState, error: Exception, wait_seconds: float) -> float:
        if (self._status.state, self._status.error) != (state, str(error)):
            _log.warning(f"{self._wanted.kind} {state}", pipeline=self._live.name, error=str(error))
        self._status.state, self._status.error = state, str(error)
        return wait_seconds

    async def _through(self) -> None:
        self._status.state = "opening"
        # What is noted, not what we believe: a change whose answer was lost may have happened.
        noted = (await wishes.read(self._store, self._lease.source)).interludes.get(self._live.name)
        if noted is not None and noted.at_unix_seconds == self._wanted.at_unix_seconds:
            self._wanted = noted
        if self._wanted.phase == "wanted":
            await self._begin()
        if self._wanted.phase == "telling" and not await self._tell():
            return  # stopped meanwhile
        if self._wanted.phase == "closing":
            if await self._is_away():
                await move_offset(self._live, offset=self._wanted.at_offset, store=self._store, lease=self._lease)
            await forget(self._store, self._live.name)
            if self._wanted.kind == "redrive":
                await letters.note_handled(self._store, self._live.name, self._wanted.sequences, "redriven")
            await self._change(phase="done")
            _log.info(f"{self._wanted.kind} done", pipeline=self._live.name, events=self._wanted.events)
        self._status.state, self._status.error = "waiting", None
        self.is_finished = True

    async def _begin(self) -> None:
        """Find out where the pipeline stands: there the interlude is told."""
        live, sink = self._live, self._live.make_sink()
        try:
            self._lease.check()
            position = await sink.open()
            stored = await self._store.load(live.source, self._lease.token, live.name)
            choice = choose_offset(
                position, stored, pipeline=live.name, source=live.source_id, destination=sink.destination
            )
        finally:
            await sink.close()
        if isinstance(choice, Stop):
            raise Misconfigured(choice.reason)
        if isinstance(choice, GoOn):
            if self._wanted.only_new:
                await self._change(phase="done")
                return
            offset = choice.offset
        else:
            offset = await resolve(Start("latest"), self._reader)
            if self._settle_seconds:  # a lower sequence may be committed yet, of an object that is listed before
                settled = int(self._clock.unix() - self._settle_seconds) - CLOCK_SLIP_SECONDS
                offset = min(offset, max(settled, 0) << 32)
        offset = max(offset, 1)  # a place is behind a sequence, be it none
        first_place = self._wanted.first_place if self._wanted.at_offset == offset else 1
        await self._change(phase="telling", at_offset=offset, first_place=first_place)
        _log.info(f"{self._wanted.kind} begins", pipeline=live.name, at_offset=offset)

    async def _tell(self) -> bool:
        """False when it was stopped in the middle."""
        spec, wanted = self._make_spec(self._wanted), self._wanted
        if not await self._is_away():
            await move_offset(spec, offset=wanted.at_offset, store=self._store, lease=self._lease)
        pages = self._pages(spec)
        pipeline = self._pipeline = Pipeline(
            spec,
            pages=pages,
            store=self._store,
            lease=self._lease,
            clock=self._clock,
            jitter=self._jitter,
            status=self._status,
            until_caught_up=True,
            gives_up=self._gives_up,
        )
        try:
            await pipeline.run()
        finally:
            self._pipeline = None
        if not pipeline.is_finished:
            if self._stopping:
                return False
            raise Misconfigured(self._status.error or "it stopped")
        assert self._status.offset is not None, "it was opened"
        told = pages.told if isinstance(pages, ModelPages) else None
        await self._change(phase="closing", events=self._status.offset - wanted.at_offset, datamodel_hash=told)
        return True

    def _pages(self, spec: PipelineSpec) -> Pages:
        if self._wanted.kind == "datamodel":
            return ModelPages(self._reader, self._wanted, clock=self._clock, jitter=self._jitter)
        if self._wanted.kind in ("late", "redrive"):
            return ToldPages(self._reader, self._wanted, clock=self._clock, jitter=self._jitter)
        return SnapshotPages(
            self._reader,
            self._wanted,
            accepts=spec.codec.accepts,
            make_reader=self._live.make_reader,
            store=self._store,
            lease=self._lease,
            clock=self._clock,
            jitter=self._jitter,
        )

    async def _is_away(self) -> bool:
        """Whether the offset that is kept counts the interlude's own events."""
        stored = await self._store.load(self._live.source, self._lease.token, self._live.name)
        return stored is not None and stored.source == source_during(self._wanted, self._live.source_id)

    async def _change(self, **fields: object) -> None:
        after = msgspec.structs.replace(self._wanted, **fields)
        under = LeaseToken(self._lease.source, self._lease.token)
        await wishes.change_interlude(self._store, self._lease.source, self._wanted, after, under=under)
        self._wanted = after
