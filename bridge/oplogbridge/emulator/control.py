"""The emulator's own interface under /_emulator/, for tests and people outside the process. Loopback only."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from ipaddress import ip_address
from typing import Any

import msgspec
import yaml
from aiohttp import web

from oplogbridge.emulator import answers
from oplogbridge.emulator.attachments import State
from oplogbridge.emulator.backend import Backend
from oplogbridge.emulator.datamodel import datamodel_of
from oplogbridge.emulator.deployments import Deployments
from oplogbridge.emulator.faults import Fault
from oplogbridge.errors import ConfigError

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_faults = msgspec.json.Decoder(Fault | list[Fault])
_changes = msgspec.json.Decoder(dict[str, Any])


def routes(deployments: Deployments) -> list[web.RouteDef]:
    """Of several deployments `?deployment=ID` chooses one."""
    handlers = {id(backend): _handlers(backend) for backend in deployments}

    def chosen(key: tuple[str, str]) -> Handler:
        async def handle(request: web.Request) -> web.StreamResponse:
            return await handlers[id(deployments.of(request))][key](request)

        return _guarded(handle)

    keys = next(iter(handlers.values()))
    return [web.route(method, f"/_emulator/{path}", chosen((method, path))) for method, path in keys]


def _handlers(backend: Backend) -> dict[tuple[str, str], Handler]:
    """By method and path."""

    async def state(request: web.Request) -> web.Response:
        return _json(
            {
                "deployment": backend.settings.deployment,
                "datamodel_hash": backend.datamodel_hash,
                "entries": len(backend.log),
                "oldest": str(backend.log.oldest),
                "newest": str(backend.log.newest),
                "requests": backend.requests.total,
                "faults": len(backend.faults),
                "switches": backend.switches,
            }
        )

    async def list_faults(request: web.Request) -> web.Response:
        ordered = backend.faults
        return _json(
            [{"id": o.id, "uses_left": o.uses_left, "passes_left": o.passes_left, "fault": o.fault} for o in ordered]
        )

    async def add_faults(request: web.Request) -> web.Response:
        given = _faults.decode(await request.read())
        added = [backend.faults.add(fault) for fault in (given if isinstance(given, list) else [given])]
        return _json({"ids": added}, status=201)

    async def clear_faults(request: web.Request) -> web.Response:
        backend.faults.clear()
        return web.Response(status=204)

    async def clear_fault(request: web.Request) -> web.Response:
        backend.faults.clear(int(request.match_info["id"]))
        return web.Response(status=204)

    async def release(request: web.Request) -> web.Response:
        backend.faults.release()
        return web.Response(status=204)

    async def append(request: web.Request) -> web.Response:
        """JSON Lines, as for --load."""
        sequences = backend.append_lines((await request.read()).split(b"\n"))
        return _json({"sequences": [str(sequence) for sequence in sequences]}, status=201)

    async def write(request: web.Request) -> web.Response:
        written = backend.write(int(request.query.get("entries", "1")))
        return _json({"sequences": [str(sequence) for sequence in written]}, status=201)

    async def list_requests(request: web.Request) -> web.Response:
        """`since` is a request's number: what came after it."""
        since = int(request.query.get("since", "0"))
        return _json({"total": backend.requests.total, "requests": [r for r in backend.requests if r.number > since]})

    async def clear_requests(request: web.Request) -> web.Response:
        backend.requests.clear()
        return web.Response(status=204)

    async def switch(request: web.Request) -> web.Response:
        backend.switch(**_changes.decode(await request.read()))
        return _json(backend.switches)

    async def deploy(request: web.Request) -> web.Response:
        """A new data model: YAML or the vendor's JSON."""
        try:
            model = datamodel_of(yaml.safe_load(await request.read()))
        except yaml.YAMLError as error:
            raise ValueError(f"no YAML: {error}") from error
        backend.deploy(model)
        return _json({"datamodel_hash": backend.datamodel_hash})

    async def attach(request: web.Request) -> web.Response:
        """The state of an attachment, and its bytes where it is uploaded."""
        state = msgspec.convert(request.query.get("state", "uploaded"), State)
        filename = request.query.get("filename", "attachment")
        backend.attach(request.match_info["id"], state, await request.read(), filename)
        return web.Response(status=204)

    return {
        ("PUT", "datamodel"): deploy,
        ("PUT", r"attachments/{id:[0-9a-f-]{36}}"): attach,
        ("GET", "state"): state,
        ("GET", "faults"): list_faults,
        ("POST", "faults"): add_faults,
        ("DELETE", "faults"): clear_faults,
        ("DELETE", r"faults/{id:\d+}"): clear_fault,
        ("POST", "release"): release,
        ("POST", "entries"): append,
        ("POST", "workload"): write,
        ("GET", "requests"): list_requests,
        ("DELETE", "requests"): clear_requests,
        ("PATCH", "switches"): switch,
    }


def _guarded(handle: Handler) -> Handler:
    async def guarded(request: web.Request) -> web.StreamResponse:
        if request.remote is None or not ip_address(request.remote).is_loopback:
            return answers.error("ROUTE_ERROR", f"No route matches {request.method} {request.path}")
        try:
            return await handle(request)
        except (msgspec.DecodeError, msgspec.ValidationError, ConfigError, TypeError, ValueError) as error:
            return answers.error("INVALID_API_REQUEST", str(error))

    return guarded


def _json(value: Any, *, status: int = 200) -> web.Response:
    return web.Response(body=msgspec.json.encode(value), status=status, content_type="application/json")
