"""What the stream is, and what stands at its end: JetStream's API, as far as it is needed.

A position is the stream's last message, when it is ours. Retention takes messages away, the stream's last sequence
stays: then what was delivered is not to be seen any more, and only somebody who knew that sequence can tell that
nothing came after it (`OFFSET_UNKNOWN`, with the sequence as the proof).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

from oplogbridge.errors import Misconfigured
from oplogbridge.sink import SinkContext
from oplogbridge.templates import Template, token
from oplogbridge.values import OFFSET_UNKNOWN, Position, offset_of
from oplogbridge_sinks.nats.answers import (
    Answer,
    Failed,
    Message,
    MessageAnswer,
    StreamConfig,
    StreamInfo,
    decoded,
    headers,
)
from oplogbridge_sinks.nats.failures import refusal
from oplogbridge_sinks.nats.settings import NatsSettings
from oplogbridge_sinks.nats.wire import Wire

BATCHES_SINCE = (2, 12, 1)  # 2.12.0 has them, but takes no `Nats-Msg-Id` in one
_NO_SUCH_STREAM, _NO_SUCH_MESSAGE = 10059, 10037
_Shape = TypeVar("_Shape", bound=Answer)


@dataclass(frozen=True, slots=True)
class Stream:
    name: str
    last_sequence: int  # of the stream, not of an entry
    takes_batches: bool
    message_bytes_max: int  # headers and payload
    subjects: tuple[str, ...]  # that it takes
    cautions: tuple[str, ...] = ()


def stream_name(settings: NatsSettings, context: SinkContext) -> str:
    constants = {"source": context.source, "pipeline": context.pipeline}
    return Template(settings.stream, constants=constants, escape=_stream_word).constant or ""


def _stream_word(value: str) -> str:
    return token(value).replace("\\", "%5C")


async def opened(wire: Wire, name: str, subjects: str, settings: NatsSettings, destination: str) -> Stream:
    """The stream, made where that is allowed. Raises Misconfigured when it is not one for us."""
    answer = await _asked(wire, f"STREAM.INFO.{name}", StreamInfo)
    if _code(answer) == _NO_SUCH_STREAM:
        if not settings.create:
            raise Misconfigured(f"{destination}: there is no stream {name}: make it, or say `create: true`")
        answer = await _asked(wire, f"STREAM.CREATE.{name}", StreamInfo, _wanted(name, subjects, settings))
    _check(answer, destination)
    config, size = answer.config, answer.config.max_msg_size
    _check_config(config, destination)
    return Stream(
        name,
        answer.state.last_seq,
        config.allow_atomic and wire.version >= BATCHES_SINCE,  # an older server says nothing, or echoes
        min(wire.message_bytes_max, size) if size > 0 else wire.message_bytes_max,
        config.subjects or (),
        tuple(_cautions(config)),
    )


async def info(wire: Wire, name: str, destination: str) -> StreamInfo | None:
    """None where there is no such stream."""
    answer = await _asked(wire, f"STREAM.INFO.{name}", StreamInfo)
    if _code(answer) == _NO_SUCH_STREAM:
        return None
    _check(answer, destination)
    return answer


async def next_message(wire: Wire, name: str, sequence: int, destination: str) -> Message | None:
    """The first one from `sequence` on, as the stream's leader has it; None where there is none."""
    question = {"seq": sequence, "next_by_subj": ">"}
    answer = await _asked(wire, f"STREAM.MSG.GET.{name}", MessageAnswer, question)
    if _code(answer) == _NO_SUCH_MESSAGE:
        return None
    _check(answer, destination)
    return answer.message


async def last_sequence(wire: Wire, name: str, destination: str) -> int:
    answer = await _asked(wire, f"STREAM.INFO.{name}", StreamInfo)
    _check(answer, destination)
    return answer.state.last_seq


async def position_at(wire: Wire, name: str, sequence: int, context: SinkContext, destination: str) -> Position | None:
    """What the stream's last message says.

    Raises:
        Misconfigured: The last message is not of this pipeline.
    """
    if sequence == 0:
        return None
    answer = await _asked(wire, f"STREAM.MSG.GET.{name}", MessageAnswer, {"seq": sequence})
    if _code(answer) == _NO_SUCH_MESSAGE:
        return Position(OFFSET_UNKNOWN, context.source_id, destination, str(sequence))
    _check(answer, destination)
    found = headers(answer.message.hdrs)
    owner, offset = found.get("oplog-owner"), offset_of(found.get("oplog-offset"))
    if offset is None:
        raise Misconfigured(
            f"{destination}: somebody else writes into stream {name}, its message {sequence} is not ours; stop them, "
            f"delete what they wrote (`nats stream rmm {name} {sequence}`) and decide with `oplog-bridge offsets set`, "
            "or give this pipeline another stream"
        )
    if owner != context.owner:
        raise Misconfigured(
            f"{destination}: stream {name} belongs to {owner}; give {context.owner} a stream of its own"
        )
    source, its_destination = found.get("oplog-source-id", ""), found.get("oplog-destination", "")
    return Position(offset, source, its_destination, str(sequence))


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


def _check_config(config: StreamConfig, destination: str) -> None:
    wrong = [
        what
        for what, is_so in {
            f"retention {config.retention}, which removes what was read": config.retention != "limits",
            "`no_ack`": config.no_ack,
            "`persist_mode` async, which acknowledges what it can lose": config.persist_mode == "async",
            "a mirror, which takes no messages": bool(config.mirror),
            "sources, which write into it": bool(config.sources),
            # Where the last message of a subject expires, the server itself writes that into the stream.
            "`subject_delete_marker_ttl`, which writes into it": config.subject_delete_marker_ttl > 0,
            "`sealed`": config.sealed,
        }.items()
        if is_so
    ]
    if wrong:
        raise Misconfigured(
            f"{destination}: stream {config.name} has {', '.join(wrong)}: give this pipeline another stream"
        )


def _cautions(config: StreamConfig) -> Iterator[str]:
    name = config.name
    if not config.allow_atomic:
        yield f"stream {name} has no `allow_atomic`: events are written one by one: set it, on a server from 2.12.1 on"
    if config.num_replicas == 1:
        yield f"stream {name} has one replica: what its server loses is gone: set 3 in a cluster"
    if config.storage == "memory":
        yield f"stream {name} is in memory: a restart forgets it: use file storage"
    for limit in ("max_age", "max_msgs", "max_bytes", "max_msgs_per_subject"):
        if getattr(config, limit) > 0:
            yield f"stream {name} has a {limit}: it removes events, read or not"


async def _asked(wire: Wire, what: str, shape: type[_Shape], question: dict[str, Any] | None = None) -> _Shape:
    """Raises Garbled."""
    body = b"" if question is None else json.dumps(question).encode()
    answer = await wire.ask(f"$JS.API.{what}", body)
    if answer.status is not None:
        return shape(Failed(code=int(answer.status), description="nobody answers for JetStream"))
    return decoded(answer.body, shape)


def _code(answer: Answer) -> int:
    return 0 if answer.error is None else answer.error.err_code


def _check(answer: Answer, destination: str) -> None:
    if answer.error is not None:
        raise refusal(answer.error, destination)
