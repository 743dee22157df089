"""The vendor's HTTP interface: routes, credentials, the oplog, and the faults on the way."""

from __future__ import annotations

import gzip
import socket
import struct
from collections.abc import Awaitable, Callable
from typing import Any

import orjson
from aiohttp import web

from oplogbridge.emulator import answers, objects_api, objects_v1
from oplogbridge.emulator.backend import Backend
from oplogbridge.emulator.deployments import Deployments, lets_in
from oplogbridge.emulator.faults import Fault
from oplogbridge.emulator.misread import read_wrongly
from oplogbridge.emulator.openapi import document
from oplogbridge.emulator.page import BadParameter, parse_query, read_answer, render
from oplogbridge.emulator.requests import Request
from oplogbridge.emulator.xml import in_xml_where_wanted

GZIP_BYTES_MIN = 1024


Handler = Callable[[Backend, web.Request], Awaitable[web.StreamResponse]]
_OBJECTS = "/api/v4/{deployment}/objects/{model}"

# Where, how, what is asked for (which faults strike), and who answers. `.json` may be left out.
_TABLE: list[tuple[str, str, str, Handler]] = [
    ("GET", f"{_OBJECTS}/count", "objects", objects_api.count_objects),
    ("POST", f"{_OBJECTS}/query", "objects", objects_api.query_objects),
    ("GET", f"{_OBJECTS}/{{id}}", "objects", objects_api.read_object),
    ("PATCH", f"{_OBJECTS}/{{id}}", "objects", objects_api.change_object),
    ("PUT", f"{_OBJECTS}/{{id}}", "objects", objects_api.replace_object),
    ("DELETE", f"{_OBJECTS}/{{id}}", "objects", objects_api.delete_object),
    ("GET", _OBJECTS, "objects", objects_api.list_objects),
    ("POST", _OBJECTS, "objects", objects_api.create_object),
    ("POST", "/api/v4/{deployment}/batch", "objects", objects_api.batch),
    ("GET", "/api/v4/{deployment}/datamodel", "datamodel", objects_api.datamodel),
    ("GET", "/api/v4/{deployment}/info", "datamodel", objects_api.info),
    ("GET", "/api/v4/{deployment}/indexes", "datamodel", objects_api.indexes),
    ("GET", "/api/v1/_datamodel", "datamodel", objects_v1.datamodel),
    ("GET", "/api/v1/_attachment/{id}", "media", objects_v1.attachment),
    ("GET", "/api/v1/{model}/count", "objects", objects_api.count_objects),
    ("GET", "/api/v1/{model}/{id}", "objects", objects_v1.read_object),
    ("PUT", "/api/v1/{model}/{id}", "objects", objects_v1.change_object),
    ("DELETE", "/api/v1/{model}/{id}", "objects", objects_v1.delete_object),
    ("GET", "/api/v1/{model}", "objects", objects_v1.list_objects),
    ("POST", "/api/v1/{model}", "objects", objects_v1.create_object),
]


def routes(deployments: Deployments) -> list[web.RouteDef]:
    def recorded(handle: Callable[[Backend, web.Request, Request], Awaitable[web.StreamResponse]]) -> Any:
        async def answer(request: web.Request) -> web.StreamResponse:
            return in_xml_where_wanted(request, await _recorded(deployments.of(request), request, handle))

        return answer

    async def described(request: web.Request) -> web.Response:
        backend = deployments.of(request)
        try:
            root = str(request.url.origin())
        except ValueError:  # a `Host` that is none
            root = backend.objects.attachments.root
        settings, status = backend.settings, backend.switches.create_status
        return objects_api.json_answer(document(backend.objects.datamodel, settings.deployment, root, status))

    table = [
        web.get("/api/v4/{deployment}/oplog.json", recorded(_oplog), allow_head=False),
        web.get("/api/v4/{deployment}/oplog", recorded(_oplog), allow_head=False),
        web.get("/api/v1/_oplog.json", recorded(_oplog), allow_head=False),
        web.get("/api/v1/_oplog", recorded(_oplog), allow_head=False),
        web.get("/api/v1/_oplog.xml", recorded(_oplog), allow_head=False),
        web.get("/openapi.json", described, allow_head=False),
        web.get(
            "/media/{id}/{variant}", recorded(_answering("media", objects_v1.media, public=True)), allow_head=False
        ),
    ]
    for method, path, on, handler in _TABLE:
        answer = recorded(_answering(on, handler))
        shape = path.replace("{model}", "{model:[^/.]+}").replace("{id}", "{id:[^/.]+}")
        endings = (".json", "", ".xml") if path.startswith("/api/v1/") else (".json", "")
        table += [web.route(method, shape + ending, answer) for ending in endings]
    return [*table, web.route("*", "/{path:.*}", recorded(_nowhere))]


def _answering(on: str, handler: Handler, *, public: bool = False) -> Any:
    """Faults on the way, credentials, and errors in the shape of the version that was asked."""

    async def answer(backend: Backend, request: web.Request, record: Request) -> web.StreamResponse:
        faults = backend.faults
        if (slow := faults.first("before", on)) is not None:
            record.faults.append(slow.kind)
            await _wait(backend, slow)
        if (other := faults.first("instead", on)) is not None:
            record.faults.append(other.kind)
            return _instead(request, other)
        if not public and (refusal := _refusal(backend, request)) is not None:
            return refusal
        try:
            response = await handler(backend, request)
        except (RecursionError, orjson.JSONEncodeError):  # orjson writes no more than 254 levels
            return answers.error("INVALID_API_REQUEST", "The request is nested too deeply.")
        except answers.ERRORS as error:
            type_ = answers.type_of(error)
            return (
                answers.error(type_, str(error)) if "deployment" in request.match_info else answers.unstructured(type_)
            )
        if (broken := faults.first("after", on)) is not None:
            record.faults.append(broken.kind)
            assert isinstance(response, web.Response)
            body = response.body if isinstance(response.body, bytes) else b""
            return await _broken(
                backend,
                request,
                broken,
                body,
                {"Content-Type": response.headers.get("Content-Type", "application/octet-stream")},
            )
        return response

    return answer


async def _recorded(
    backend: Backend,
    request: web.Request,
    handle: Callable[[Backend, web.Request, Request], Awaitable[web.StreamResponse]],
) -> web.StreamResponse:
    record = Request(
        number=backend.requests.total + 1,
        monotonic=backend.clock.monotonic(),
        unix=backend.clock.unix(),
        method=request.method,
        path=request.path,
        query=request.query_string,
        start=request.query.get("start"),
        limit=request.query.get("limit"),
    )
    backend.requests.record(record)
    response = await handle(backend, request, record)
    if "reset" not in record.faults:
        record.status = response.status
    return response


async def _nowhere(backend: Backend, request: web.Request, record: Request) -> web.Response:
    return answers.error("ROUTE_ERROR", f"No route matches {request.method} {request.path}")


async def _oplog(backend: Backend, request: web.Request, record: Request) -> web.StreamResponse:
    faults = backend.faults
    if (slow := faults.first("before")) is not None:
        record.faults.append(slow.kind)
        await _wait(backend, slow)
    if (other := faults.first("instead")) is not None:
        record.faults.append(other.kind)
        return _instead(request, other)
    if (refusal := _refusal(backend, request)) is not None:
        return refusal
    try:
        body = _page(backend, request, record)
    except BadParameter as error:
        return answers.error("INVALID_API_REQUEST", str(error))
    headers = {"Content-Type": "application/json; charset=utf-8"}
    if body[:2] == b"\x1f\x8b":
        headers["Content-Encoding"] = "gzip"
    if (broken := faults.first("after")) is not None:
        record.faults.append(broken.kind)
        return await _broken(backend, request, broken, body, headers)
    return web.Response(body=body, headers=headers)


def _refusal(backend: Backend, request: web.Request) -> web.Response | None:
    if not lets_in(backend.settings, request.headers.get("Authorization", "")):
        return answers.access_denied()
    deployment = request.match_info.get("deployment", backend.settings.deployment)  # v1: told by the credentials
    if deployment != backend.settings.deployment:
        return answers.error("ACCOUNT_NOT_FOUND", f"No account found with ID: '{deployment}'")
    if backend.bucket is not None and not backend.bucket.take(backend.clock.monotonic()):
        refusal = answers.usual(429)
        if backend.switches.retry_after:
            refusal.headers["Retry-After"] = str(backend.bucket.retry_after_seconds())
        return refusal
    return None


def _page(backend: Backend, request: web.Request, record: Request) -> bytes:
    """The page's bytes, compressed when asked for. Only a page without faults is prepared, and only once."""
    switches = backend.switches
    query = parse_query(request.query, switches, "v4" if "deployment" in request.match_info else "v1")
    zipped = switches.gzip and "gzip" in request.headers.get("Accept-Encoding", "").lower()
    wrong = backend.faults.all("page")
    if wrong:
        record.faults.extend(ordered.fault.kind for ordered in wrong)
        answer, query, switches = read_wrongly(backend.log, query, switches, wrong, backend.last_query)
        full = False
    else:
        key = (query, zipped, bool(backend.objects.attachments))
        prepared = backend.prepared.get(key, valid_for=(backend.log.version, switches, backend.datamodel_hash))
        if prepared is not None:
            backend.last_query = query
            record.entries = query.limit
            return prepared
        answer = read_answer(backend.log, query, switches)
        # With attachments it is another one each time: their URLs are signed anew.
        full = len(answer.rows) == query.limit and answer.more and not backend.objects.attachments
    backend.last_query = query
    record.entries = len(answer.rows)
    body = render(answer, query, switches, backend.datamodel_hash, backend.objects.datamodel)
    if zipped and len(body) >= GZIP_BYTES_MIN:
        body = gzip.compress(body, compresslevel=1, mtime=0)
    if full:
        backend.prepared.keep(key, body)
    return body


async def _wait(backend: Backend, fault: Fault) -> None:
    if fault.seconds is None:
        await backend.faults.held()
    else:
        await backend.clock.sleep(fault.seconds)


def _instead(request: web.Request, fault: Fault) -> web.StreamResponse:
    match fault.kind:
        case "reset":
            _reset(request)
            return web.Response()  # nobody is there to read it
        case "html":
            return answers.html(fault.status or 200, "Down for maintenance")
        case "body":
            body = (fault.body or "").encode()
            return web.Response(status=fault.status or 200, body=body, headers={"Content-Type": fault.content_type})
    assert fault.status is not None
    response = answers.usual(fault.status)
    if fault.body is not None:
        response.body = fault.body.encode()
    if fault.retry_after_seconds is not None:
        response.headers["Retry-After"] = f"{fault.retry_after_seconds:g}"
    if 300 <= fault.status < 400:
        response.headers["Location"] = fault.location or str(request.url.with_path("/moved"))
    return response


async def _broken(
    backend: Backend, request: web.Request, fault: Fault, body: bytes, headers: dict[str, str]
) -> web.StreamResponse:
    part = len(body) // 2 if fault.bytes is None else min(fault.bytes, len(body))
    if fault.kind == "truncated":
        return web.Response(body=body[:part], headers=headers)
    response = web.StreamResponse(headers=headers)
    response.content_length = len(body)
    await response.prepare(request)
    await response.write(body[:part])
    if fault.kind == "stall":
        await _wait(backend, fault)
        await response.write(body[part:])
        await response.write_eof()
    elif request.transport is not None:
        request.transport.close()
    return response


def _reset(request: web.Request) -> None:
    transport = request.transport
    if transport is None:
        return
    connection: socket.socket = transport.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # close sends RST, not FIN
    transport.abort()
