"""The objects of v4 over HTTP: list, count, query, create, read, change, replace, delete, batch; and the data model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl

import orjson
from aiohttp import web

from oplogbridge.emulator import answers
from oplogbridge.emulator.backend import Backend
from oplogbridge.emulator.datamodel import Model
from oplogbridge.emulator.log import Kept
from oplogbridge.emulator.objects import NotThere
from oplogbridge.emulator.page import BadParameter
from oplogbridge.emulator.parameters import Listing, flattened, listing_of, listing_of_expression, nested
from oplogbridge.emulator.representation import InvalidValue, display_of

BATCH_MAX = 1000
FORM_FIELDS_MAX = 10_000
_PASSING = {"put": "replace", "patch": "change"}


async def list_objects(backend: Backend, request: web.Request) -> web.Response:
    model = model_of(backend, request)
    query = nested(request.query.items())
    return _listed(backend, model, listing_of(model, query))


async def query_objects(backend: Backend, request: web.Request) -> web.Response:
    model = model_of(backend, request)
    return _listed(backend, model, listing_of_expression(model, await body_of(request)))


async def count_objects(backend: Backend, request: web.Request) -> web.Response:
    model = model_of(backend, request)
    _, total = listing_of(model, nested(request.query.items())).select(backend.objects.all(model))
    return json_answer({"count": total})


async def create_object(backend: Backend, request: web.Request) -> web.Response:
    model = model_of(backend, request)
    given = _wrapped(model, await body_of(request))
    with backend.objects.writing():
        kept = backend.objects.create(model, given, given.get("id"))
    return json_answer(shown(backend, model, kept), status=backend.switches.create_status)


async def read_object(backend: Backend, request: web.Request) -> web.Response:
    model = model_of(backend, request)
    kept = backend.objects.get(model, request.match_info["id"])
    return json_answer(shown(backend, model, kept, listing_of(model, nested(request.query.items())).embed))


async def change_object(backend: Backend, request: web.Request) -> web.Response:
    model, id_ = model_of(backend, request), request.match_info["id"]
    given = _wrapped(model, await body_of(request))
    with backend.objects.writing():
        kept = backend.objects.change(model, id_, given)
    return json_answer(shown(backend, model, kept))


async def replace_object(backend: Backend, request: web.Request) -> web.Response:
    model, id_ = model_of(backend, request), request.match_info["id"]
    given = _wrapped(model, await body_of(request))
    with backend.objects.writing():
        kept = backend.objects.replace(model, id_, given)
    return json_answer(shown(backend, model, kept))


async def delete_object(backend: Backend, request: web.Request) -> web.Response:
    model, id_ = model_of(backend, request), request.match_info["id"]
    with backend.objects.writing():
        backend.objects.delete(model, id_)
    return json_answer({})


async def batch(backend: Backend, request: web.Request) -> web.Response:
    """In order, not a transaction: what fails is said, and the others hold. An ill-formed request applies nothing."""
    given = await body_of(request)
    operations, stop = given.get("operations"), given.get("stop_on_error", False)
    if not isinstance(operations, list) or not isinstance(stop, bool):
        raise BadParameter("'operations' must be a list, 'stop_on_error' true or false.")
    if len(operations) > BATCH_MAX:
        raise BadParameter(f"A batch has at most {BATCH_MAX} operations.")
    for operation in operations:
        _check_operation(operation)
    results: list[dict[str, Any]] = []
    with backend.objects.writing():
        for operation in operations:
            results.append(_applied(backend, operation))
            if stop and "error" in results[-1]:
                break
    return json_answer({"operations": results, "stop_on_error": stop})


async def datamodel(backend: Backend, request: web.Request) -> web.Response:
    tag = f'"{backend.datamodel_hash}"'
    if tag in [one.strip().removeprefix("W/") for one in request.headers.get("If-None-Match", "").split(",")]:
        return web.Response(status=304, headers={"ETag": tag})
    answer = json_answer({**backend.objects.datamodel.shown(), "datamodel_hash": backend.datamodel_hash})
    answer.headers["ETag"] = tag
    return answer


async def info(backend: Backend, request: web.Request) -> web.Response:
    return json_answer(
        {
            "label": "Emulator",
            "app_label": "Emulated app",
            "app_id": backend.settings.deployment,
            "org_id": backend.settings.deployment,
            "region": "local",
            "environment": "testing",
            "last_deployed_at": backend.deployed_at,
            "deployed_by_name": "oplog-bridge emulator",
            "deployed_by_email": "emulator@example.com",
        }
    )


async def indexes(backend: Backend, request: web.Request) -> web.Response:
    index = {"key": {"_id": 1}, "name": "_id_", "status": "ready", "type": "internal"}
    index["usage_stats"] = {"queries": 0, "since": backend.deployed_at}
    return json_answer({"models": {name: {"indexes": [index]} for name in backend.objects.datamodel.models}})


# What they share ---------------------------------------------------------------------------------------------------


def model_of(backend: Backend, request: web.Request) -> Model:
    name = request.match_info["model"]
    model = backend.objects.datamodel.find(name)
    if model is None:
        raise answers.ApiError("ROUTE_ERROR", f"No model '{name}' in this app.")
    return model


async def body_of(request: web.Request) -> dict[str, Any]:
    """JSON where the request says so, else a form, which is the documented default."""
    if request.content_type == "application/json":
        try:
            given = orjson.loads(await request.read())
        except orjson.JSONDecodeError as error:
            raise BadParameter(f"Invalid JSON: {error}") from error
        if not isinstance(given, dict):
            raise BadParameter("The body must be a JSON object.")
        return given
    try:
        pairs = parse_qsl((await request.read()).decode(), keep_blank_values=True, max_num_fields=FORM_FIELDS_MAX)
    except ValueError as error:
        raise BadParameter(f"Invalid form: {error}") from error
    found: dict[str, Any] = flattened(nested(pairs))
    return found


def json_answer(value: Any, *, status: int = 200) -> web.Response:
    return web.Response(body=orjson.dumps(value), status=status, content_type="application/json", charset="utf-8")


def shown(backend: Backend, model: Model, kept: Kept, embed: tuple[str, ...] = ()) -> dict[str, Any]:
    """As in the oplog, with `display` besides."""
    found = backend.objects.shown(kept)
    object_ = {name: found.pop(name) for name in ("id", "type", "updated_at")}
    object_["display"] = display_of(model, found)
    object_ |= found
    for relation in embed:
        target = backend.objects.datamodel.models[model.belongs_to[relation].model]
        other = backend.objects.find(target.name, kept.state.get(f"{relation}_id") or "")
        object_[relation] = None if other is None else shown(backend, target, other)
    return object_


def _listed(backend: Backend, model: Model, listing: Listing) -> web.Response:
    page, total = listing.select(backend.objects.all(model))
    objects = [shown(backend, model, kept, listing.embed) for kept in page]
    more = listing.skip + len(page) < total  # also where the caller's own limit was reached, as at the vendor
    return json_answer({"objects": objects, "count": len(objects), "total": total, "more": more})


def _wrapped(model: Model, body: Mapping[str, Any]) -> dict[str, Any]:
    """The fields, which stand under the model's name."""
    given = body.get(model.name)
    if not isinstance(given, Mapping):
        raise BadParameter(f"The required parameter '{model.name}' is missing.")
    return dict(given)


def _check_operation(operation: Any) -> None:
    if not isinstance(operation, Mapping) or operation.get("method") not in ("post", "put", "patch", "delete"):
        raise BadParameter("Each operation needs a 'method': post, put, patch or delete.")
    object_ = operation.get("object")
    if not isinstance(object_, Mapping) or not isinstance(object_.get("type"), str):
        raise BadParameter("Each operation needs an 'object' with its 'type'.")
    if operation["method"] != "post" and not isinstance(object_.get("id"), str):
        raise BadParameter(f"The object of a {operation['method']} needs its 'id'.")


def _applied(backend: Backend, operation: Mapping[str, Any]) -> dict[str, Any]:
    method, object_, objects = operation["method"], operation["object"], backend.objects
    result: dict[str, Any] = {"method": method, "object": {"type": object_["type"], "id": object_.get("id")}}
    try:
        model = objects.datamodel.models.get(object_["type"])
        if model is None:
            raise InvalidValue(f"No model '{object_['type']}' in this app.")
        with objects.operation():
            if method == "post":
                result["object"]["id"] = objects.create(model, object_, object_.get("id")).id
            elif method == "delete":
                objects.delete(model, object_["id"])
            else:
                getattr(objects, _PASSING[method])(model, object_["id"], object_)
    except (InvalidValue, NotThere) as error:
        return result | {"success": False, "error": answers.described(answers.type_of(error), str(error))}
    return result | {"success": True}
