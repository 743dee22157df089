"""What JetStream answers, as values. Pure."""

from __future__ import annotations

import base64
from typing import Any, TypeVar
from urllib.parse import unquote

import msgspec

Shape = TypeVar("Shape")


class Garbled(ValueError):
    """No answer of a JetStream. Asking again may help."""


class Failed(msgspec.Struct, frozen=True):
    """Its `err_code` says what was wrong, its `code` what class of things (as HTTP has it)."""

    code: int = 0
    err_code: int = 0
    description: str = "an error without a description"


class Answer(msgspec.Struct, frozen=True):
    error: Failed | None = None


class Ack(Answer, frozen=True):
    """Of a message, or of a batch: its last message's sequence in the stream."""

    stream: str = ""
    seq: int = 0
    duplicate: bool = False


class State(msgspec.Struct, frozen=True):
    messages: int = 0
    first_seq: int = 0
    last_seq: int = 0


class StreamConfig(msgspec.Struct, frozen=True):
    """As far as it matters to a writer. Ages in nanoseconds; a limit of 0 or -1 is none."""

    name: str = ""
    subjects: tuple[str, ...] | None = None
    retention: str = ""
    storage: str = ""
    num_replicas: int = 1
    max_age: int = 0
    max_bytes: int = -1
    max_msgs: int = -1
    max_msgs_per_subject: int = -1
    max_msg_size: int = -1
    allow_atomic: bool = False
    allow_direct: bool = False
    no_ack: bool = False
    sealed: bool = False
    persist_mode: str = ""
    mirror: Any = None
    sources: Any = None
    subject_delete_marker_ttl: int = 0


class StreamInfo(Answer, frozen=True):
    config: StreamConfig = StreamConfig()
    state: State = State()


class Message(msgspec.Struct, frozen=True):
    seq: int = 0
    hdrs: str = ""  # base64
    data: str = ""  # base64


class MessageAnswer(Answer, frozen=True):
    message: Message = Message()


def decoded(body: bytes, shape: type[Shape]) -> Shape:
    """Raises Garbled."""
    try:
        return msgspec.json.decode(body, type=shape)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        shown = body[:100].decode(errors="replace")
        raise Garbled(f"an answer that is none of JetStream's ({shown!r}: {error})") from error


def headers(encoded: str) -> dict[str, str]:
    """By lower-case name, percent-decoded. Raises Garbled."""
    try:
        lines = base64.b64decode(encoded).decode(errors="replace").split("\r\n")
    except ValueError as error:
        raise Garbled(f"headers that are no base64 ({error})") from error
    pairs = (line.partition(":") for line in lines[1:])
    return {name.strip().lower(): unquote(value.strip()) for name, _, value in pairs}
