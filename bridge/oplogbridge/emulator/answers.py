"""The vendor's error answers: `{type,title,detail,see}`, except where its documentation shows plain text or nothing."""

from __future__ import annotations

import orjson
from aiohttp import web

_TITLES = {
    "INVALID_API_REQUEST": (400, "Invalid API request."),
    "ACCOUNT_NOT_FOUND": (404, "Account not found."),
    "ROUTE_ERROR": (404, "Route not found."),
    "INVALID_VALUE": (422, "Invalid value."),
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


def error(type_: str, detail: str) -> web.Response:
    status, title = _TITLES[type_]
    body = {"type": type_, "title": title, "detail": detail, "see": f"https://docs.journeyapps.com/api-errors#{type_}"}
    return web.Response(status=status, body=orjson.dumps(body), content_type="application/json")


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
