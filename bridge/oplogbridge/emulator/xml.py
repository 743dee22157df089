"""API v1 in XML. That it exists is documented, its elements are not: they are those that Ruby on Rails gives a hash.

<task><name>Paint</name><count type="integer">3</count><photo nil="true"/></task>
<tasks type="array"><task>…</task></tasks>
"""

from __future__ import annotations

import gzip
import re
from collections.abc import Iterator, Mapping
from typing import Any
from xml.sax.saxutils import escape, quoteattr

import orjson
from aiohttp import web

from oplogbridge.emulator.datamodel import plural_of

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # control characters cannot be written
DEPTH_MAX = 100  # of what is nested; below it stands JSON, in text


def in_xml_where_wanted(request: web.Request, response: web.StreamResponse) -> web.StreamResponse:
    """The answer of v1, when `.xml` or `Accept` asks for it."""
    path, accept = request.path, request.headers.get("Accept", "")
    wanted = path.endswith(".xml") or (not path.endswith(".json") and "application/xml" in accept)
    if not wanted or not path.startswith("/api/v1/") or response.content_type != "application/json":
        return response
    if not isinstance(response, web.Response) or not isinstance(response.body, bytes):
        return response
    body = gzip.decompress(response.body) if response.headers.get("Content-Encoding") == "gzip" else response.body
    name = request.match_info.get("model")
    if body[:1] == b"[":
        root, item = (plural_of(name), name) if name is not None else ("oplog", "entry")
    else:
        root, item = ("hash" if name is None or "count" in path else name), "item"
    return web.Response(status=response.status, body=xml_of(body, root, item), content_type="application/xml")


def xml_of(body: bytes, root: str, item: str) -> bytes:
    """What the JSON in `body` is in XML. `item` names the elements of an array at the top."""
    parts = _element(root, orjson.loads(body), item, 0)
    return b'<?xml version="1.0" encoding="UTF-8"?>\n' + "".join(parts).encode() + b"\n"


def _element(name: str, value: Any, item: str, depth: int) -> Iterator[str]:
    given = ""
    if _NAME.fullmatch(name) is None:
        name, given = "member", f" name={quoteattr(_shown(name))}"
    if value is None:
        yield f'<{name}{given} nil="true"/>'
    elif isinstance(value, bool):
        yield f'<{name}{given} type="boolean">{str(value).lower()}</{name}>'
    elif isinstance(value, int):
        yield f'<{name}{given} type="integer">{value}</{name}>'
    elif isinstance(value, float):
        yield f'<{name}{given} type="float">{value!r}</{name}>'
    elif isinstance(value, str) or depth >= DEPTH_MAX:
        text = value if isinstance(value, str) else orjson.dumps(value).decode()
        yield f"<{name}{given}>{escape(_shown(text))}</{name}>"
    elif isinstance(value, Mapping):
        yield f"<{name}{given}>"
        for key, one in value.items():
            yield from _element(key, one, "item", depth + 1)
        yield f"</{name}>"
    else:
        yield f'<{name}{given} type="array">'
        for one in value:
            yield from _element(item, one, "item", depth + 1)
        yield f"</{name}>"


def _shown(text: str) -> str:
    return _NOT_XML.sub("\ufffd", text)
