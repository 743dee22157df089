"""`oplog-bridge verify`: does the destination hold what the source shows?"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Annotated

import typer

from oplogbridge.cli.app import ConfigFiles, Json, app, print_json, run_async
from oplogbridge.cli.offsets import PipelineName, known
from oplogbridge.cli.redriving import delivered_later, redriven
from oplogbridge.cli.run import load_settings
from oplogbridge.cli.verifying import Verified, verify
from oplogbridge.clock import SystemClock
from oplogbridge.config import Settings, parse_start
from oplogbridge.errors import ConfigError
from oplogbridge.source.start import Start
from oplogbridge.verify.findings import DIFFERENCES, Findings

EXIT_DIFFERENT = 4
SHOWN_MAX = 5  # of each kind
_PROGRESS_SECONDS = 5.0
_APART = {
    "re-rendered": "by another data model than the source's present one: no difference of the delivery",
    "trimmed": "by the destination's retention",
    "thinned": "perhaps, by the destination's compaction or limits",
    "dead-lettered": "kept as dead letters instead",
    "beside": "beside the log: snapshots and the like, which are not compared",
    "late": "delivered behind what had gone before: committed late at the source, or redriven",
    "replayed": "delivered once more by a replay, which are not compared",
    "older": "older than what the source still shows",
    "malformed": "entries that can be no events",
}


@app.command("verify")
def verify_command(
    pipeline: PipelineName,
    config: ConfigFiles,
    start: Annotated[
        str | None,
        typer.Option("--from", help="A sequence, a time, or earliest. By default where the pipeline began."),
    ] = None,
    to: Annotated[
        str | None, typer.Option("--to", help="Up to before this one; at most, and by default, the pipeline's offset.")
    ] = None,
    json: Json = False,
    repair: Annotated[
        bool,
        typer.Option("--repair", help="Deliver what is missing, where no later event of the same key stands there."),
    ] = False,
) -> None:
    """Compare the destination with the source; exit code 4 when they differ. A live pipeline may go on meanwhile."""
    settings = load_settings(config)
    known(settings, pipeline)
    run_async(_verify(settings, pipeline, _start("--from", start), _start("--to", to), json, repair))


async def _verify(
    settings: Settings, pipeline: str, start: Start | None, to: Start | None, json: bool, repair: bool
) -> None:
    found = await verify(settings, pipeline, start, to, Told(pipeline))
    if json:
        view = {"pipeline": pipeline, "from": str(found.begin), "to": str(found.end), **found.findings.view()}
        print_json(view)
    else:
        for line in lines_of(pipeline, found):
            typer.echo(line)
    if repair and found.findings.counts["missing"]:
        await _repair(settings, pipeline, found.findings)
    if found.findings.differ:
        raise typer.Exit(EXIT_DIFFERENT)


async def _repair(settings: Settings, pipeline: str, findings: Findings) -> None:
    """What is missing goes behind what was delivered, each once. It stays a difference of this run: verify again."""
    missing = {
        int(one.sequence): one.key
        for one in findings.listed["missing"]
        if one.sequence is not None and one.key is not None
    }
    later = await delivered_later(settings, pipeline, missing)
    for sequence, by in sorted(later.items())[:SHOWN_MAX]:
        typer.echo(
            f"not repaired: {sequence}  {missing[sequence]} was changed later, by {by}: a snapshot tells its state",
            err=True,
        )
    wanted = sorted(missing.keys() - later.keys())
    if not wanted:
        typer.echo(f"{pipeline}: nothing can be repaired in the order of its key", err=True)
        return
    left_over = "the rest goes on with the next `oplog-bridge run`"
    if await redriven(settings, pipeline, wanted, action="verify --repair", detach=False, left_over=left_over):
        rest = findings.counts["missing"] - len(wanted)
        typer.echo(f"{pipeline}: {len(wanted):,} delivered now, {rest:,} not: verify again", err=True)


class Told:
    """Progress, a line every few seconds."""

    def __init__(self, pipeline: str) -> None:
        self._pipeline = pipeline
        self._clock = SystemClock()
        self._next = self._clock.monotonic() + _PROGRESS_SECONDS

    def __call__(self, below: int, findings: Findings) -> None:
        now = self._clock.monotonic()
        if now < self._next:
            return
        self._next = now + _PROGRESS_SECONDS
        sys.stderr.write(f"{self._pipeline}: {findings.compared:,} compared, up to {below}\n")


def lines_of(pipeline: str, found: Verified) -> Iterator[str]:
    findings = found.findings
    verdict = "they differ" if findings.differ else "no difference"
    yield f"{pipeline}: {findings.compared:,} events from {found.begin} to before {found.end}: {verdict}"
    for kind in DIFFERENCES:
        count, listed = findings.counts[kind], findings.listed.get(kind, [])
        if count:
            yield f"{kind}: {count:,}"
            yield from (f"  {one}" for one in listed[:SHOWN_MAX])
            if count > SHOWN_MAX:
                yield "  …"
    apart = {"re-rendered": findings.counts["re-rendered"], **findings.apart()}
    for name, count in apart.items():
        if count:
            yield f"{name}: {count:,}, {_APART[name]}"
    if findings.coarse:
        yield "so many differ that late, duplicate and extra ones could not all be told apart: narrow the range"


def _start(option: str, text: str | None) -> Start | None:
    if text is None:
        return None
    try:
        return parse_start(int(text) if text.isdecimal() else text)
    except ValueError as error:
        raise ConfigError("verify", [f"{option} {text}: {error}"]) from error
