"""Each target takes bytes. What its parser is documented to raise is caught here; anything else is a bug.

Where an input is taken, an independent reading of it must agree: nothing is swallowed, nothing is made up.
"""

from __future__ import annotations

import base64
import contextlib
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import msgspec

from oplogbridge.backoff import RETRY_AFTER_SECONDS_MAX, retry_after_seconds
from oplogbridge.codec.encode import Codec
from oplogbridge.codec.subjects import Filter
from oplogbridge.config.load import from_data
from oplogbridge.config.starts import parse_start
from oplogbridge.config.yaml_reader import YamlMistake, read_yaml
from oplogbridge.durations import bytes_of, seconds_of
from oplogbridge.emulator.control import _faults
from oplogbridge.errors import BridgeError, ConfigError, Misconfigured, Rejected
from oplogbridge.redis_nodes.address import redis_address
from oplogbridge.sink import SinkContext
from oplogbridge.source.decode import PageDecoder, PageUnreadable
from oplogbridge.source.start import unix_seconds
from oplogbridge.source.wire_v1 import read_v1
from oplogbridge.source.wire_v4 import read_v4
from oplogbridge.state import Stored
from oplogbridge.state.exchange import read_exported
from oplogbridge.values import OFFSET_MAX, SEQUENCE_MAX, Page
from oplogbridge_sinks.file.sidecar import Sidecar
from oplogbridge_sinks.kafka.checkpoint import decode as decode_checkpoint
from oplogbridge_sinks.nats.answers import Garbled
from oplogbridge_sinks.nats.stream import position_at

Check = Callable[[bytes], None]
CORPUS = Path(__file__).parent / "corpus"
sys.set_int_max_str_digits(0)  # the other reading is to see what ours sees
FORMATS = ("cloudevents", "raw", "flat", "debezium")


@dataclass(frozen=True)
class Target:
    name: str
    check: Check
    seeds: tuple[bytes, ...]

    def corpus(self) -> list[bytes]:
        """The seeds, and what was kept."""
        folder = CORPUS / self.name
        return [*self.seeds, *(file.read_bytes() for file in sorted(folder.glob("*")))]


# Pages ----------------------------------------------------------------------------------------------------------------


def _page(read: Any, entries_of: Callable[[Any], Any], names: tuple[str, ...]) -> Check:
    """`names` are the members that may hold an entry's sequence, the first one there counts."""

    codecs = [Codec(source="shop", filter=Filter("shop"), format=cast("Any", format_)) for format_ in FORMATS]

    def check(body: bytes) -> None:
        try:
            page = PageDecoder(keep_raw=True, rounded_allowed=True, read=read).decode(body, 1)
        except (PageUnreadable, Misconfigured):
            return
        shown = entries_of(json.loads(body, strict=False))
        assert page.dropped + len(page.entries) + len(page.malformed) <= len(shown)
        _in_order(page)
        _nothing_swallowed(page, shown, names)
        for codec in codecs:
            with contextlib.suppress(Rejected, Misconfigured):
                for event in codec.events(page):
                    json.loads(event.payload, strict=False)
                    assert b"\n" not in event.key

    return check


def _in_order(page: Page) -> None:
    sequences = [entry.sequence for entry in page.entries]
    assert sequences == sorted(set(sequences))
    assert all(1 <= sequence <= SEQUENCE_MAX for sequence in sequences)
    assert page.next_offset > max(sequences, default=0)


def _nothing_swallowed(page: Page, shown: list[Any], names: tuple[str, ...]) -> None:
    """What another JSON parser sees with a usable sequence is in the page."""
    known = {entry.sequence for entry in page.entries} | {one.sequence for one in page.malformed}
    for entry in shown:
        found = [entry[name] for name in names if name in entry] if isinstance(entry, dict) else []
        sequence = found[0] if found else None
        if isinstance(sequence, str) and sequence.isascii() and sequence.isdigit() and len(sequence) < 20:
            sequence = int(sequence)
        if isinstance(sequence, int) and not isinstance(sequence, bool) and 1 <= sequence <= SEQUENCE_MAX:
            assert sequence in known, f"{sequence} is nowhere"


# What stands in stores and destinations -----------------------------------------------------------------------------


def _stored(data: bytes) -> None:
    with contextlib.suppress(Misconfigured):
        stored = Stored.from_text(data.decode(errors="replace"))
        assert 0 <= stored.offset <= OFFSET_MAX
        assert Stored.from_text(stored.to_text()) == stored


def _exported(data: bytes) -> None:
    with contextlib.suppress(ConfigError):
        read_exported(data.decode(errors="replace").splitlines(), "offsets.jsonl")


def _checkpoint(data: bytes) -> None:
    with contextlib.suppress(Misconfigured):
        assert 0 <= decode_checkpoint(data, "t").offset <= OFFSET_MAX


def _sidecar(data: bytes) -> None:
    with contextlib.suppress(Misconfigured, ValueError, KeyError, TypeError, RecursionError):  # as its caller
        Sidecar.decode(data)


class _Stream:
    """A JetStream that answers this to whatever is asked."""

    def __init__(self, answer: bytes) -> None:
        self._answer = answer

    async def ask(self, subject: str, body: bytes = b"") -> Any:
        return SimpleNamespace(status=None, body=self._answer)


def _nats_headers(data: bytes) -> None:
    message = {"message": {"hdrs": base64.b64encode(data).decode()}}
    _nats(json.dumps(message).encode())


def _nats(data: bytes) -> None:
    context = SinkContext("bridge.orders", "orders", "shop", "shop-1")
    with contextlib.suppress(BridgeError, Garbled):
        asking = position_at(cast("Any", _Stream(data)), "S", 7, context, "nats:S")
        position = _done(asking)
        assert position is None or position.offset <= OFFSET_MAX


def _done(asking: Any) -> Any:
    """Of a coroutine that waits for nothing."""
    try:
        asking.send(None)
    except StopIteration as done:
        return done.value
    raise AssertionError("it waits")


# Configuration, and what people type --------------------------------------------------------------------------------


def _config(data: bytes) -> None:
    try:
        found, _ = read_yaml(data.decode(errors="replace"))
    except (YamlMistake, ValueError):
        return
    if isinstance(found, dict):
        with contextlib.suppress(ConfigError):
            from_data(found, {"OPLOG_PASSWORD": "hunter2"})


def _text(data: bytes) -> None:
    """Durations, starts, addresses of Redis, subject filters: one line of text each."""
    text = data.decode(errors="replace")
    for parse in (seconds_of, bytes_of, parse_start, redis_address):
        with contextlib.suppress(ValueError):
            cast("Any", parse)(text)
    unix_seconds(text)


def _retry(data: bytes) -> None:
    seconds = retry_after_seconds(data.decode("latin-1"), now_unix_seconds=1.8e9)
    assert seconds is None or 0.0 <= seconds <= RETRY_AFTER_SECONDS_MAX


def _emulator_faults(data: bytes) -> None:
    with contextlib.suppress(msgspec.DecodeError, msgspec.ValidationError, ValueError):
        _faults.decode(data)


V4 = (
    b'{"entries":[{"sequence_id":"6112271540663877633","operation":"update","events":[],"object":{"id":"7","type":'
    b'"user","updated_at":"2015-02-05T08:15:17Z","name":"caf\\u00e9"}},{"sequence_id":"6112271540663877634","operation":'
    b'"delete","events":[1],"object":{"id":"8","type":"a b","x":null}}],"has_more":true,"next_request_start":"9",'
    b'"datamodel_hash":"d9cca7"}'
)
V4_NUMBERS = (
    b'{"entries":[{"sequence":6112271540663877633,"operation":"create","object":{"type":"user","id":"7"}},'
    b'{"sequence":6112271540663877634,"operation":"odd","more":{"a":[1.5e3,-0]},"object":{"id":7,"type":"u"}}]}'
)
V1 = (
    b'[{"sequence":6112271540663877633,"operation":"update","type":"user","id":"7","timestamp":"2015-02-05T08:15:17Z",'
    b'"data":{"name":"x"}},{"sequence":"6112271540663877634","operation":"delete","type":"user","id":"7","more":[{}]}]'
)
CONFIG = b"""state: sqlite:///state.db
sources:
  shop:
    url: https://run.example.com/api/v4/533bda53027894f69b001055
    auth: {username: a, password: "${OPLOG_PASSWORD}"}
    poll_interval: 1s
defaults: {format: cloudevents}
pipelines:
  k: {source: shop, types: [user], sink: {kind: kafka, bootstrap_servers: "b:9092", topic: "oplog.{source}"}}
  r: {source: shop, start: latest, sink: {kind: redis, url: "redis://h/0", stream: s}, fields: {user: {drop: [name]}}}
  f: {source: shop, sink: {kind: file, path: out.jsonl}, on_rejected: dead_letter, dead_letter: {kind: file, path: d}}
"""
STORED = b'{"v":1,"offset":"7","mark":{"offset":"7","proof":"x"},"source":"shop-1","destination":"kafka:t"}'

TARGETS: dict[str, Target] = {
    target.name: target
    for target in (
        Target(
            "page-v4",
            _page(read_v4, lambda page: page["entries"], ("sequence_id", "sequence")),
            (V4, V4_NUMBERS, b'{"entries":[]}'),
        ),
        Target("page-v1", _page(read_v1, lambda page: page, ("sequence",)), (V1, b"[]")),
        Target("config", _config, (CONFIG,)),
        Target("stored", _stored, (STORED,)),
        Target("exported", _exported, (b'{"pipeline":"k","stored":' + STORED + b"}\n",)),
        Target(
            "checkpoint",
            _checkpoint,
            (b'{"v":1,"offset":"7","source":"s","destination":"kafka:t","topics":{"t":{"id":"x","partitions":3}}}',),
        ),
        Target(
            "sidecar",
            _sidecar,
            (b'{"v":1,"offset":"7","length":"90","tail":"1","owner":"bridge.orders","source":"s","destination":"d"}',),
        ),
        Target(
            "nats-headers",
            _nats_headers,
            (b"NATS/1.0\r\nOplog-Offset: 8\r\nOplog-Owner: bridge.orders\r\nOplog-Source-Id: shop-1\r\n\r\n",),
        ),
        Target("nats-answer", _nats, (b'{"message":{"hdrs":"TkFUUy8xLjANCg==","seq":7}}', b'{"error":{"code":404}}')),
        Target(
            "text",
            _text,
            (b"1h30m", b"latest", b"2026-01-05T06:00:00Z", b"redis+sentinel://u:p@a:1,b/m/2?ssl_ca_certs=/c"),
        ),
        Target("retry-after", _retry, (b"7", b"Wed, 21 Oct 2026 07:28:00 GMT")),
        Target("emulator-faults", _emulator_faults, (b'[{"kind":"503","after":10,"count":null,"seconds":0.5}]',)),
    )
}
