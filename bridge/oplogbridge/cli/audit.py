"""`oplog-bridge audit`: what operators did to the offsets, from the state store."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import typer

from oplogbridge.cli.app import ConfigFiles, Json, app, print_json, run_async
from oplogbridge.cli.holder import opened_store
from oplogbridge.cli.run import load_settings
from oplogbridge.config import Settings
from oplogbridge.state import AuditRecord


@app.command()
def audit(
    config: ConfigFiles,
    records: Annotated[int, typer.Option("--records", "-n", min=1, max=10_000, help="How many of the newest.")] = 20,
    json: Json = False,
) -> None:
    """Who moved which offset, and when: the newest first. Needs no lease."""
    run_async(_audit(load_settings(config), records, json))


async def _audit(settings: Settings, records_max: int, json: bool) -> None:
    async with opened_store(settings) as store:
        records = await store.audit(records_max)
    if json:
        print_json([_told(record) for record in records])
        return
    typer.echo(f"{'TIME':<21} {'WHO':<30} {'PIPELINE':<30} {'ACTION':<30} DETAIL")
    for record in records:
        told = _told(record)
        typer.echo(
            f"{told['time']:<21} {told['actor']:<30} {told['pipeline']:<30} {told['action']:<30} {told['detail']}"
        )


def _told(record: AuditRecord) -> dict[str, str]:
    return {
        "time": datetime.fromtimestamp(record.at_unix_seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "actor": record.actor,
        "pipeline": record.pipeline,
        "action": record.action,
        "detail": record.detail,
    }
