"""`python -m fuzz`: coverage-guided (atheris), one process a target; what breaks something is kept in the corpus.

make fuzz                              every target, RUNS inputs each
make fuzz TARGET=page-v4 RUNS=5000000
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

INPUT_BYTES_MAX = 16 * 1024
INPUT_SECONDS_MAX = 20  # longer is a hang
MEMORY_MIB_MAX = 2048
SHOWN = 4_000  # characters of what a broken target said


def main() -> int:
    parser = argparse.ArgumentParser(prog="make fuzz", description=__doc__)
    parser.add_argument("--target", action="append", help="only this one; may be repeated")
    parser.add_argument("--runs", type=int, default=200_000, help="inputs for each target")
    parser.add_argument("--inside", help=argparse.SUPPRESS)  # the process of one target
    chosen = parser.parse_args()
    if chosen.inside:
        _fuzz(chosen.inside, chosen.runs)
    from fuzz.targets import TARGETS

    broken = []
    for name in chosen.target or [*TARGETS, "admin"]:
        command = [sys.executable, "-m", "fuzz", "--inside", name, "--runs", str(chosen.runs)]
        done = subprocess.run(command, capture_output=True, text=True, errors="replace")
        ended = [line for line in done.stderr.splitlines() if line.startswith("Done ")]
        print(f"{name:16} {'broken' if done.returncode else 'holds':7} {' '.join(ended)}", flush=True)
        if done.returncode:
            broken.append(name)
            print(done.stdout[-SHOWN:], done.stderr[-SHOWN:], flush=True)
    return 1 if broken else 0


def _fuzz(name: str, runs: int) -> None:
    """Never returns: libFuzzer ends the process."""
    import atheris

    with atheris.instrument_imports(include=["oplogbridge", "oplogbridge_sinks"]):
        from fuzz import admin, targets

    if name == "admin":
        check, seeds = admin.AdminUnderFire().__enter__(), list(admin.SEEDS)
    else:
        check, seeds = targets.TARGETS[name].check, targets.TARGETS[name].corpus()
    kept = targets.CORPUS / name
    kept.mkdir(parents=True, exist_ok=True)
    grown = Path(tempfile.mkdtemp(prefix=f"fuzz-{name}-"))
    for number, seed in enumerate(seeds):
        (grown / f"seed-{number}").write_bytes(seed)
    options = [
        f"-atheris_runs={runs}",
        f"-max_len={INPUT_BYTES_MAX}",
        f"-timeout={INPUT_SECONDS_MAX}",
        f"-rss_limit_mb={MEMORY_MIB_MAX}",
        f"-artifact_prefix={kept}/",
        str(grown),
    ]
    atheris.Setup([sys.argv[0], *options], check)
    atheris.Fuzz()


if __name__ == "__main__":
    raise SystemExit(main())
