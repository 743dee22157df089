"""The pages of a snapshot: every object that there is now, model by model, in the order of their ids.

A page's ids are noted before it is handed on, so that after a crash the destination's position tells which object was
the last: listing goes on behind it. What is created, changed or deleted meanwhile needs no care here: the log tells it
from the snapshot's offset on (docs/adr/0014).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

import msgspec
import structlog

from oplogbridge.clock import Clock
from oplogbridge.errors import Misconfigured
from oplogbridge.lease import Lease
from oplogbridge.reconcile import Reconciliation
from oplogbridge.sink import DestinationReader
from oplogbridge.source.answers import Answer, AnswerTooLarge
from oplogbridge.source.asking import Patience
from oplogbridge.source.reader import Client, Reader, T
from oplogbridge.state import LeaseToken, StateStore
from oplogbridge.values import Entry, Page
from oplogbridge.wishes import Interlude

OBJECTS_MAX = 1000  # in one answer, which is what the vendor's lists give at most
RECORDS_MAX = 32  # of pages: three times what is read ahead and in flight

DELIVERED_SECONDS = 0.1  # between two looks whether all before is delivered
DELETES = "~deletes"  # stands for a type in records, behind all that are one

_log = structlog.get_logger()


class _Record(msgspec.Struct, frozen=True):
    """What a page held. Of the pages that may have been delivered in part."""

    type: str
    ids: tuple[str, ...]


class _Objects(msgspec.Struct, frozen=True):
    objects: list[msgspec.Raw]
    more: bool = True


class _Head(msgspec.Struct, frozen=True):
    id: str
    type: str | None = None
    updated_at: object = None


class _Models(msgspec.Struct, frozen=True):
    models: dict[str, msgspec.Raw]
    datamodel_hash: str | None = None


class SnapshotPages:
    """As `source.start.Pages`. Offsets count from the snapshot's, one an object; behind the last there is no more."""

    def __init__(
        self,
        reader: Reader,
        wanted: Interlude,
        *,
        accepts: Callable[[str, str], bool],
        make_reader: Callable[[], DestinationReader] | None,
        store: StateStore,
        lease: Lease,
        clock: Clock,
        jitter: Callable[[], float],
    ) -> None:
        """`accepts` is the pipeline's filter, of a type and an operation: what it does not take is not listed.
        `make_reader` reads the destination, for what is to be reconciled."""
        self._reader = reader
        self._wanted = wanted
        self._accepts = accepts
        self._make_reader = make_reader
        self._reconciliation: Reconciliation | None = None
        self._store = store
        self._lease = lease
        self._clock = clock
        self._patience = Patience(reader, f"the snapshot of {wanted.pipeline}", clock=clock, jitter=jitter)
        self._records: dict[int, _Record] | None = None  # by the offset of a page
        self._models: _Models | None = None
        self._ended: set[str] = set()  # types of which the last answer said that nothing follows
        self._objects_max = OBJECTS_MAX
        self._next_offset: int | None = None  # where the page begins that follows the last one

    async def tail(self) -> Page:
        return await self._reader.tail()

    async def ask(self, question: Callable[[Client], Awaitable[T]]) -> T:
        return await self._reader.ask(question)

    async def page(self, offset: int) -> Page:
        """Waits out every fault that may pass.

        Raises:
            Misconfigured: The source cannot list its objects in order.
            Unavailable: The state store.
        """
        if offset != self._next_offset:  # the line was opened again: what was read ahead of it never arrived
            self._records, self._reconciliation = None, None
            self._ended.clear()
        self._next_offset = None  # until this page is handed on
        if self._records is None:
            kept = await self._store.notes(_kind(self._wanted.pipeline))
            self._records = {int(at): msgspec.json.decode(text, type=_Record) for at, text in kept.items()}
        models = self._models or await self._read_models()
        type_, after = _behind(self._records, offset, self._wanted.at_offset)
        names = [name for name in sorted(models.models) if name >= type_ and self._is_wanted(name)]
        for name in names:
            if name in self._ended:
                continue
            entries = await self._list(name, after if name == type_ else "", offset)
            if entries:
                await self._note(offset, _Record(name, tuple(entry.object_id for entry in entries)))
                next_offset = self._next_offset = offset + len(entries)
                return Page(offset, next_offset, entries, (), True, models.datamodel_hash, bytes_received=0)
        deletes = await self._deletes(offset, after if type_ == DELETES else "") if self._wanted.reconcile else []
        self._next_offset = offset + len(deletes)
        return Page(offset, offset + len(deletes), deletes, (), bool(deletes), models.datamodel_hash, bytes_received=0)

    async def _deletes(self, offset: int, after: str) -> list[Entry]:
        """Of what the destination has and the snapshot did not tell: the log does not reach back to where it went."""
        if self._reconciliation is None:
            if self._make_reader is None:
                raise Misconfigured("the destination cannot be read back: take the snapshot without --reconcile")
            # What is read ahead of the write is not there yet, and would count as missing.
            while (kept := await self._store.peek(self._wanted.pipeline)) is None or kept.offset < offset:
                await self._clock.sleep(DELIVERED_SECONDS)
            self._reconciliation = Reconciliation(self._wanted.at_offset - 1)
            await self._reconciliation.read(self._make_reader())
        found = [
            (type_, id_)
            for type_, id_ in self._reconciliation.missing(after)
            if (not self._wanted.types or type_ in self._wanted.types) and self._accepts(type_, "delete")
        ]
        if found:
            await self._note(offset, _Record(DELETES, tuple(f"{type_}/{id_}" for type_, id_ in found)))
        behind = self._wanted.at_offset - 1
        first = self._wanted.first_place + offset - self._wanted.at_offset
        return [_delete(*one, offset + count, behind, first + count) for count, one in enumerate(found)]

    async def forget(self) -> None:
        """It is delivered: nothing of it needs to be known any more."""
        await forget(self._store, self._wanted.pipeline)

    def _is_wanted(self, name: str) -> bool:
        return (not self._wanted.types or name in self._wanted.types) and self._accepts(name, "snapshot")

    async def _read_models(self) -> _Models:
        answer = await self._patience.ask(lambda client: client.ask("datamodel.json"))
        try:
            if answer.status != 200:
                raise ValueError(f"HTTP {answer.status}")
            self._models = msgspec.json.decode(answer.body, type=_Models)
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            raise Misconfigured(
                f"the source does not tell its data model ({error}), which a snapshot needs: it takes API v4"
            ) from error
        unknown = sorted(set(self._wanted.types) - self._models.models.keys())
        if unknown:
            raise Misconfigured(f"the source's data model has no {', '.join(unknown)}: see its datamodel.json")
        return self._models

    async def _list(self, name: str, after: str, offset: int) -> list[Entry]:
        while True:
            question = {
                "expression": "id > ?",
                "arguments": [after],
                "sort": ["id"],
                "limit": self._objects_max,
            }
            try:
                answer = await self._patience.ask(
                    lambda client, body=question: client.ask(f"objects/{name}/query.json", body=body)  # type: ignore[misc]
                )
                break
            except AnswerTooLarge as error:
                if self._objects_max == 1:
                    raise Misconfigured(str(error)) from error
                self._objects_max //= 2
        if answer.status == 404:
            _log.warning("a model is gone while its snapshot is taken", pipeline=self._wanted.pipeline, model=name)
            return []
        found = _read(answer, name)
        if not found.more or not found.objects:
            self._ended.add(name)
        first = self._wanted.first_place + offset - self._wanted.at_offset
        return _entries(found.objects, name, after, offset=offset, behind=self._wanted.at_offset - 1, first=first)

    async def _note(self, offset: int, record: _Record) -> None:
        assert self._records is not None, "read before"
        # What was noted from here on is of an earlier run, and what was delivered long ago needs no record.
        stale = [at for at in self._records if at >= offset]
        old = sorted(at for at in self._records if at < offset)[: -RECORDS_MAX + 1]
        for at in (*stale, *old):
            del self._records[at]
        self._records[offset] = record
        changes: dict[str, str | None] = dict.fromkeys(map(str, (*stale, *old)))
        changes[str(offset)] = msgspec.json.encode(record).decode()
        under = LeaseToken(self._lease.source, self._lease.token)
        await self._store.note(_kind(self._wanted.pipeline), changes, under=under)


async def forget(store: StateStore, pipeline: str) -> None:
    kind = _kind(pipeline)
    await store.note(kind, dict.fromkeys(await store.notes(kind)))


def _kind(pipeline: str) -> str:
    return f"snapshot.{pipeline}"


def _behind(records: dict[int, _Record], offset: int, at_offset: int) -> tuple[str, str]:
    """The object that was delivered last before `offset`, by type and id; ("", "") for none. Pure."""
    earlier = [at for at in records if at < offset]
    if not earlier:
        if offset > at_offset:
            raise Misconfigured(
                f"the snapshot stands at {offset - at_offset} objects, and which they were is not known any more: the "
                "state store lost it; begin it again with `oplog-bridge snapshot`"
            )
        return "", ""
    at = max(earlier)
    record = records[at]
    return record.type, record.ids[min(offset - at, len(record.ids)) - 1]


def _delete(type_: str, id_: str, sequence: int, behind: int, number: int) -> Entry:
    place = f"{behind}-{number}"
    object_ = msgspec.json.encode({"id": id_, "type": type_})
    raw = b'{"sequence":"%d","operation":"delete","object":%b}' % (behind, object_)
    nothing = msgspec.UNSET
    head = (sequence, place, "delete", msgspec.Raw(object_), type_, id_, None)
    return Entry(*head, nothing, nothing, None, msgspec.Raw(raw), place)


def _read(answer: Answer, name: str) -> _Objects:
    try:
        if answer.status != 200:
            raise ValueError(f"HTTP {answer.status}")
        return msgspec.json.decode(answer.body, type=_Objects)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise Misconfigured(
            f"the source does not list its {name} objects by id ({error}): a snapshot needs objects/{name}/query.json"
        ) from error


def _entries(
    objects: Sequence[msgspec.Raw], name: str, after: str, *, offset: int, behind: int, first: int
) -> list[Entry]:
    """As entries of the operation `snapshot`, whose place is behind the sequence `behind`. Pure."""
    entries: list[Entry] = []
    for count, object_ in enumerate(objects):
        try:
            head = msgspec.json.decode(object_, type=_Head)
        except msgspec.MsgspecError as error:
            raise Misconfigured(f"an object of {name} behind {after!r} has no usable id: {error}") from error
        if head.id <= after:  # it would be told twice, or another one never
            raise Misconfigured(
                f"the source does not list its {name} objects in order of id ({head.id} comes behind {after}): a "
                "snapshot cannot be taken"
            )
        after = head.id
        entries.append(
            Entry(
                sequence=offset + count,
                id=f"{behind}-{first + count}",
                operation="snapshot",
                object=object_,
                object_type=head.type or name,
                object_id=head.id,
                updated_at=head.updated_at if isinstance(head.updated_at, str) else None,
                events=msgspec.UNSET,
                app_id=msgspec.UNSET,
                unknown=None,
                raw=msgspec.Raw(b'{"sequence":"%d","operation":"snapshot","object":%b}' % (behind, object_)),
                place=f"{behind}-{first + count}",
            )
        )
    return entries
