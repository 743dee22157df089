"""The vendor's error answers: `{type,title,detail,see}`, except where its documentation shows plain text or nothing."""

from __future__ import annotations

import orjson
from aiohttp import web

from oplogbridge.emulator.objects import NotThere
from oplogbridge.emulator.page import BadParameter
from oplogbridge.emulator.representation import InvalidValue

_TITLES = {
    "INVALID_API_REQUEST": (400, "Invalid API request."),
    "OBJECT_NOT_FOUND": (404, "Object not found."),
    "ACCOUNT_NOT_FOUND": (404, "Account not found."),
    "ROUTE_ERROR": (404, "Route not found."),
    "INVALID_VALUE": (422, "Invalid value specified."),
    "TOO_MANY_REQUESTS": (429, "Too many requests."),
    "INTERNAL_SERVER_ERROR": (500, "Oops! Something went wrong."),
}
_TYPE_BY_STATUS = {
    400: ("INVALID_API_REQUEST", "The request is not valid."),
    404: ("ACCOUNT_NOT_FOUND", "No account was found for this request."),
    422: ("INVALID_VALUE", "A value is not valid."),
    429: ("TOO_MANY_REQUESTS", "The rate limit has been exceeded. Wait at least 1 second."),
    500: ("INTERNAL_SERVER_ERROR", "An internal server error has occurred."),
}


_TYPES: dict[type[Exception], str] = {
    NotThere: "OBJECT_NOT_FOUND",
    InvalidValue: "INVALID_VALUE",
    BadParameter: "INVALID_API_REQUEST",
}


class ApiError(Exception):
    """An answer in the vendor's shape."""

    def __init__(self, type_: str, detail: str) -> None:
        super().__init__(detail)
        self.type = type_


ERRORS = (ApiError, NotThere, InvalidValue, BadParameter)


def type_of(error: Exception) -> str:
    return error.type if isinstance(error, ApiError) else _TYPES[type(error)]


def described(type_: str, detail: str) -> dict[str, str]:
    see = f"https://docs.journeyapps.com/api-errors#{type_}"
    return {"type": type_, "title": _TITLES[type_][1], "detail": detail, "see": see}


def error(type_: str, detail: str) -> web.Response:
    body = orjson.dumps(described(type_, detail))
    return web.Response(status=_TITLES[type_][0], body=body, content_type="application/json")


def unstructured(type_: str) -> web.Response:
    """v1: the status says it all."""
    return web.Response(status=_TITLES[type_][0])


def access_denied() -> web.Response:
    return web.Response(
        status=401,
        text="HTTP Basic: Access denied.\n",
        headers={"WWW-Authenticate": 'Basic realm="Application"'},
    )


def html(status: int, title: str) -> web.Response:
    head = f"<head><title>{title}</title></head>"
    text = f"<html>\r\n{head}\r\n<body><center><h1>{title}</h1></center></body>\r\n</html>\r\n"
    return web.Response(status=status, text=text, content_type="text/html")


def usual(status: int) -> web.Response:
    """What a status looks like when it comes from the vendor (4xx, 500) or from the proxy before it (502, 503, 504)."""
    if status == 401:
        return access_denied()
    if status in _TYPE_BY_STATUS:
        return error(*_TYPE_BY_STATUS[status])
    if status in (502, 503):
        return html(status, {502: "502 Bad Gateway", 503: "503 Service Temporarily Unavailable"}[status])
    return web.Response(status=status)
