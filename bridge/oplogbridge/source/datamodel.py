"""The source's data model: read again when the pages show another hash, by ETag, and compared with the one before."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import msgspec
import structlog

from oplogbridge.clock import Clock
from oplogbridge.errors import Misconfigured
from oplogbridge.source.asking import Patience
from oplogbridge.source.reader import Reader

_log = structlog.get_logger()


class DataModel(msgspec.Struct, frozen=True):
    """As API v4 shows it; `models` by name, each with `fields`, `belongs_to` and `has_many`."""

    models: dict[str, dict[str, Any]]
    datamodel_hash: str | None = None


def read_model(body: bytes) -> DataModel:
    """Raises Misconfigured for what is none."""
    try:
        return msgspec.json.decode(body, type=DataModel)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise Misconfigured(f"the source's datamodel.json is no data model ({error}): ask the vendor") from error


class DataModelFollower:
    """Of one source, while its lease is held."""

    def __init__(self, reader: Reader, source: str, *, clock: Clock, jitter: Callable[[], float]) -> None:
        self._changed = reader.datamodel_changed
        self._patience = Patience(reader, "its data model", clock=clock, jitter=jitter)
        self._source = source
        self._etag: str | None = None
        self._model: DataModel | None = None

    async def run(self) -> None:
        """Until cancelled. What it finds is told in the log; nothing in the line depends on it. Raises Fenced."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            try:
                answer = await self._patience.ask(lambda client: client.ask("datamodel.json", etag=self._etag))
                if answer.status == 304:
                    continue
                model = read_model(answer.body)
            except Misconfigured as error:
                _log.warning("data model not read", source=self._source, error=str(error))
                continue
            changes = [] if self._model is None else list(differences(self._model.models, model.models))
            self._model, self._etag = model, answer.etag
            _log.info(
                "data model read",
                source=self._source,
                datamodel_hash=model.datamodel_hash,
                models=len(model.models),
                changes=changes[:20],
            )


def differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[str]:
    """What was added (+), removed (-) or is of another type (~), such as `-task.photo`. Pure."""
    for name in sorted(before.keys() | after.keys()):
        if name not in after or name not in before:
            yield f"{'-' if name in before else '+'}{name}"
            continue
        old, new = _fields(before[name]), _fields(after[name])
        for field in sorted(old.keys() | new.keys()):
            if field not in new or field not in old:
                yield f"{'-' if field in old else '+'}{name}.{field}"
            elif old[field] != new[field]:
                yield f"~{name}.{field}"


def _fields(model: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for part in ("fields", "belongs_to"):
        members = model.get(part)
        if isinstance(members, Mapping):
            found |= {
                name: (member.get("type"), member.get("model"), member.get("options"))
                for name, member in members.items()
                if isinstance(member, Mapping)
            }
    return found
