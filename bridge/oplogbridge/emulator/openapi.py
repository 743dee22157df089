"""The OpenAPI document of what the emulator serves of v4, made from its data model: `/openapi.json`."""

from __future__ import annotations

from typing import Any

from oplogbridge.emulator.attachments import FILENAME_SHAPE
from oplogbridge.emulator.datamodel import ATTACHMENT_TYPES, DataModel, Field, Model
from oplogbridge.emulator.representation import LOCATION_KEYS

_UUID = "^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$"
_FILENAME = f"^(?:{FILENAME_SHAPE.pattern})$"
_TEXT = {"type": "string"}
_NUMBER = {"type": ["number", "null"]}
_WHOLE = {"type": "integer", "minimum": 0}
_ERROR = {
    "type": "object",
    "required": ["type", "title", "detail", "see"],
    "properties": dict.fromkeys(("type", "title", "detail", "see"), _TEXT),
}
_ERRORS = {
    "400": "INVALID_API_REQUEST",
    "404": "OBJECT_NOT_FOUND, ROUTE_ERROR, ACCOUNT_NOT_FOUND",
    "422": "INVALID_VALUE",
}
_BATCHED = {
    "type": "object",
    "required": ["method", "object", "success"],
    "properties": {"method": _TEXT, "object": {"type": "object"}, "success": {"type": "boolean"}, "error": _ERROR},
}


def document(datamodel: DataModel, deployment: str, root: str, create_status: int) -> dict[str, Any]:
    base = f"/api/v4/{deployment}"
    paths: dict[str, Any] = {
        f"{base}/oplog.json": {"get": _operation("The oplog", _page(), _oplog_parameters(), errors=("400",))},
        f"{base}/datamodel.json": {"get": _operation("The data model", _object("models", "datamodel_hash"))},
        f"{base}/info.json": {"get": _operation("The deployment", _object("label", "app_id"))},
        f"{base}/indexes.json": {"get": _operation("The database's indexes", _object("models"))},
        f"{base}/batch.json": {
            "post": _operation("Many writes at once", _batch(), body=_batch_body(), errors=("400",))
        },
    }
    for model in datamodel.models.values():
        paths |= _paths(f"{base}/objects/{model.name}", model, str(create_status))
    return {
        "openapi": "3.1.0",
        "info": {"title": "JourneyApps backend API v4, emulated", "version": datamodel.hash},
        "servers": [{"url": root}],
        "security": [{"basic": []}, {"bearer": []}],
        "paths": paths,
        "components": {
            "securitySchemes": {
                "basic": {"type": "http", "scheme": "basic"},
                "bearer": {"type": "http", "scheme": "bearer"},
            },
            "schemas": {model.name: _shown(model) for model in datamodel.models.values()},
        },
    }


def _paths(path: str, model: Model, create_status: str) -> dict[str, Any]:
    shown = {"$ref": f"#/components/schemas/{model.name}"}
    listed = {
        "type": "object",
        "required": ["objects", "count", "total", "more"],
        "properties": {
            "objects": {"type": "array", "items": shown},
            "count": _WHOLE,
            "total": _WHOLE,
            "more": {"type": "boolean"},
        },
    }
    body = {"type": "object", "required": [model.name], "properties": {model.name: _given(model)}}
    id_ = {"name": "id", "in": "path", "required": True, "schema": {"type": "string", "pattern": _UUID}}
    query = [_query("limit", _WHOLE), _query("skip", _WHOLE)]
    expression = {
        "type": "object",
        "properties": {
            "expression": {"type": ["string", "null"]},
            "arguments": {"type": "array"},
            "limit": {"type": ["integer", "null"]},
            "skip": {"type": ["integer", "null"]},
            "sort": {"type": "array", "items": _TEXT},
        },
    }
    every = ("400", "404", "422")
    return {
        f"{path}.json": {
            "get": _operation(f"List {model.plural}", listed, query, errors=("400",)),
            "post": _operation(f"Create a {model.name}", shown, body=body, errors=("400", "422"), status=create_status),
        },
        f"{path}/count.json": {"get": _operation("Count", _object("count"), errors=("400",))},
        f"{path}/query.json": {"post": _operation("Query", listed, body=expression, errors=("400",))},
        f"{path}/{{id}}.json": {
            "get": _operation(f"Read a {model.name}", shown, [id_], errors=every),
            "patch": _operation("Change some fields", shown, [id_], body=body, errors=every),
            "put": _operation("Replace, or create", shown, [id_], body=body, errors=every),
            "delete": _operation("Delete", {"type": "object"}, [id_], errors=every),
        },
    }


def _operation(
    summary: str,
    schema: dict[str, Any],
    parameters: list[dict[str, Any]] | None = None,
    *,
    body: dict[str, Any] | None = None,
    errors: tuple[str, ...] = (),
    status: str = "200",
) -> dict[str, Any]:
    responses = {status: _answer("done", schema)} | {one: _answer(_ERRORS[one], _ERROR) for one in errors}
    responses["401"] = {"description": "AUTHENTICATION_FAILED", "content": {"text/plain": {"schema": _TEXT}}}
    responses["429"] = _answer("TOO_MANY_REQUESTS", _ERROR)
    operation: dict[str, Any] = {"summary": summary, "parameters": parameters or [], "responses": responses}
    if body is not None:
        operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": body}}}
    return operation


def _answer(description: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def _object(*required: str) -> dict[str, Any]:
    return {"type": "object", "required": [*required]}


def _query(name: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "in": "query", "required": False, "schema": schema}


def _oplog_parameters() -> list[dict[str, Any]]:
    flag = {"type": "boolean"}
    numbers = [_query(name, _WHOLE) for name in ("start", "end")]
    return [
        *numbers,
        _query("limit", {"type": "integer", "minimum": 1}),
        _query("tail", flag),
        _query("sequence_ids", flag),
    ]


def _page() -> dict[str, Any]:
    entry = {
        "type": "object",
        "required": ["operation", "events", "object"],
        "properties": {
            "sequence": {"type": "integer", "exclusiveMinimum": 0},
            "sequence_id": {"type": "string", "pattern": "^[0-9]+$"},
            "operation": {"enum": ["create", "update", "delete"]},
            "events": {"type": "array"},
            "object": {"type": "object", "required": ["id", "type"]},
        },
    }
    return {
        "type": "object",
        "required": ["entries", "datamodel_hash"],
        "properties": {
            "entries": {"type": "array", "items": entry},
            "datamodel_hash": _TEXT,
            "has_more": {"type": "boolean"},
            "next_request_start": {"type": "string", "pattern": "^[0-9]+$"},
        },
    }


def _batch_body() -> dict[str, Any]:
    def operation(methods: list[str], *required: str) -> dict[str, Any]:
        named = {"type": "object", "required": [*required], "properties": {"type": _TEXT, "id": _TEXT}}
        properties = {"method": {"enum": methods}, "object": named}
        return {"type": "object", "required": ["method", "object"], "properties": properties}

    one = {"anyOf": [operation(["post"], "type"), operation(["put", "patch", "delete"], "type", "id")]}
    operations = {"type": "array", "maxItems": 1000, "items": one}
    properties = {"operations": operations, "stop_on_error": {"type": "boolean"}}
    return {"type": "object", "required": ["operations"], "properties": properties}


def _batch() -> dict[str, Any]:
    properties = {"operations": {"type": "array", "items": _BATCHED}, "stop_on_error": {"type": "boolean"}}
    return {"type": "object", "required": ["operations", "stop_on_error"], "properties": properties}


def _shown(model: Model) -> dict[str, Any]:
    properties: dict[str, Any] = {
        "id": {"type": "string", "pattern": _UUID},
        "type": {"const": model.name},
        "updated_at": {"type": "string", "format": "date-time"},
        "display": {"type": ["string", "null"]},
    }
    for name, field in model.fields.items():
        properties[name] = {"anyOf": [_shown_value(field), {"type": "null"}]}
    for relation in model.belongs_to:
        properties[f"{relation}_id"] = {"type": ["string", "null"]}
    return {"type": "object", "required": ["id", "type", "updated_at", "display"], "properties": properties}


def _shown_value(field: Field) -> dict[str, Any]:
    option = {"type": "object", "required": ["key", "display"]}
    if field.type in ATTACHMENT_TYPES:
        return {"type": "object", "required": ["id", "state"]}
    if field.type.startswith("multiple-choice"):
        return {"type": "array", "items": option}
    return option if field.options is not None else _plain(field)


def _given(model: Model) -> dict[str, Any]:
    properties: dict[str, Any] = {}
    for name, field in model.fields.items():
        if field.type in ATTACHMENT_TYPES:
            kinds: dict[str, Any] = {"type": "object", "required": ["base64"]}
            kinds["properties"] = {"base64": _TEXT, "filename": {"type": "string", "pattern": _FILENAME}}
        elif field.options is not None:
            kinds = {"enum": [option.key for option in field.options]}
            kinds = {"type": "array", "items": kinds} if field.type.startswith("multiple") else kinds
        else:
            kinds = _plain(field)
        properties[name] = {"anyOf": [kinds, {"type": "null"}]}
    for relation in model.belongs_to:
        properties[f"{relation}_id"] = {"type": ["string", "null"], "pattern": _UUID}
    return {"type": "object", "properties": properties}


def _plain(field: Field) -> dict[str, Any]:
    match field.type:
        case "integer":
            return {"type": "integer"}
        case "number":
            return {"type": "number"}
        case "date":
            return {"type": "string", "format": "date"}
        case "datetime":
            return {"type": "string", "format": "date-time"}
        case "location":
            numbers: dict[str, Any] = dict.fromkeys(LOCATION_KEYS[2:5], _NUMBER)
            ends = {"latitude": {"type": "number", "minimum": -90, "maximum": 90}}
            ends["longitude"] = {"type": "number", "minimum": -180, "maximum": 180}
            properties = {**ends, **numbers, "timestamp": {"type": ["string", "null"]}}
            return {"type": "object", "required": ["latitude", "longitude"], "properties": properties}
        case "text":
            return _TEXT
    return {}
