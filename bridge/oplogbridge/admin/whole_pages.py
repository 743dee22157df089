"""A page of the source for another process, with all that an event is made of. Pure.

`views.page_view` is for people; from this one a codec makes the same bytes as from the page itself. What is JSON
travels as text, so that nothing renders it anew.
"""

from __future__ import annotations

from typing import Any

import msgspec

from oplogbridge.errors import Unavailable
from oplogbridge.values import Entry, Malformed, Page


def whole_page_view(page: Page) -> dict[str, Any]:
    return {
        "from_offset": str(page.from_offset),
        "next_offset": str(page.next_offset),
        "more": page.more,
        "datamodel_hash": page.datamodel_hash,
        "entries": [_entry(entry) for entry in page.entries],
        "malformed": [{"sequence": str(one.sequence), "reason": one.reason} for one in page.malformed],
    }


def page_of_view(view: dict[str, Any]) -> Page:
    """Raises Unavailable where it is no such view: another version answered."""
    try:
        return Page(
            int(view["from_offset"]),
            int(view["next_offset"]),
            [_entry_of(entry) for entry in view["entries"]],
            [Malformed(int(one["sequence"]), b"", one["reason"]) for one in view["malformed"]],
            bool(view["more"]),
            view["datamodel_hash"],
            0,
        )
    except (KeyError, TypeError, ValueError) as error:
        raise Unavailable(
            "the instance that holds the source answers in another form: run the same version of oplog-bridge as it"
        ) from error


def _entry(entry: Entry) -> dict[str, Any]:
    return {
        "sequence": str(entry.sequence),
        "id": entry.id,
        "operation": entry.operation,
        "object": bytes(entry.object).decode(),
        "object_type": entry.object_type,
        "object_id": entry.object_id,
        "updated_at": entry.updated_at,
        "events": _text(entry.events),
        "app_id": _text(entry.app_id),
        "unknown": None if entry.unknown is None else {name: _text(raw) for name, raw in entry.unknown.items()},
        "raw": _text(entry.raw),
    }


def _entry_of(view: dict[str, Any]) -> Entry:
    unknown, raw = view["unknown"], view["raw"]
    return Entry(
        int(view["sequence"]),
        view["id"],
        view["operation"],
        msgspec.Raw(view["object"]),
        view["object_type"],
        view["object_id"],
        view["updated_at"],
        msgspec.UNSET if view["events"] is None else msgspec.Raw(view["events"]),
        msgspec.UNSET if view["app_id"] is None else msgspec.Raw(view["app_id"]),
        None if unknown is None else {name: msgspec.Raw(text) for name, text in unknown.items()},
        None if raw is None else msgspec.Raw(raw),
    )


def _text(raw: msgspec.Raw | msgspec.UnsetType | None) -> str | None:
    return bytes(raw).decode() if isinstance(raw, msgspec.Raw) else None
