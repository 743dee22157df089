"""The life of one pipeline: a loop of deliveries (`delivery.deliver` is the line itself).

Open the sink (which fences whoever had it), choose the offset, write batches; on any doubt close, back off and open
again. Nothing in memory is trusted after `Unavailable`: work goes on from the position that the destination itself
proves (docs/delivery.md, protocol check).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Literal

import structlog

from oplogbridge.attachments.attaching import Attachments
from oplogbridge.backoff import Backoff
from oplogbridge.clock import Clock
from oplogbridge.delivery import Delivery
from oplogbridge.errors import Fenced, Misconfigured, Unavailable
from oplogbridge.garbage import collect_after_failure
from oplogbridge.handoff import Part
from oplogbridge.lease import Lease
from oplogbridge.offsets import move_offset
from oplogbridge.source.start import Pages
from oplogbridge.spec import PipelineSpec
from oplogbridge.state import StateStore, Stored
from oplogbridge.status import PipelineState, PipelineStatus

STOPPED_RETRY_SECONDS = 30.0  # a rotated password heals by itself within this, doubling to the next
STOPPED_RETRY_SECONDS_MAX = 300.0

_log = structlog.get_logger()


class Pipeline:
    """Runs one pipeline while this process holds the lease of its source."""

    def __init__(
        self,
        spec: PipelineSpec,
        *,
        pages: Pages,
        store: StateStore,
        lease: Lease,
        clock: Clock,
        jitter: Callable[[], float],
        status: PipelineStatus,
        until_caught_up: bool = False,
        gives_up: bool = False,
    ) -> None:
        """`until_caught_up` ends it there; `gives_up` ends it, too, when it stopped: else it is tried again, slowly."""
        self._spec = spec
        self._pages = pages
        self._store = store
        self._lease = lease
        self._clock = clock
        self._status = status
        self._until_caught_up = until_caught_up
        self._gives_up = gives_up
        self._jitter = jitter
        self._backoff = Backoff(first_seconds=0.2, max_seconds=30.0, jitter=jitter)
        self._stopped_backoff = Backoff(STOPPED_RETRY_SECONDS, STOPPED_RETRY_SECONDS_MAX, jitter)
        self._log = _log.bind(pipeline=spec.name)

        self._saved: Stored | None = None  # our last acknowledged save under this lease's token; outlives deliveries
        self._delivered: frozenset[int] = frozenset()  # what was delivered beyond it
        self._delivery: Delivery | None = None
        self._task: asyncio.Task[None] | None = None
        self._opened = asyncio.Lock()  # one opening at a time: ours, or an operator's `move`
        self._moved = asyncio.Event()
        self._last_trouble: PipelineState = "waiting"
        self._progress_offset: int | None = None
        self._stopping = False

    async def run(self) -> None:
        """Deliver until stopped, or until caught up if so asked. Raises Fenced; it deals with all other trouble."""
        self._task = asyncio.current_task()
        try:
            while not self._stopping:
                async with self._opened:
                    wait_seconds = await self._live()
                if wait_seconds is None:
                    return
                collect_after_failure()
                if not self._stopping:  # `stop` came while the sink was closed: nobody would wake us
                    await self._pause(wait_seconds)
        except asyncio.CancelledError:
            if not self._stopping:
                raise  # the lease is lost or the process ends: not ours to swallow
        self._status.state = "finished"

    async def _live(self) -> float | None:
        """One opening, from `open` to `close`. How long to wait before the next, or None when there is to be none."""
        delivery: Delivery | None = None
        offset: int | None = None  # where it began
        try:
            self._status.state = "opening"
            sink = self._spec.make_sink()
            delivery = self._delivery = Delivery(
                self._spec,
                sink,
                pages=self._pages,
                store=self._store,
                lease=self._lease,
                clock=self._clock,
                status=self._status,
                saved=self._saved,
                on_progress=self._note_progress,
                jitter=self._jitter,
                delivered=self._delivered,
                attachments=self._attachments(),
                until_caught_up=self._until_caught_up,
            )
            offset = await delivery.open()
            if self._status.opened_offset is None:
                self._status.opened_offset = offset
            self._log.info("pipeline open", offset=offset, sink=sink.destination, epoch=self._lease.epoch)
            self._status.state = "running"
            await delivery.deliver(offset)
            self._status.state = "finished"
            return None
        except Unavailable as error:
            if (
                offset is not None
                and delivery is not None
                and delivery.saved is not None
                and delivery.saved.offset > offset
            ):
                self._backoff.reset()  # a receiver that takes a part each time and asks for time is no worse each time
            return self._troubled(
                "retrying", str(error), self._backoff.next_seconds(error.retry_after_seconds, exactly=error.exactly)
            )
        except Misconfigured as error:
            wait_seconds = self._troubled("stopped", str(error), self._stopped_backoff.next_seconds())
            return None if self._gives_up else wait_seconds
        except Fenced as error:
            self._troubled("waiting", str(error), 0.0)
            raise
        except Exception as error:
            # A defect of ours stops this pipeline and not its neighbours; the traceback goes to the log.
            self._log.exception("unexpected error")
            text = f"unexpected {type(error).__name__}: {error}; please report it"
            wait_seconds = self._troubled("stopped", text, self._stopped_backoff.next_seconds())
            return None if self._gives_up else wait_seconds
        finally:
            self._delivery = None
            if delivery is not None:
                self._saved, self._delivered = delivery.saved, delivery.delivered
                await delivery.close()

    def _attachments(self) -> Attachments | None:
        if self._spec.attachments is None:
            return None
        return Attachments(
            self._spec.attachments,
            accepts=self._spec.codec.accepts,
            pages=self._pages,
            store=self._store,
            lease=self._lease,
            clock=self._clock,
            jitter=self._jitter,
            status=self._status,
        )

    def stop(self) -> None:
        """Drain: a write in flight is finished and saved; anything else is given up at once."""
        self._stopping = True
        writing = False
        if self._delivery is not None:
            self._delivery.stop()
            writing = self._delivery.writing
        if not writing and self._task is not None:
            self._task.cancel()

    @property
    def name(self) -> str:
        return self._spec.name

    @property
    def is_finished(self) -> bool:
        """It ended, caught up, and was not told to."""
        return self._status.state == "finished" and not self._stopping

    async def move(self, offset: int) -> tuple[Stored | None, Stored]:
        """An operator's `offsets set`, between two openings of a pipeline that stopped. It then tries again at once.

        Raises:
            Misconfigured: The pipeline is not stopped, or the destination cannot go there.
        """
        if self._status.state != "stopped":
            raise Misconfigured(
                f"pipeline {self.name} is {self._status.state}: stop the instance that runs it, then set the offset"
            )
        if self._opened.locked():
            raise Misconfigured(f"pipeline {self.name} is being closed or moved just now: try again")
        async with self._opened:
            moved = await move_offset(self._spec, offset=offset, store=self._store, lease=self._lease)
        self._saved, self._delivered = moved[1], frozenset()
        self._moved.set()
        return moved

    async def _pause(self, seconds: float) -> None:
        """Wait before the next opening; an operator's move ends it early."""
        self._moved.clear()
        waits = [asyncio.create_task(self._clock.sleep(seconds)), asyncio.create_task(self._moved.wait())]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for waiting in waits:
                waiting.cancel()

    def _note_progress(self, part: Part) -> None:
        """A part is delivered and saved."""
        status = self._status
        status.caught_up = part.caught_up
        status.entries_filtered += part.entries - len(part.events)
        if status.offset == self._progress_offset and not part.caught_up and not part.held_back:
            return  # an answer that moves nothing, such as a stale one from a proxy, is no progress
        self._progress_offset = status.offset
        if status.error is not None and status.state == "running":  # else a key of it still waits
            status.error, status.retry_at = None, None
            self._log.info("pipeline delivers again", offset=status.offset)
        status.progress_at = self._clock.monotonic()
        self._backoff.reset()
        self._stopped_backoff.reset()

    def _troubled(self, state: Literal["retrying", "stopped", "waiting"], error: str, wait_seconds: float) -> float:
        news = (self._last_trouble, self._status.error) != (state, error)
        self._status.state, self._status.error, self._last_trouble = state, error, state
        self._status.caught_up = False
        self._status.retries += 1
        self._status.retry_at = self._clock.monotonic() + wait_seconds
        if news:  # a destination that is down for an hour says so once
            self._log.warning(f"pipeline {state}", error=error, retry_in_seconds=round(wait_seconds, 1))
        return wait_seconds
