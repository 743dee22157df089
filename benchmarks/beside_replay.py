"""What a replay of 100,000 entries costs the live pipeline beside it, at one poll a second.

Measured from the write at the source until the event stands in a file, without and with a replay in turns.

    python benchmarks/beside_replay.py --seconds 60 --rounds 2
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from oplogbridge.testing.emulator import EmulatorControl

COMMAND = [sys.executable, "-m", "oplogbridge"]
HISTORY = 100_000
CONFIG = """
state: sqlite:///state.db
admin: {{listen: "127.0.0.1:0"}}
sources: {{shop: {{url: "{url}", id: shop, poll_interval: 1s}}}}
pipelines: {{live: {{source: shop, sink: {{kind: file, path: live.jsonl}}}}}}
"""


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("--seconds", type=float, default=60.0)
    options.add_argument("--rounds", type=int, default=2)
    given = options.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        folder = Path(directory)
        emulator = subprocess.Popen(
            [*COMMAND, "emulator", "--listen", "127.0.0.1:0", "--entries", str(HISTORY)],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert emulator.stdout is not None
        control = EmulatorControl(emulator.stdout.readline().split()[1])
        (folder / "bridge.yaml").write_text(CONFIG.format(url=control.url))
        (folder / "fast.yaml").write_text(CONFIG.format(url=control.url).replace("1s", "0s"))
        command(folder, "run", "--until-caught-up", "--admin", "off", "-c", "fast.yaml")
        with (folder / "log").open("w") as log:
            bridge = subprocess.Popen([*COMMAND, "run", "-c", "bridge.yaml"], cwd=folder, stderr=log, stdout=log)
        try:
            measured: dict[str, list[float]] = {"alone": [], "beside a replay": []}
            arrivals: list[float] = []
            latency(folder, control, 5.0)
            for number in range(given.rounds):
                measured["alone"] += latency(folder, control, given.seconds)
                name = f"r{number}"
                command(folder, "replay", "live", "--from", "earliest", "--name", name, "--detach", "-c", "bridge.yaml")
                before = control.requests()[-1]["number"]
                measured["beside a replay"] += latency(folder, control, given.seconds)
                polls = [one for one in control.requests(before) if "oplog" in one["path"]]
                arrivals += [b["monotonic"] - a["monotonic"] for a, b in itertools.pairwise(polls)]
                command(folder, "replay", "cancel", name, "-c", "bridge.yaml")
            report(measured, arrivals)
        finally:
            bridge.terminate()
            bridge.wait()
            emulator.terminate()


def latency(folder: Path, control: EmulatorControl, seconds: float) -> list[float]:
    """One entry at a random moment, again and again; how long each took."""
    chance = random.Random(7)
    live = (folder / "live.jsonl").open("rb")
    live.seek(0, 2)
    taken: list[float] = []
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        time.sleep(chance.uniform(0.5, 2.5))
        written_at = time.monotonic()
        (sequence,) = control.written(1)
        while True:
            line = live.readline()
            if line and json.loads(line)["id"] == str(sequence):
                break
            if not line:
                time.sleep(0.005)
        taken.append(time.monotonic() - written_at)
    live.close()
    return taken


def report(measured: dict[str, list[float]], gaps: list[float]) -> None:
    print("| | entries | mean s | median s | p95 s | worst s |\n|---|---:|---:|---:|---:|---:|")
    for name, taken in measured.items():
        p95 = statistics.quantiles(taken, n=20)[-1]
        mean, median = statistics.fmean(taken), statistics.median(taken)
        print(f"| {name} | {len(taken)} | {mean:.2f} | {median:.2f} | {p95:.2f} | {max(taken):.2f} |")
    alone, beside = (statistics.fmean(taken) for taken in measured.values())
    print(f"\nratio of the means {beside / alone:.2f}; shortest gap between two polls {min(gaps):.3f} s")


def command(folder: Path, *arguments: str) -> None:
    subprocess.run([*COMMAND, *arguments], cwd=folder, check=True, capture_output=True)


if __name__ == "__main__":
    main()
