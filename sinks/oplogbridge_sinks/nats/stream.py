"""What the stream is, and what stands at its end: JetStream's API, as far as it is needed.

A position is the stream's last message, when it is ours. Retention takes messages away, the stream's last sequence
stays: then what was delivered is not to be seen any more, and only somebody who knew that sequence can tell that
nothing came after it (`OFFSET_UNKNOWN`, with the sequence as the proof).
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from oplogbridge.errors import Misconfigured
from oplogbridge.sink import SinkContext
from oplogbridge.values import OFFSET_UNKNOWN, Position
from oplogbridge_sinks.nats.failures import refusal
from oplogbridge_sinks.nats.settings import NatsSettings
from oplogbridge_sinks.nats.wire import Wire

BATCHES_SINCE = (2, 12, 1)  # 2.12.0 has them, but takes no `Nats-Msg-Id` in one
_NO_SUCH_STREAM, _NO_SUCH_MESSAGE = 10059, 10037


@dataclass(frozen=True, slots=True)
class Stream:
    name: str
    last_sequence: int  # of the stream, not of an entry
    takes_batches: bool
    message_bytes_max: int  # headers and payload
    subjects: tuple[str, ...]  # that it takes
    cautions: tuple[str, ...] = ()


async def opened(wire: Wire, name: str, subjects: str, settings: NatsSettings, destination: str) -> Stream:
    """The stream, made where that is allowed. Raises Misconfigured when it is not one for us."""
    answer = await _asked(wire, f"STREAM.INFO.{name}")
    if _code(answer) == _NO_SUCH_STREAM:
        if not settings.create:
            raise Misconfigured(f"{destination}: there is no stream {name}: make it, or say `create: true`")
        answer = await _asked(wire, f"STREAM.CREATE.{name}", _wanted(name, subjects, settings))
    _check(answer, destination)
    config = answer["config"]
    _check_config(config, destination)
    size = int(config.get("max_msg_size", -1))
    return Stream(
        name,
        int(answer["state"]["last_seq"]),
        bool(config.get("allow_atomic")) and wire.version >= BATCHES_SINCE,  # an older server says nothing, or echoes
        min(wire.message_bytes_max, size) if size > 0 else wire.message_bytes_max,
        tuple(config.get("subjects") or ()),
        tuple(_cautions(config)),
    )


async def last_sequence(wire: Wire, name: str, destination: str) -> int:
    answer = await _asked(wire, f"STREAM.INFO.{name}")
    _check(answer, destination)
    return int(answer["state"]["last_seq"])


async def position_at(wire: Wire, name: str, sequence: int, context: SinkContext, destination: str) -> Position | None:
    """What the stream's last message says.

    Raises:
        Misconfigured: The last message is not of this pipeline.
    """
    if sequence == 0:
        return None
    answer = await _asked(wire, f"STREAM.MSG.GET.{name}", {"seq": sequence})
    if _code(answer) == _NO_SUCH_MESSAGE:
        return Position(OFFSET_UNKNOWN, context.source_id, destination, str(sequence))
    _check(answer, destination)
    headers = _headers(answer["message"].get("hdrs", ""))
    owner, offset = headers.get("oplog-owner"), headers.get("oplog-offset", "")
    if not (offset.isascii() and offset.isdigit()):
        raise Misconfigured(
            f"{destination}: somebody else writes into stream {name}, its message {sequence} is not ours; stop them, "
            f"delete what they wrote (`nats stream rmm {name} {sequence}`) and decide with `oplog-bridge offsets set`, "
            "or give this pipeline another stream"
        )
    if owner != context.owner:
        raise Misconfigured(
            f"{destination}: stream {name} belongs to {owner}; give {context.owner} a stream of its own"
        )
    source, found = headers.get("oplog-source-id", ""), headers.get("oplog-destination", "")
    return Position(int(offset), source, found, str(sequence))


def _wanted(name: str, subjects: str, settings: NatsSettings) -> dict[str, Any]:
    return {
        "name": name,
        "subjects": [subjects],
        "retention": "limits",
        "storage": settings.storage,
        "num_replicas": settings.replicas,
        "max_age": int((settings.max_age or 0) * 1e9),
        "max_bytes": settings.max_bytes or -1,
        "max_msgs": settings.max_messages or -1,
        "discard": "old",
        "allow_atomic": True,
        "allow_direct": True,
    }


def _check_config(config: dict[str, Any], destination: str) -> None:
    name = config["name"]
    wrong = [
        what
        for what, is_so in {
            f"retention {config.get('retention')}, which removes what was read": config.get("retention") != "limits",
            "`no_ack`": bool(config.get("no_ack")),
            "`persist_mode` async, which acknowledges what it can lose": config.get("persist_mode") == "async",
            "a mirror, which takes no messages": bool(config.get("mirror")),
            "sources, which write into it": bool(config.get("sources")),
            # Where the last message of a subject expires, the server itself writes that into the stream.
            "`subject_delete_marker_ttl`, which writes into it": bool(config.get("subject_delete_marker_ttl")),
            "`sealed`": bool(config.get("sealed")),
        }.items()
        if is_so
    ]
    if wrong:
        raise Misconfigured(f"{destination}: stream {name} has {', '.join(wrong)}: give this pipeline another stream")


def _cautions(config: dict[str, Any]) -> Iterator[str]:
    name = config["name"]
    if not config.get("allow_atomic"):
        yield f"stream {name} has no `allow_atomic`: events are written one by one: set it, on a server from 2.12.1 on"
    if config.get("num_replicas", 1) == 1:
        yield f"stream {name} has one replica: what its server loses is gone: set 3 in a cluster"
    if config.get("storage") == "memory":
        yield f"stream {name} is in memory: a restart forgets it: use file storage"
    for limit in ("max_age", "max_msgs", "max_bytes", "max_msgs_per_subject"):
        if config.get(limit, 0) > 0:
            yield f"stream {name} has a {limit}: it removes events, read or not"


def _headers(encoded: str) -> dict[str, str]:
    lines = base64.b64decode(encoded).decode(errors="replace").split("\r\n")
    pairs = (line.partition(":") for line in lines[1:])
    return {name.strip().lower(): unquote(value.strip()) for name, _, value in pairs}


async def _asked(wire: Wire, what: str, question: dict[str, Any] | None = None) -> dict[str, Any]:
    body = b"" if question is None else json.dumps(question).encode()
    answer = await wire.ask(f"$JS.API.{what}", body)
    if answer.status is not None:
        return {"error": {"code": int(answer.status), "description": "nobody answers for JetStream"}}
    found: dict[str, Any] = json.loads(answer.body)
    return found


def _code(answer: dict[str, Any]) -> int:
    return int(answer.get("error", {}).get("err_code", 0))


def _check(answer: dict[str, Any], destination: str) -> None:
    if "error" in answer:
        raise refusal(answer["error"], destination)
