"""The objects of v1 over HTTP: bare arrays, bare keys, partial PUT, photos by id; an error is a status alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson
from aiohttp import web

from oplogbridge.emulator.attachments import VARIANTS
from oplogbridge.emulator.backend import Backend
from oplogbridge.emulator.datamodel import ATTACHMENT_TYPES, Field, Model
from oplogbridge.emulator.log import Kept
from oplogbridge.emulator.objects import NotThere
from oplogbridge.emulator.objects_api import body_of, json_answer, model_of
from oplogbridge.emulator.page import BadParameter
from oplogbridge.emulator.parameters import listing_of, nested
from oplogbridge.emulator.representation import display_of, shown_value_v1


async def list_objects(backend: Backend, request: web.Request) -> web.Response:
    model = model_of(backend, request)
    page, _ = listing_of(model, nested(request.query.items())).select(backend.objects.all(model))
    return json_answer([_shown(backend, model, kept) for kept in page])


async def create_object(backend: Backend, request: web.Request) -> web.Response:
    """One object, or an array of them."""
    model = model_of(backend, request)
    many = await _array_of(request)
    given: list[Any] = many if many is not None else [(await body_of(request)).get(model.name)]
    if not all(isinstance(one, Mapping) for one in given):
        raise BadParameter(f"The required parameter '{model.name}' is missing.")
    with backend.objects.writing():
        made = [backend.objects.create(model, _choices_by_index(model, one)) for one in given]
    found = [_shown(backend, model, kept) for kept in made]
    return json_answer(found if many is not None else found[0], status=backend.switches.create_status)


async def read_object(backend: Backend, request: web.Request) -> web.Response:
    model = model_of(backend, request)
    return json_answer(_shown(backend, model, backend.objects.get(model, request.match_info["id"])))


async def change_object(backend: Backend, request: web.Request) -> web.Response:
    """PUT is partial here, and does not set photos."""
    model = model_of(backend, request)
    given = (await body_of(request)).get(model.name)
    if not isinstance(given, Mapping):
        raise BadParameter(f"The required parameter '{model.name}' is missing.")
    photos = {name for name, field in model.fields.items() if field.type in ATTACHMENT_TYPES}
    fields = {name: value for name, value in given.items() if name.removesuffix("_id") not in photos}
    with backend.objects.writing():
        kept = backend.objects.change(model, request.match_info["id"], _choices_by_index(model, fields))
    return json_answer(_shown(backend, model, kept))


async def delete_object(backend: Backend, request: web.Request) -> web.Response:
    model = model_of(backend, request)
    with backend.objects.writing():
        backend.objects.delete(model, request.match_info["id"])
    return web.Response()


async def datamodel(backend: Backend, request: web.Request) -> web.Response:
    return json_answer(backend.objects.datamodel.shown_v1())


async def attachment(backend: Backend, request: web.Request) -> web.Response:
    """A redirect to the original file."""
    id_ = request.match_info["id"]
    found = backend.objects.attachments.find(id_)
    if found is None or found.state != "uploaded":
        raise NotThere(f"No attachment found with ID: '{id_}'")
    path = backend.objects.attachments.path(id_, "original")
    return web.Response(status=302, headers={"Location": backend.objects.attachments.root + path})


async def media(backend: Backend, request: web.Request) -> web.Response:
    """The bytes, for whoever has a URL that is signed and has not expired; no credentials."""
    attachments, id_, variant = backend.objects.attachments, request.match_info["id"], request.match_info["variant"]
    query = request.query
    if not attachments.is_signed(id_, variant, query.get("expires", ""), query.get("sha1", "")):
        return web.Response(status=403, text="The URL is not signed, or has expired.\n")
    found = attachments.find(id_)
    if found is None or found.state != "uploaded":
        return web.Response(status=404)
    # An SVG opened as a page could run scripts in this origin.
    safe = {"Content-Security-Policy": "sandbox; default-src 'none'", "X-Content-Type-Options": "nosniff"}
    return web.Response(body=found.content, content_type=found.media_type, headers=safe)


async def _array_of(request: web.Request) -> list[Any] | None:
    if request.content_type != "application/json":
        return None
    try:
        given = orjson.loads(await request.read())
    except orjson.JSONDecodeError as error:
        raise BadParameter(f"Invalid JSON: {error}") from error
    return given if isinstance(given, list) else None


def _choices_by_index(model: Model, given: Mapping[str, Any]) -> dict[str, Any]:
    """v1 writes an option by its position or its text."""
    fields = dict(given)
    for name, value in given.items():
        field = model.fields.get(name)
        if field is None or not field.options or field.type not in ("single-choice", "multiple-choice"):
            continue
        fields[name] = [_key(field, one) for one in value] if isinstance(value, list) else _key(field, value)
    return fields


def _key(field: Field, value: Any) -> Any:
    """Of the option at a position, which a form has as text, or with a text; else the value as it is."""
    options = field.options or ()
    if isinstance(value, str) and value.isascii() and value.isdigit() and field.option(value) is None:
        value = int(value[:9])
    if isinstance(value, int) and not isinstance(value, bool):
        return options[value].key if 0 <= value < len(options) else value
    return next((one.key for one in options if one.display == value), value)


def _shown(backend: Backend, model: Model, kept: Kept) -> dict[str, Any]:
    shown: dict[str, Any] = {"id": kept.id, "type": kept.type, "updated_at": kept.updated_at}
    shown["display"] = display_of(model, kept.state)
    urls: dict[str, Any] = {}
    for name, field in model.fields.items():
        if name not in kept.state:
            continue
        shown[name] = shown_value_v1(field, kept.state[name])
        found = backend.objects.attachments.find(kept.state[name]) if field.type in ATTACHMENT_TYPES else None
        if found is not None and found.state == "uploaded":
            urls[name] = {variant: backend.objects.attachments.path(found.id, variant) for variant in VARIANTS}
    shown |= {f"{name}_id": kept.state[f"{name}_id"] for name in model.belongs_to if f"{name}_id" in kept.state}
    return shown | ({"display_attachments": urls} if urls else {})
