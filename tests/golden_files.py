"""What every format looks like, kept in `tests/golden/` and compared byte for byte: `make golden` writes them anew.

A consumer relies on these bytes. When a change of the code changes a file, that is a change for every consumer: say so
in CHANGELOG.md, and look at the difference before it is committed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from oplogbridge.codec.dead_letters import dead_letter_event
from oplogbridge.codec.encode import Codec
from oplogbridge.codec.fields import FieldPaths, FieldRules
from oplogbridge.codec.subjects import Filter
from oplogbridge.source.decode import PageDecoder
from oplogbridge.source.wire_v1 import read_v1
from oplogbridge.source.wire_v4 import read_v4
from oplogbridge.values import Event

FOLDER = Path(__file__).parent / "golden"
_SECRET = b"the secret of the golden files"
_RULES = FieldRules(FieldPaths(drop=("email", "address.street"), hash=("phone",)), _SECRET)
_FORMATS: dict[str, dict[str, Any]] = {
    "cloudevents": {"format": "cloudevents"},
    "cloudevents-binary-kafka": {"format": "cloudevents", "binary": "ce_"},
    "cloudevents-binary-http": {"format": "cloudevents", "binary": "ce-"},
    "raw": {"format": "raw"},
    "flat": {"format": "flat"},
    "debezium": {"format": "debezium"},
}
_READS: dict[str, Callable[..., Any]] = {"v4": read_v4, "v1": read_v1}


def files() -> dict[str, bytes]:
    """Name and content, made anew from the pages in the same folder."""
    made = {}
    for api, read in _READS.items():
        page = PageDecoder(keep_raw=True, read=read).decode((FOLDER / f"page-{api}.json").read_bytes(), 0)
        for name, options in _FORMATS.items():
            made[f"{name}.{api}.txt"] = _shown(
                Codec(source="my shop", filter=Filter("my shop"), **options).events(page)
            )
        for name in ("cloudevents", "raw"):
            codec = Codec(source="my shop", filter=Filter("my shop"), fields={"user": _RULES}, **_FORMATS[name])
            made[f"{name}-with-fields.{api}.txt"] = _shown(codec.events(page))
    made["dead-letter.txt"] = _shown(
        [
            dead_letter_event(
                source="my shop", pipeline="out", sequence=42, key=key, rejected=b'{"n":1.0}', reason="too large"
            )
            for key in (b"user/7", None)
        ]
    )
    return made


def _shown(events: list[Event]) -> bytes:
    """As HTTP shows a message: the key and the headers, an empty line, the payload."""
    return b"\n".join(line for event in events for line in _lines(event))


def _lines(event: Event) -> Iterator[bytes]:
    yield b"key: " + event.key
    for name, value in event.headers:
        yield name.encode() + b": " + value
    yield b""
    yield event.payload
    yield b""


if __name__ == "__main__":
    for name, content in files().items():
        (FOLDER / name).write_bytes(content)
