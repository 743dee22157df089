"""`oplog-bridge sinks` and `oplog-bridge config schema`."""

from __future__ import annotations

import typer

from oplogbridge.cli.app import Json, app, config_app, print_json
from oplogbridge.config import json_schema
from oplogbridge.errors import ConfigError
from oplogbridge.plugins import load_plugin, sink_kinds


@app.command()
def sinks(json: Json = False) -> None:
    """The sinks that are installed, and what each is for."""
    rows = []
    for kind, distribution in sink_kinds().items():
        try:
            summary = load_plugin(kind).summary
        except ConfigError as error:
            summary = error.problems[0]
        rows.append({"kind": kind, "from": distribution, "summary": summary})
    if json:
        print_json(rows)
        return
    for row in rows:
        typer.echo(f"{row['kind']:<10} {row['summary']}")


@config_app.command("schema")
def schema() -> None:
    """The JSON Schema of the configuration, for editors."""
    print_json(json_schema())
