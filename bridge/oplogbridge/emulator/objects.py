"""The objects of the emulated app. Every write changes an object and appends its entry, in one transaction."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple
from uuid import uuid4

import orjson

from oplogbridge.emulator.attachments import Attachment, Attachments
from oplogbridge.emulator.datamodel import ATTACHMENT_TYPES, DataModel, Model
from oplogbridge.emulator.entry import entry_body
from oplogbridge.emulator.log import Beside, Kept, Log, Written
from oplogbridge.emulator.representation import UUID_SHAPE, InvalidValue, kept_value, shown_object
from oplogbridge.emulator.sequences import iso_second, second_of
from oplogbridge.emulator.switches import Switches

Operation = Literal["create", "update", "delete"]


class NotThere(Exception):
    """404 OBJECT_NOT_FOUND."""


class _Change(NamedTuple):
    operation: Operation
    kept: Kept  # of a delete: what it last was


@dataclass
class _Writing:
    """What one request has changed so far, and how to take it back."""

    changes: list[_Change] = field(default_factory=list)
    before: list[tuple[str, str, Kept | None]] = field(default_factory=list)
    attachments: list[Attachment] = field(default_factory=list)
    attachments_before: list[tuple[str, Attachment | None]] = field(default_factory=list)
    order_before: dict[str, dict[str, Kept]] = field(default_factory=dict)  # by type, of those that lost an object


class Objects:
    """All are in memory; a file keeps them as well."""

    def __init__(
        self, log: Log, mint: Callable[[int], int], datamodel: DataModel, switches: Callable[[], Switches]
    ) -> None:
        self._log = log
        self._mint = mint
        self._switches = switches
        self.attachments = Attachments(log.attachments())
        self._kept: dict[str, dict[str, Kept]] = {}
        for kept in log.objects():
            self._kept.setdefault(kept.type, {})[kept.id] = kept
        self._writing: _Writing | None = None
        self.deploy(datamodel)

    def deploy(self, datamodel: DataModel) -> None:
        """From now on all is shown by this model, history too."""
        self.datamodel = datamodel
        self._log.show_by(datamodel.hash, self._body)

    # Reading --------------------------------------------------------------------------------------------------------

    def all(self, model: Model) -> Iterable[Kept]:
        """In the order in which they were made."""
        return self._kept.get(model.name, {}).values()

    def get(self, model: Model, id_: str) -> Kept:
        """Raises NotThere."""
        kept = self.find(model.name, id_)
        if kept is None:
            raise NotThere(f"No {model.name} found with ID: '{id_}'")
        return kept

    def find(self, type_: str, id_: str) -> Kept | None:
        return self._kept.get(type_, {}).get(id_)

    def shown(self, kept: Kept) -> dict[str, Any]:
        """As in the oplog of v4."""
        model = self.datamodel.models.get(kept.type)
        return shown_object(
            model,
            kept.type,
            kept.id,
            kept.updated_at,
            kept.state,
            self.attachments,
            unknown_option=self._switches().unknown_option,
        )

    # Writing --------------------------------------------------------------------------------------------------------

    @contextmanager
    def writing(self) -> Any:
        """What is written within is one transaction, or, with an exception, nothing."""
        self._writing = writing = _Writing()
        try:
            yield
            self._commit(writing)
        except BaseException:
            self._undo(writing, _Writing())
            self._kept |= writing.order_before
            raise
        finally:
            self._writing = None

    @contextmanager
    def operation(self) -> Any:
        """One of several in a writing: what fails leaves nothing behind, not even an upload."""
        writing = self._open()
        begun = replace(
            writing,
            before=[*writing.before],
            changes=[*writing.changes],
            attachments=[*writing.attachments],
            attachments_before=[*writing.attachments_before],
        )
        try:
            yield
        except BaseException:
            self._undo(writing, begun)
            raise

    def _undo(self, writing: _Writing, begun: _Writing) -> None:
        for type_, id_, kept in reversed(writing.before[len(begun.before) :]):
            self._put(type_, id_, kept)
        for id_, attachment in reversed(writing.attachments_before[len(begun.attachments_before) :]):
            self.attachments.restore(id_, attachment)
        for now, then in (
            (writing.before, begun.before),
            (writing.changes, begun.changes),
            (writing.attachments, begun.attachments),
            (writing.attachments_before, begun.attachments_before),
        ):
            del now[len(then) :]

    def create(self, model: Model, given: Mapping[str, Any], id_: str | None = None) -> Kept:
        """Raises InvalidValue."""
        id_ = str(uuid4()) if id_ is None else _checked_id(id_)
        if self.find(model.name, id_) is not None:
            raise InvalidValue(f"The id '{id_}' is already taken.")
        return self._change("create", model, id_, self._state(model, given, {}))

    def replace(self, model: Model, id_: str, given: Mapping[str, Any]) -> Kept:
        """PUT: fields that are not given are cleared; a new object where there was none. Raises InvalidValue."""
        operation: Operation = "create" if self.find(model.name, id_) is None else "update"
        return self._change(operation, model, _checked_id(id_), self._state(model, given, {}))

    def change(self, model: Model, id_: str, given: Mapping[str, Any]) -> Kept:
        """PATCH: fields that are not given stay. Raises NotThere, InvalidValue."""
        kept = self.get(model, id_)
        state = self._state(model, given, kept.state)
        if state == kept.state and self._switches().no_op_update == "nothing":
            return kept
        return self._change("update", model, id_, state)

    def delete(self, model: Model, id_: str) -> Kept:
        """Raises NotThere."""
        kept = self.get(model, id_)
        writing = self._open()
        # The order in which objects were made is what a list without `sort` shows: taken back, it must be the same.
        writing.order_before.setdefault(kept.type, dict(self._kept[kept.type]))
        writing.before.append((kept.type, id_, kept))
        self._put(kept.type, id_, None)
        writing.changes.append(_Change("delete", kept))
        return kept

    def touch(self, attachment_id: str) -> None:
        """Entries for the objects that refer to an attachment whose state has changed."""
        for kept in [one for objects in self._kept.values() for one in objects.values()]:
            model = self.datamodel.models.get(kept.type)
            names = [] if model is None else [one.name for one in model.fields.values() if one.type in ATTACHMENT_TYPES]
            if model is not None and attachment_id in [kept.state.get(name) for name in names]:
                self._change("update", model, kept.id, kept.state)

    def keep_attachment(self, attachment: Attachment) -> None:
        writing = self._open()
        writing.attachments.append(attachment)
        writing.attachments_before.append((attachment.id, self.attachments.find(attachment.id)))
        self.attachments.put(attachment)

    def _open(self) -> _Writing:
        assert self._writing is not None, "within `writing()`"
        return self._writing

    def _change(self, operation: Operation, model: Model, id_: str, state: dict[str, Any]) -> Kept:
        writing = self._open()
        kept = Kept(model.name, id_, "", state)
        writing.before.append((model.name, id_, self.find(model.name, id_)))
        self._put(model.name, id_, kept)
        writing.changes.append(_Change(operation, kept))
        return kept

    def _put(self, type_: str, id_: str, kept: Kept | None) -> None:
        objects = self._kept.setdefault(type_, {})
        if kept is None:
            objects.pop(id_, None)
        else:
            objects[id_] = kept

    def _state(self, model: Model, given: Mapping[str, Any], before: Mapping[str, Any]) -> dict[str, Any]:
        """What the object keeps. Names that the model does not have are ignored, or refused by the switch."""
        state = dict(before)
        for name, value in given.items():
            if (one := model.fields.get(name)) is not None:
                if one.type in ATTACHMENT_TYPES:
                    state[name] = self._attachment(name, value)
                else:
                    state[name] = kept_value(one, value)
            elif name.endswith("_id") and name[:-3] in model.belongs_to:
                state[name] = _checked_reference(name, value)
            elif name.endswith("_id") and (one := model.fields.get(name[:-3])) and one.type in ATTACHMENT_TYPES:
                if given.get(name[:-3]) is None:  # beside the object with its state the id says nothing new
                    state[name[:-3]] = self._attachment(name[:-3], {"id": value} if value else None)
            elif self._switches().unknown_field == "reject" and name not in ("id", "type", "updated_at", "display"):
                raise InvalidValue(f"Unknown field '{name}' for {model.name}.")
        return state

    def _attachment(self, name: str, given: Any) -> str | None:
        """The id of what is uploaded here, or of what will be later."""
        if given is None or given == "":
            return None
        made = self.attachments.made_of(name, given)
        if made is not None:
            self.keep_attachment(made)
            return made.id
        return given if isinstance(given, str) else str(given["id"])

    # The log --------------------------------------------------------------------------------------------------------

    def _commit(self, writing: _Writing) -> None:
        if not writing.changes and not writing.attachments:
            return
        first = self._mint(max(1, len(writing.changes)))
        stamp = iso_second(second_of(first)).decode()
        last: dict[tuple[str, str], Kept | None] = {}
        bodies = []
        for change in writing.changes:
            kept = change.kept
            if change.operation != "delete":
                kept.updated_at = stamp
                last[kept.type, kept.id] = kept
            else:
                last[kept.type, kept.id] = None
            bodies.append(self._written(change, stamp))
        beside = Beside(
            kept=[kept for kept in last.values() if kept is not None],
            gone=[key for key, kept in last.items() if kept is None],
            attachments=writing.attachments,
        )
        self._log.append(range(first, first + len(bodies)), bodies, beside)

    def _written(self, change: _Change, stamp: str) -> Written:
        kept = change.kept
        state, updated_at = kept.state, stamp
        if change.operation == "delete":
            shape = self._switches().delete_object
            state = kept.state if shape == "last_state" else {}
            updated_at = stamp if shape != "id" else ""
        written = Written(change.operation, kept.type, kept.id, updated_at, orjson.dumps(state), "", b"")
        model = self.datamodel.models.get(kept.type)
        # Where there are attachments it is shown anew each time: their state and their URLs are those of the moment.
        fixed = model is None or not any(
            one.type in ATTACHMENT_TYPES and state.get(name) for name, one in model.fields.items()
        )
        return written._replace(datamodel_hash=self._log.datamodel_hash if fixed else "", body=self._body(written))

    def _body(self, written: Written) -> bytes:
        kept = Kept(written.type, written.id, written.updated_at, orjson.loads(written.state))
        shown = self.shown(kept)
        if not written.updated_at:
            del shown["updated_at"]
        body = entry_body(written.operation, orjson.dumps(shown))
        assert isinstance(body, bytes)
        return body


def _checked_id(id_: Any) -> str:
    if not isinstance(id_, str) or UUID_SHAPE.fullmatch(id_) is None:
        raise InvalidValue(f"Invalid id '{str(id_)[:100]}': a lower-case UUID is needed.")
    return id_


def _checked_reference(name: str, value: Any) -> str | None:
    if value is None or value == "":
        return None
    if not isinstance(value, str) or UUID_SHAPE.fullmatch(value) is None:
        raise InvalidValue(f"Invalid id '{str(value)[:100]}' for field '{name}'.")
    return value  # dangling or not: the vendor checks no references
