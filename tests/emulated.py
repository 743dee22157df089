"""The emulator's objects API, asked over HTTP as any client would: for tests."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp

from oplogbridge.emulator import Emulator
from oplogbridge.testing.clock import ManualClock

# One field of each type, and relationships.
MODEL = """
app_user: user
models:
  user:
    display: "{name}"
    fields: {name: {type: text, subtype: name}}
  category:
    display: "{name}"
    fields: {name: text}
  task:
    label: Job
    display: "{name} ({status})"
    fields:
      name: text
      instructions: text
      status: {type: single-choice-integer, options: {0: Open, 1: Closed}}
      sport: {type: single-choice, options: {soccer: Soccer, chess: Chess}}
      tags: {type: multiple-choice, options: {red: Red, blue: Blue}}
      levels: {type: multiple-choice-integer, options: {1: One, 2: Two}}
      count: integer
      weight: number
      urgent: boolean
      due: date
      seen_at: datetime
      place: location
      photo: photo
      sketch: signature
      document: attachment
    belongs_to: {category: category, owner: {model: user, inverse_of: jobs}}
"""
NO_SUCH_ID = "00000000-0000-4000-8000-000000000000"


class Reply(NamedTuple):
    status: int
    headers: Any
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Api:
    def __init__(self, emulator: Emulator, session: aiohttp.ClientSession) -> None:
        self.emulator = emulator
        self._session = session

    async def ask(self, method: str, path: str, body: Any = None, **more: Any) -> Reply:
        """`path` below the v4 base, or from the root if it begins with `/`. A mapping is sent as JSON."""
        url = (
            path if "://" in path else (self.emulator.root + path if path[:1] == "/" else f"{self.emulator.url}/{path}")
        )
        if isinstance(body, str):
            more["data"] = body
            more.setdefault("headers", {"Content-Type": "application/x-www-form-urlencoded"})
        elif body is not None:
            more["json"] = body
        async with self._session.request(method, url, allow_redirects=False, **more) as response:
            return Reply(response.status, response.headers, await response.read())

    async def made(self, model: str, **fields: Any) -> dict[str, Any]:
        reply = await self.ask("POST", f"objects/{model}.json", {model: fields})
        assert reply.status == 201, reply.body
        object_: dict[str, Any] = reply.json
        return object_

    async def entries(self, parameters: str = "sequence_ids=true") -> list[dict[str, Any]]:
        entries: list[dict[str, Any]] = (await self.ask("GET", f"oplog.json?{parameters}")).json["entries"]
        return entries

    async def listed(self, parameters: str = "", model: str = "task") -> list[str]:
        """The names of the objects that a query finds."""
        reply = await self.ask("GET", f"objects/{model}.json?{parameters}")
        assert reply.status == 200, reply.body
        return [one["name"] for one in reply.json["objects"]]


@contextlib.asynccontextmanager
async def emulated(folder: Path, *, model: str = MODEL, **settings: Any) -> AsyncIterator[Api]:
    file = folder / "model.yaml"
    file.write_text(model)
    settings.setdefault("clock", ManualClock())
    async with Emulator(model=file, **settings) as emulator, aiohttp.ClientSession() as session:
        yield Api(emulator, session)
