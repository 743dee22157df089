"""One holding of a source's lease: the reader, every pipeline that is not paused, and the replays that are wanted."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, replace
from typing import Any

import structlog

from oplogbridge.clock import Clock
from oplogbridge.errors import Fenced, Misconfigured, Unavailable
from oplogbridge.interlude import InterludeLine
from oplogbridge.lease import Lease
from oplogbridge.log_watch import LogWatch
from oplogbridge.model_pages import PagesOfToldModels
from oplogbridge.offsets import move_offset
from oplogbridge.pipeline import Pipeline
from oplogbridge.replay_pages import ReplayPages
from oplogbridge.source.datamodel import DataModelFollower
from oplogbridge.source.reader import Client, Reader
from oplogbridge.source.start import Pages
from oplogbridge.spec import PipelineSpec, SourceSpec
from oplogbridge.state import StateStore, Stored
from oplogbridge.status import PipelineStatus, SourceStatus
from oplogbridge.watch import Watch
from oplogbridge.wishes import Replay

INTERLUDE = " (interlude)"  # behind a pipeline's name, which holds no space

_log = structlog.get_logger()


@dataclass(slots=True)
class _Running:
    spec: PipelineSpec
    pipeline: Pipeline | InterludeLine
    task: asyncio.Task[None]
    is_ending: bool = False

    def end(self) -> None:
        """Drain it, once: a second time would cut its closing short."""
        if not self.is_ending:
            self.is_ending = True
            self.pipeline.stop()

    def is_over(self, wanted: PipelineSpec) -> bool:
        """It has ended because it was told to, or because it was something else."""
        return self.task.done() and (self.is_ending or self.spec.made_from != wanted.made_from)

    @property
    def is_done(self) -> bool:
        """It has ended by itself, with nothing left to do."""
        return self.task.done() and not self.is_ending and self.pipeline.is_finished


class Tenure:
    def __init__(
        self,
        spec: SourceSpec,
        client: Client,
        *,
        lease: Lease,
        store: StateStore,
        clock: Clock,
        jitter: Callable[[], float],
        status: SourceStatus,
        pipeline_status: dict[str, PipelineStatus],
        until_caught_up: bool,
        gives_way: bool,
    ) -> None:
        """`gives_way`: it ends when somebody who runs pipelines queues for the lease."""
        self._spec = spec
        self.lease = lease
        self._store = store
        self._clock = clock
        self._jitter = jitter
        self._status = status
        self._pipeline_status = pipeline_status
        self._until_caught_up = until_caught_up
        self._gives_way = gives_way
        self.reader = Reader(
            client,
            poll_interval_seconds=spec.poll_interval_seconds,
            settle_seconds=spec.settle_seconds,
            lease=lease,
            clock=clock,
            jitter=jitter,
            status=status,
        )
        self._changed = asyncio.Event()
        self.watch = Watch(store, lease, clock=clock, jitter=jitter, on_change=self._changed.set)
        self._running: dict[str, _Running] = {}  # by name; also those that have ended
        self._replays: dict[str, tuple[Replay, PipelineSpec]] = {}  # that are wanted, by the name of their line
        self._untold: dict[str, str] = {}  # data models that pipelines wait for, by pipeline
        self._stopping = False

    async def run(self) -> None:
        """Until all is done, stopped, or the lease is lost (raises Fenced)."""
        try:
            async with asyncio.TaskGroup() as tasks:
                beside = [tasks.create_task(self.lease.keep(self._store)), tasks.create_task(self.reader.run())]
                await self.watch.first_look()
                await self.watch.want_first_snapshots(
                    [spec.name for spec in self._spec.pipelines if spec.start.kind == "snapshot"]
                )
                beside.append(tasks.create_task(self.watch.run()))
                log_watch = LogWatch(
                    self.reader,
                    self._status,
                    self._pipeline_status.values,
                    self.watch.note_late,
                    clock=self._clock,
                    jitter=self._jitter,
                )
                beside.append(tasks.create_task(_without_harm(log_watch.run(), self._spec.name)))
                follower = DataModelFollower(self.reader, self._spec.name, clock=self._clock, jitter=self._jitter)
                beside.append(tasks.create_task(_without_harm(follower.run(), self._spec.name)))
                while self._settle(tasks):
                    await self._wait_for_news()
                    untold, self._untold = self._untold, {}
                    await self.watch.want_models_told(untold)
                    await self.watch.want_late_told({spec.name: spec.on_late for spec in self._spec.pipelines})
                    await self._note_finished()
                for task in beside:
                    task.cancel()
        except ExceptionGroup as group:  # not `except*`, which would wrap what is raised in it into another group
            fenced, rest = group.split(Fenced)
            if fenced is None or rest is not None:
                raise
            raise Fenced(str(fenced.exceptions[0])) from None
        finally:
            self._status.replays = {}

    def stop(self) -> None:
        """Drain: writes in flight are finished and saved."""
        self._stopping = True
        for running in self._running.values():
            running.end()
        self._changed.set()

    def change(self, spec: SourceSpec, pipeline_status: dict[str, PipelineStatus]) -> None:
        """As `SourceRunner.change`."""
        self._spec, self._pipeline_status = spec, pipeline_status
        self._changed.set()

    async def set_offset(self, pipeline: str, offset: int) -> tuple[Stored | None, Stored]:
        """As `SourceRunner.set_offset`."""
        running = self._running.get(pipeline)
        if pipeline in self.watch.wishes.paused and (running is None or running.task.done()):
            spec = next((one for one in self._spec.pipelines if one.name == pipeline), None)
            if spec is not None:
                return await move_offset(spec, offset=offset, store=self._store, lease=self.lease)
        if running is None:
            raise Misconfigured(f"pipeline {pipeline} does not run here now: try again, or stop the instances first")
        if not isinstance(running.pipeline, Pipeline):
            raise Misconfigured(f"pipeline {pipeline} has an interlude: wait until it is done")
        return await running.pipeline.move(offset)

    def _settle(self, tasks: asyncio.TaskGroup) -> bool:
        """Let run what is wanted, and end what is not. False once nothing runs any more."""
        paused = self.watch.wishes.paused
        live = {spec.name: spec for spec in self._spec.pipelines}
        self.reader.share_pages(len(live) > 1)
        self._replays = self._wanted_replays()
        interludes = self._wanted_interludes(live)
        resting = paused.keys() | {spec.name for spec in interludes.values()}
        wanted = {name: spec for name, spec in live.items() if name not in resting}
        wanted |= {line: spec for line, (_, spec) in self._replays.items()}
        # Where the pipeline itself is still, and not paused.
        wanted |= {
            line: spec for line, spec in interludes.items() if spec.name not in paused and self._is_still(spec.name)
        }
        for name, running in self._running.items():
            if name not in wanted or wanted[name].made_from != running.spec.made_from:
                running.end()
        if self._gives_way and self.watch.wishes.queued_by is not None and not self._stopping:
            _log.info("giving way", source=self._spec.name, to=self.watch.wishes.queued_by)
            self.stop()
        for name, spec in wanted.items():
            before = self._running.get(name)
            if not self._stopping and (before is None or before.is_over(spec)):
                pipeline = self._interlude(spec) if name in interludes else self._pipeline(name, spec)
                self._running[name] = _Running(spec, pipeline, tasks.create_task(pipeline.run()))
        rest = [name for name in live if name in paused and self._is_still(name)]
        for name in rest:
            status = self._pipeline_status[name]
            status.state, status.error, status.caught_up = "paused", f"paused by {paused[name]}", False
        goes_on = bool(rest) and not self._until_caught_up and not self._stopping  # it may be resumed
        return goes_on or not all(running.task.done() for running in self._running.values())

    def _wanted_interludes(self, live: dict[str, PipelineSpec]) -> dict[str, PipelineSpec]:
        """By the name of their line, which stands in for the pipeline's."""
        return {
            f"{name}{INTERLUDE}": replace(live[name], made_from=(live[name].made_from, wanted.at_unix_seconds))
            for name, wanted in self.watch.wishes.interludes.items()
            if wanted.phase != "done" and name in live and self._spec.make_interlude is not None
        }

    def _interlude(self, spec: PipelineSpec) -> InterludeLine:
        assert self._spec.make_interlude is not None, "asked before"
        return InterludeLine(
            self.watch.wishes.interludes[spec.name],
            spec,
            self._spec.make_interlude,
            reader=self.reader,
            settle_seconds=self._spec.settle_seconds,
            store=self._store,
            lease=self.lease,
            clock=self._clock,
            jitter=self._jitter,
            status=self._pipeline_status[spec.name],
            gives_up=self._until_caught_up,
        )

    def _is_still(self, name: str) -> bool:
        running = self._running.get(name)
        return running is None or running.task.done()

    def _wanted_replays(self) -> dict[str, tuple[Replay, PipelineSpec]]:
        wanted: dict[str, tuple[Replay, PipelineSpec]] = {}
        make = self._spec.make_replay
        for replay in self.watch.wishes.replays.values():
            if replay.state != "wanted" or make is None:
                continue
            before = self._replays.get(replay.line)
            if before is not None and before[0] == replay:
                wanted[replay.line] = before
                continue
            try:
                wanted[replay.line] = replay, make(replay)
            except Misconfigured as error:
                _log.warning("a replay cannot be run", replay=replay.name, pipeline=replay.pipeline, error=str(error))
                status = PipelineStatus(replay.line, self._spec.name, "", state="stopped", error=str(error))
                self._status.replays[replay.name] = status
        return wanted

    def _pipeline(self, name: str, spec: PipelineSpec) -> Pipeline:
        pages: Pages = self.reader
        if name in self._replays:
            replay = self._replays[name][0]
            pages = ReplayPages(self.reader, replay, clock=self._clock, jitter=self._jitter)
            status = PipelineStatus(name, self._spec.name, spec.sink_kind)
            self._status.replays[replay.name] = status
        else:
            status = self._pipeline_status[name]
            if spec.datamodel_events:
                pages = PagesOfToldModels(
                    self.reader,
                    lambda hash_: self.watch.wishes.told.get(name) == hash_,
                    lambda hash_: self._want_told(name, hash_),
                )
        return Pipeline(
            spec,
            pages=pages,
            store=self._store,
            lease=self.lease,
            clock=self._clock,
            jitter=self._jitter,
            status=status,
            until_caught_up=self._until_caught_up or name in self._replays,
            gives_up=self._until_caught_up,
        )

    def _want_told(self, pipeline: str, datamodel_hash: str) -> None:
        self._untold[pipeline] = datamodel_hash
        self._changed.set()

    async def _note_finished(self) -> None:
        if any(name.endswith(INTERLUDE) and running.is_done for name, running in self._running.items()):
            while not await self.watch.look():  # it is noted as done, and its pipeline may go on
                await self._clock.sleep(1.0)
        for line, (replay, _) in self._replays.items():
            if line in self._running and self._running[line].is_done:
                try:
                    await self.watch.finish(replay)
                except Unavailable as error:
                    _log.warning("a replay's end could not be noted", replay=replay.name, error=str(error))

    async def _wait_for_news(self) -> None:
        """Until a pipeline has ended, or others are wanted."""
        changed = asyncio.create_task(self._changed.wait())
        going = [running.task for running in self._running.values() if not running.task.done()]
        try:
            await asyncio.wait([changed, *going], return_when=asyncio.FIRST_COMPLETED)
        finally:
            changed.cancel()
        self._changed.clear()


async def _without_harm(work: Coroutine[Any, Any, None], source: str) -> None:
    """A defect of ours in what only looks ends the looking, and no pipeline."""
    try:
        await work
    except Fenced:
        raise
    except Exception:
        _log.exception("unexpected error", source=source)
