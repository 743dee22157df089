"""Reads the stream back, beside whoever writes it: by JetStream's direct reads, a page a request; where the stream or
the server has none, message by message. No consumer is made."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from urllib.parse import unquote, unquote_to_bytes

from nats.aio.msg import Msg

from oplogbridge.errors import Unavailable
from oplogbridge.sink import Delivered, Lane, SinkContext
from oplogbridge.templates import header_value
from oplogbridge.values import OFFSET_MAX, Event, Headers, offset_of
from oplogbridge_sinks.nats import stream as streams
from oplogbridge_sinks.nats.answers import Garbled, StreamInfo
from oplogbridge_sinks.nats.failures import ERRORS, translate
from oplogbridge_sinks.nats.settings import NatsSettings
from oplogbridge_sinks.nats.stream import stream_name
from oplogbridge_sinks.nats.wire import NO_RESPONDERS, Wire

PAGE_MESSAGES_MAX, PAGE_BYTES = 1_000, 4 << 20
ONE_BY_ONE_PAGE = 100
BATCHED_READS_SINCE = (2, 11, 0)
_Page = list[tuple[int, Mapping[str, str], bytes]]  # the stream's sequences, headers by lower-case name, payloads


class NatsReader:
    def __init__(self, settings: NatsSettings, context: SinkContext) -> None:
        self._settings = settings
        self._name = stream_name(settings, context)
        self._destination = f"nats:{self._name}"
        self._owner = context.owner
        self._id_prefix = header_value(context.source) + "-"
        self._wire: Wire | None = None
        self._first, self._last = 1, 0  # of the stream when it was opened
        self._direct = False

    async def open(self) -> Sequence[Lane]:
        await self.close()
        wire = self._wire = Wire(self._settings, client_name=f"{self._owner}.reader")
        try:
            await wire.connect()
            info = await streams.info(wire, self._name, self._destination)
        except ERRORS as error:
            raise translate(error, self._destination, self._settings.secrets()) from error
        if info is None:
            return []
        self._last = info.state.last_seq
        self._direct = info.config.allow_direct and wire.version >= BATCHED_READS_SINCE
        return [await self._lane(info)]

    async def _lane(self, info: StreamInfo) -> Lane:
        self._first = max(1, info.state.first_seq)
        thinned = "max_msgs_per_subject" if info.config.max_msgs_per_subject > 0 else ""
        lane = Lane(self._name, None, f"stream {self._name} has a {thinned}" if thinned else "")
        if self._first > 1:
            lane = Lane(lane.name, await self._first_kept(lane), lane.thinned)
        return lane

    async def pages(self, lane: Lane, from_sequence: int, to_sequence: int) -> AsyncIterator[Sequence[Delivered]]:
        at = self._first
        while at <= self._last:
            page = await self._page(at) if self._direct else []
            if not page:  # or the replica that answered is behind: the leader knows
                page = await self._page_from_the_leader(at)
            if not page:
                return
            at = page[-1][0] + 1
            found = [self._delivered(*one) for one in page if one[0] <= self._last]
            wanted = [one for one in found if one.sequence is None or from_sequence <= one.sequence < to_sequence]
            if wanted:
                yield wanted

    async def kept(self) -> Sequence[Lane]:
        try:
            info = await streams.info(self._opened(), self._name, self._destination)
        except ERRORS as error:
            raise translate(error, self._destination, self._settings.secrets()) from error
        return [] if info is None else [await self._lane(info)]

    def lane_of(self, _event: Event) -> str:
        return self._name

    def shown(self, event: Event) -> bytes:
        return event.payload

    async def close(self) -> None:
        wire, self._wire = self._wire, None
        if wire is not None:
            await wire.close()

    async def _first_kept(self, lane: Lane) -> int:
        """Of what is left; where nothing is, all of it is trimmed."""
        async for page in self.pages(lane, 0, OFFSET_MAX):
            for one in page:
                if one.sequence is not None:
                    return one.sequence
        return OFFSET_MAX

    async def _page(self, at: int) -> _Page:
        question = {"seq": at, "batch": PAGE_MESSAGES_MAX, "max_bytes": PAGE_BYTES, "next_by_subj": ">"}
        messages: list[Msg] = []
        wire = self._opened()
        subject = f"$JS.API.DIRECT.GET.{self._name}"
        try:
            answer = await wire.ask_for_many(subject, json.dumps(question).encode(), messages.append)
        except ERRORS as error:
            raise translate(error, self._destination, self._settings.secrets()) from error
        if answer.status == NO_RESPONDERS:
            self._direct = False
        page: _Page = []
        for message in messages:
            headers = {name.lower(): value for name, value in (message.headers or {}).items()}
            page.append((int(headers.pop("nats-sequence")), headers, message.data))
        return page

    async def _page_from_the_leader(self, at: int) -> _Page:
        page: _Page = []
        size = 0
        while at <= self._last and len(page) < ONE_BY_ONE_PAGE and size < PAGE_BYTES:
            try:
                message = await streams.next_message(self._opened(), self._name, at, self._destination)
                if message is None:
                    break
                page.append((message.seq, _parsed(message.hdrs), base64.b64decode(message.data)))
            except ERRORS as error:
                raise translate(error, self._destination, self._settings.secrets()) from error
            size += len(page[-1][2])
            at = message.seq + 1
        return page

    def _delivered(self, at: int, told: Mapping[str, str], payload: bytes) -> Delivered:
        sequence = offset_of(told.get("oplog-sequence"))
        if sequence is None or "oplog-key" not in told:  # somebody else's
            return Delivered(None, None, None, payload, self._name, f"message {at}")
        own_id = unquote(told.get("nats-msg-id", "")).removeprefix(unquote(self._id_prefix))
        return Delivered(
            sequence,
            own_id or str(sequence),
            unquote_to_bytes(told["oplog-key"]),
            payload,
            self._name,
            f"message {at}",
            _shown(told),
            told.get("oplog-place"),
            told.get("oplog-replay"),
        )

    def _opened(self) -> Wire:
        if self._wire is None:
            raise Unavailable(f"{self._destination}: it is not open; open it first")
        return self._wire


def _parsed(encoded: str) -> dict[str, str]:
    """By lower-case name, as they stand. Raises Garbled."""
    try:
        lines = base64.b64decode(encoded).decode(errors="replace").split("\r\n")
    except ValueError as error:
        raise Garbled(f"headers that are no base64 ({error})") from error
    return {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}


def _shown(told: Mapping[str, str]) -> Headers:
    return tuple((name, value.encode()) for name, value in told.items() if name and not name.startswith("nats-"))


def reader_permissions(settings: NatsSettings, context: SinkContext) -> list[str]:
    return [f"publish: $JS.API.DIRECT.GET.{stream_name(settings, context)}"]
