"""Work that may not be done twice, from a file of JSON Lines that is still being written.

    python examples/file_once.py shop.jsonl results.db

Only what `FILE.position` covers is read: its `length` ends at a complete line, and what stands before it is never
changed. What lies behind it is a write under way, or what a crash of the bridge left: it is cut off and written again,
and who had read that would have read it twice. The place in the file is saved in the transaction that saves the
result: when this program dies, both are there or neither is.
"""

from __future__ import annotations

import json
import os
import sqlite3
import sys
import time
from pathlib import Path

TABLES = """
    CREATE TABLE IF NOT EXISTS counts (operation TEXT PRIMARY KEY, events INTEGER NOT NULL);
    CREATE TABLE IF NOT EXISTS place (path TEXT PRIMARY KEY, inode INTEGER NOT NULL, bytes INTEGER NOT NULL);
"""
COUNT = "INSERT INTO counts VALUES (?, 1) ON CONFLICT (operation) DO UPDATE SET events = events + 1"
LINES = 100
LOOK_AGAIN_SECONDS = 0.2


def covered_bytes(path: str) -> int:
    try:
        length: int = json.loads(Path(f"{path}.position").read_bytes())["length"]
    except FileNotFoundError:  # the bridge has not begun
        length = 0
    return length


def main(path: str, results_path: str) -> None:
    results = sqlite3.connect(results_path)
    results.executescript(TABLES)
    while True:
        saved = results.execute("SELECT inode, bytes FROM place WHERE path = ?", (path,)).fetchone()
        inode, place = saved or (None, 0)
        covered = covered_bytes(path)
        if covered == place:
            time.sleep(LOOK_AGAIN_SECONDS)
            continue
        lines: list[bytes] = []
        with Path(path).open("rb") as file:
            now = os.fstat(file.fileno()).st_ino
            if covered < place or inode not in (None, now):
                sys.exit(f"{path} is another file than was read: read the old one to its end, then delete its `place`")
            file.seek(place)
            while place < covered and len(lines) < LINES:
                lines.append(file.readline())
                place += len(lines[-1])
        with results:  # one transaction
            for line in lines:
                results.execute(COUNT, (json.loads(line)["data"]["operation"],))
            results.execute("INSERT OR REPLACE INTO place VALUES (?, ?, ?)", (path, now, place))
        print(f"{len(lines)} events", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
