"""The list of attachments that are still to come. It is kept in the state store, so that no crash forgets one.

Each is asked for again after a quarter of its age, at least some seconds and at most an hour: what was taken a minute
ago is looked for every few seconds, what hangs for days every hour. API v4 is asked for a hundred objects at once, for
their states and for fresh URLs (those in an old entry have expired); v1 for one after the other. All within the
source's pace, in the turns that pipelines leave (`Reader.ask`).
"""

from __future__ import annotations

import itertools
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from itertools import groupby

import msgspec
import structlog

from oplogbridge.attachments.references import Reference, Told, references_in
from oplogbridge.attachments.spec import AttachmentsSpec
from oplogbridge.clock import Clock
from oplogbridge.errors import Misconfigured, Unavailable
from oplogbridge.lease import Lease
from oplogbridge.source.start import Pages
from oplogbridge.state import LeaseToken, StateStore
from oplogbridge.status import PipelineStatus

WAITING_MAX = 100_000  # 20 MiB here and in the store; beyond it the oldest is given up
ROUND_SECONDS = 5.0
REREAD_ROUNDS = 12
AGAIN_SECONDS_MAX = 3600.0
OBJECTS_AT_ONCE = 100  # their ids fit into one request

_log = structlog.get_logger()

Fetch = Callable[[Reference, Told | None], Awaitable[Told | None]]


class Wait(msgspec.Struct, frozen=True):
    """One that is to come: `since` when, by the wall clock."""

    type: str
    object_id: str
    field: str
    since_unix_seconds: float


class _Objects(msgspec.Struct, frozen=True):
    objects: list[dict[str, object]]


class Waiting:
    def __init__(
        self, spec: AttachmentsSpec, fetch: Fetch, *, pages: Pages, store: StateStore, lease: Lease, clock: Clock
    ) -> None:
        self._spec = spec
        self._fetch = fetch
        self._pages = pages
        self._store = store
        self._lease = lease
        self._clock = clock
        self._kind = f"attachments.{spec.pipeline}"
        self._waits: dict[str, Wait] | None = None  # by id, oldest first
        self._again_at: dict[str, float] = {}  # by id, by the wall clock

    async def add(self, references: Sequence[Reference]) -> None:
        """Return when they are on the list, durably. Raises Unavailable, Fenced."""
        waits = await self._known()
        new = [one for one in references if one.id not in waits]
        if not new:
            return
        now = self._clock.unix()
        added = {one.id: Wait(one.type, one.object_id, one.field, now) for one in new}
        await self._change({id_: msgspec.json.encode(wait).decode() for id_, wait in added.items()})
        waits |= added

    async def keep_trying(self, status: PipelineStatus) -> None:
        """Until cancelled. Raises Unavailable and Misconfigured of the stores, Fenced."""
        for turn in itertools.count(1):
            if turn % REREAD_ROUNDS == 0:
                self._waits = None  # a replay of this pipeline has the same list
            waits = await self._known()
            status.attachments_waiting = len(waits)
            now = self._clock.unix()
            late = [id_ for id_, wait in waits.items() if now - wait.since_unix_seconds > self._spec.deadline_seconds]
            for id_ in list(waits)[: max(len(late), len(waits) - WAITING_MAX)]:  # the oldest come first
                _log.warning("attachment given up", pipeline=self._spec.pipeline, id=id_, object=waits[id_].object_id)
                await self._end(self._reference(id_), Told("expired"), status)
            due = [id_ for id_ in waits if self._again_at.get(id_, 0.0) <= now][:OBJECTS_AT_ONCE]
            if due:
                await self._try(due, status)
            await self._clock.sleep(ROUND_SECONDS)

    async def _try(self, due: Sequence[str], status: PipelineStatus) -> None:
        waits, now = await self._known(), self._clock.unix()
        for id_ in due:
            age = now - waits[id_].since_unix_seconds
            self._again_at[id_] = now + min(max(age / 4, ROUND_SECONDS), AGAIN_SECONDS_MAX)
        references = [self._reference(id_) for id_ in due]
        if not self._spec.has_urls:
            for one in references:
                await self._end(one, None, status)
            return
        references.sort(key=lambda one: one.type)
        for type_, group in groupby(references, key=lambda one: one.type):
            wanted = list(group)
            now_there = await self._looked_up(type_, wanted)
            if now_there is None:
                continue
            for one in wanted:
                found = now_there.get(one.id)
                if found is None:
                    await self._end(one, Told("missing"), status)  # the object is gone, or has another one now
                elif found.state in ("missing", "untrusted"):
                    await self._end(one, Told(found.state), status)  # type: ignore[arg-type]
                elif found.state == "uploaded":
                    await self._end(found, None, status)

    async def _looked_up(self, type_: str, wanted: Iterable[Reference]) -> dict[str, Reference] | None:
        """The attachments that these objects have now, by id; None when the source does not say."""
        ids = sorted({one.object_id for one in wanted})
        body = {"expression": "id in ?", "arguments": [ids], "limit": len(ids)}
        try:
            answer = await self._pages.ask(lambda client: client.ask(f"objects/{type_}/query.json", body=body))
            if answer.status == 404:
                return {}  # the model is gone
            objects = msgspec.json.decode(answer.body, type=_Objects).objects
        except (Unavailable, Misconfigured, msgspec.MsgspecError, RecursionError) as error:
            _log.info("attachments not looked up", pipeline=self._spec.pipeline, type=type_, error=str(error))
            return None
        return {
            one.id: one for members in objects for one in references_in(members, type_, str(members.get("id")), members)
        }

    async def _end(self, one: Reference, told: Told | None, status: PipelineStatus) -> None:
        """`told` is how it ends; None: fetch it, if that can be."""
        try:
            ended = await self._fetch(one, told)
        except Misconfigured:
            raise
        except Unavailable as error:
            # Of the source: later. Of the stores: the next write says so, too.
            _log.info("attachment not fetched", pipeline=self._spec.pipeline, id=one.id, error=str(error))
            return
        if ended is None or ended.state == "pending":
            return
        await self._change({one.id: None})
        waits = await self._known()
        waits.pop(one.id, None)
        self._again_at.pop(one.id, None)
        status.attachments[ended.state] = status.attachments.get(ended.state, 0) + 1
        status.attachments_waiting = len(waits)
        _log.info("attachment " + ended.state, pipeline=self._spec.pipeline, id=one.id)

    def _reference(self, id_: str) -> Reference:
        assert self._waits is not None, "read before"
        wait = self._waits[id_]
        return Reference(id_, wait.type, wait.object_id, wait.field)

    async def _known(self) -> dict[str, Wait]:
        if self._waits is None:
            kept = await self._store.notes(self._kind)
            waits = {id_: msgspec.json.decode(text, type=Wait) for id_, text in kept.items()}
            self._waits = dict(sorted(waits.items(), key=lambda item: item[1].since_unix_seconds))
        return self._waits

    async def _change(self, changes: Mapping[str, str | None]) -> None:
        under = LeaseToken(self._lease.source, self._lease.token)
        await self._store.note(self._kind, changes, under=under)
