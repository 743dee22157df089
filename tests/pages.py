"""Bodies of pages, written as a source writes them."""

from __future__ import annotations

from typing import Any

import orjson

OBJECT = b'{"id":"7","type":"user","updated_at":"2015-02-05T08:15:17Z"}'


def entry(sequence: object, *, object_: bytes = OBJECT, operation: str = "update", **more: Any) -> bytes:
    """One entry; `sequence` a str makes a `sequence_id`, an int a `sequence`, bytes stand as they are."""
    if isinstance(sequence, bytes):
        number = b'"sequence":' + sequence
    elif isinstance(sequence, str):
        number = b'"sequence_id":"%b"' % sequence.encode()
    else:
        number = b'"sequence":' + orjson.dumps(sequence)
    added = b"".join(b',"%b":%b' % (name.encode(), orjson.dumps(value)) for name, value in more.items())
    return b'{%b,"operation":"%b","events":[],"object":%b%b}' % (number, operation.encode(), object_, added)


def page(*entries: bytes, **fields: Any) -> bytes:
    """`page(entry("1"), has_more=True)`: what is not given is not there."""
    rest = b"".join(b',"%b":%b' % (name.encode(), orjson.dumps(value)) for name, value in fields.items())
    return b'{"entries":[%b],"datamodel_hash":"d9cca7"%b}' % (b",".join(entries), rest)


def strings(*sequences: int, has_more: bool = False) -> bytes:
    """A page of the form that `sequence_ids=true` asks for."""
    shown = [entry(str(sequence)) for sequence in sequences]
    start = str(max(sequences) + 1 if sequences else 0)
    return page(*shown, has_more=has_more, next_request_start=start)


def numbers(*sequences: int) -> bytes:
    """A page of the older form: numbers, and no word on what follows."""
    return page(*(entry(sequence) for sequence in sequences))
