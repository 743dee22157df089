"""The status as JSON and as a page. Pure; sequences are strings in every JSON we make."""

from __future__ import annotations

from html import escape
from typing import Any

from oplogbridge.metrics import lag_seconds
from oplogbridge.status import BridgeStatus, PipelineStatus, SourceStatus
from oplogbridge.values import Entry, Page


def status_view(status: BridgeStatus, *, unix_now: float, now: float) -> dict[str, Any]:
    return {
        "instance": status.instance,
        "uptime_seconds": round(unix_now - status.started_at_unix, 1),
        "stopping": status.stopping,
        "configuration": {"reloads": status.reloads, "error": status.reload_error},
        "sources": {name: _source(source, unix_now, now) for name, source in status.sources.items()},
        "pipelines": {name: _pipeline(pipeline, unix_now) for name, pipeline in status.pipelines.items()},
    }


def page_view(page: Page) -> dict[str, Any]:
    """A page for `tail`: entries as objects of text and raw JSON kept as text, so that nothing is re-rendered."""
    return {
        "from_offset": str(page.from_offset),
        "next_offset": str(page.next_offset),
        "more": page.more,
        "entries": [_entry(entry) for entry in page.entries],
        "malformed": [{"sequence": str(one.sequence), "reason": one.reason} for one in page.malformed],
    }


def html_page(status: BridgeStatus, *, unix_now: float, now: float) -> str:
    """One table, reloaded every two seconds; no script, so nothing to protect."""
    view = status_view(status, unix_now=unix_now, now=now)
    rows = "".join(_row(name, pipeline) for name, pipeline in view["pipelines"].items())
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><meta http-equiv="refresh" content="2">'
        "<title>oplog-bridge</title><style>body{font:15px system-ui;margin:2rem;color:#222}"
        "table{border-collapse:collapse}td,th{padding:.4rem .9rem;text-align:left;border-bottom:1px solid #ddd}"
        "td.n{text-align:right;font-variant-numeric:tabular-nums}.running,.finished{color:#176b2c}.stopped{color:#b00020}"
        ".retrying,.opening{color:#a15c00}</style>"
        f"<h1>oplog-bridge</h1><p>instance {escape(status.instance)}</p>"
        "<table><tr><th>pipeline<th>source<th>sink<th>state<th>offset<th>delivered<th>lag<th>error</tr>"
        f"{rows}</table></html>"
    )


def _row(name: str, pipeline: dict[str, Any]) -> str:
    lag = pipeline["lag_seconds"]
    return (
        f"<tr><td>{escape(name)}<td>{escape(pipeline['source'])}<td>{escape(pipeline['sink'])}"
        f'<td class="{pipeline["state"]}">{pipeline["state"]}{" (caught up)" if pipeline["caught_up"] else ""}'
        f'<td class="n">{pipeline["offset"] or "–"}<td class="n">{pipeline["events_delivered"]:,}'
        f'<td class="n">{"–" if lag is None else f"{lag:.0f} s"}<td>{escape(pipeline["error"] or "")}</tr>'
    )


def _source(source: SourceStatus, unix_now: float, now: float) -> dict[str, Any]:
    good = source.last_good_poll_at
    return {
        "lease_held": source.lease_held,
        "epoch": source.epoch,
        "polls": source.polls,
        "poll_failures": source.poll_failures,
        "entries_read": source.entries_read,
        "seconds_since_good_poll": None if good is None else round(now - good, 1),
        "error": source.error,
        "replays": {name: _pipeline(replay, unix_now) for name, replay in source.replays.items()},
    }


def _pipeline(pipeline: PipelineStatus, unix_now: float) -> dict[str, Any]:
    return {
        "source": pipeline.source,
        "sink": pipeline.sink,
        "state": pipeline.state,
        "error": pipeline.error,
        "caught_up": pipeline.caught_up,
        "offset": _text(pipeline.offset),
        "position": _text(pipeline.position),
        "log_trouble": pipeline.log_trouble,
        "events_delivered": pipeline.events_delivered,
        "entries_filtered": pipeline.entries_filtered,
        "events_rejected": pipeline.events_rejected,
        "dead_letters": pipeline.dead_letters,
        "retries": pipeline.retries,
        "rewinds": pipeline.rewinds,
        "attachments": pipeline.attachments,
        "attachments_waiting": pipeline.attachments_waiting,
        "lag_entries": pipeline.entries_waiting,
        "lag_seconds": lag_seconds(pipeline, unix_now),
    }


def _entry(entry: Entry) -> dict[str, Any]:
    return {
        "sequence": str(entry.sequence),
        "operation": entry.operation,
        "type": entry.object_type,
        "id": entry.object_id,
        "object": bytes(entry.object).decode(),
    }


def _text(number: int | None) -> str | None:
    return None if number is None else str(number)
