"""`python -m chaos`: every fault on every sink, on real servers. Prints the table, and fails on any violation."""

from __future__ import annotations

import argparse
import logging
import secrets
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from chaos import report
from chaos.catalogue import ALL, FAULTS, Fault
from chaos.cells import Result, run
from marked import filled


def main() -> int:
    parser = argparse.ArgumentParser(prog="make chaos", description=__doc__)
    names = [fault.name for fault in FAULTS]
    parser.add_argument("--sink", action="append", choices=ALL, help="only this one; may be repeated")
    parser.add_argument("--fault", action="append", choices=names, help="only this one; may be repeated")
    parser.add_argument("-n", type=int, help="strike so often; by default what the table says")
    parser.add_argument("--seed", type=int, default=0, help="of the moments; printed, and by default a new one")
    parser.add_argument("--jobs", type=int, default=2, help="cells at once")
    parser.add_argument("--write", type=Path, metavar="FILE", help="put the table into this document")
    chosen = parser.parse_args()

    for noisy in ("aiokafka", "asyncio", "aiohttp"):  # our own readers meet every fault as well
        logging.getLogger(noisy).setLevel(logging.CRITICAL)
    seed = chosen.seed or secrets.randbelow(2**31) + 1
    print(f"repeat with --seed {seed}", flush=True)
    cells = [
        (fault, kind)
        for fault in FAULTS
        for kind in fault.sinks
        if (not chosen.fault or fault.name in chosen.fault) and (not chosen.sink or kind in chosen.sink)
    ]
    if not cells:
        parser.error("no such cell: that fault cannot meet that sink")
    begin = time.monotonic()

    def cell(which: tuple[Fault, str]) -> Result:
        fault, kind = which
        result = run(fault, kind, chosen.n or fault.times, seed)
        print(f"{fault.name:>18} {kind:8} {result.seconds:5.0f} s  {result}", flush=True)
        return result

    with ThreadPoolExecutor(chosen.jobs) as at_once:
        results = list(at_once.map(cell, cells))
    minutes = (time.monotonic() - begin) / 60
    text = report.table(results, seed=seed, minutes=minutes)
    print(f"\n{text}")
    if chosen.write is not None:
        chosen.write.write_text(filled(chosen.write.read_text(), "the table", text))
    broken = [result for result in results if not result.holds]
    for result in broken:
        print(f"VIOLATION {result.fault.name} {result.kind}: {result}", file=sys.stderr)
    return 1 if broken else 0


if __name__ == "__main__":
    raise SystemExit(main())
