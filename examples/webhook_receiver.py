"""Receives webhooks, does each event's work exactly once, and acknowledges when that is durable.

    WEBHOOK_SECRET=whsec_… python examples/webhook_receiver.py 8080 results.db

Each pipeline has a path of its own here, as url: https://…/shop. The bridge sends in order, one event at a time, and
again whatever was not acknowledged: after a lost answer, or a crash of either side, events come that were here already.
Their sequences are not above the last one of the pipeline, which is saved in the transaction that saves the result.
Work that is not done within a second goes on, and the bridge is told so: it asks again after its `ack_wait`. When this
program dies in the middle, that work was not acknowledged, and begins anew.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import os
import sqlite3
import sys
import time

from aiohttp import web

KEY = base64.b64decode(os.environ["WEBHOOK_SECRET"].removeprefix("whsec_"))
WORK_SECONDS = float(os.environ.get("WORK_SECONDS", "0"))  # to try long work
PATIENCE_SECONDS = float(os.environ.get("PATIENCE_SECONDS", "1"))
TOLERANCE_SECONDS = 300  # of both clocks; an older request may be a replay by somebody who has overheard it

TABLES = """
    CREATE TABLE IF NOT EXISTS counts (operation TEXT PRIMARY KEY, events INTEGER NOT NULL);
    CREATE TABLE IF NOT EXISTS last (pipeline TEXT PRIMARY KEY, sequence INTEGER NOT NULL);
"""
COUNT = "INSERT INTO counts VALUES (?, 1) ON CONFLICT (operation) DO UPDATE SET events = events + 1"


def is_signed(request: web.Request, body: bytes) -> bool:
    """Standard Webhooks 1.0. While secrets are exchanged there are two signatures: one of them is enough."""
    webhook_id, timestamp = request.headers.get("webhook-id", ""), request.headers.get("webhook-timestamp", "")
    digest = hmac.new(KEY, f"{webhook_id}.{timestamp}.".encode() + body, hashlib.sha256).digest()
    expected = b"v1," + base64.b64encode(digest)
    signatures = request.headers.get("webhook-signature", "").encode(errors="replace").split()
    recent = timestamp.isdigit() and abs(time.time() - int(timestamp)) <= TOLERANCE_SECONDS
    return recent and any(hmac.compare_digest(expected, signature) for signature in signatures)


class Receiver:
    def __init__(self, path: str) -> None:
        self._results = sqlite3.connect(path)
        self._results.executescript(TABLES)
        self._working: dict[tuple[str, int], asyncio.Task[None]] = {}  # by pipeline and sequence

    async def receive(self, request: web.Request) -> web.Response:
        body = await request.read()
        if not is_signed(request, body):
            return web.Response(status=503)  # not 401: were our secret the wrong one, a 4xx would reject the event
        pipeline, sequence = request.match_info["pipeline"], int(request.headers["Oplog-Sequence"])
        last = self._results.execute("SELECT sequence FROM last WHERE pipeline = ?", (pipeline,)).fetchone()
        if last and sequence <= last[0]:
            return web.Response(status=204)  # a copy
        work = self._working.get((pipeline, sequence))
        if work is None:
            work = self._working[pipeline, sequence] = asyncio.create_task(self._work(pipeline, sequence, body))
            work.add_done_callback(lambda _: self._working.pop((pipeline, sequence)))
        await asyncio.wait([work], timeout=PATIENCE_SECONDS)
        if not work.done():
            return web.Response(status=202, headers={"Oplog-Ack": "+WPI"})
        work.result()  # if it failed, the answer is 500, and the event comes again
        return web.Response(status=204)

    async def _work(self, pipeline: str, sequence: int, body: bytes) -> None:
        await asyncio.sleep(WORK_SECONDS)
        with self._results:  # one transaction
            self._results.execute(COUNT, (json.loads(body)["data"]["operation"],))
            self._results.execute("INSERT OR REPLACE INTO last VALUES (?, ?)", (pipeline, sequence))
        print("1 event", flush=True)


if __name__ == "__main__":
    app = web.Application(client_max_size=64 << 20)
    app.router.add_post("/{pipeline}", Receiver(sys.argv[2]).receive)
    web.run_app(app, host="127.0.0.1", port=int(sys.argv[1]), print=None)
