"""The webhook sink keeps what the contract asks of a sink without a position."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import ClassVar, Literal

import pytest

from oplogbridge import Event
from oplogbridge.testing import ReadBack, SinkContract, SinkRig
from oplogbridge.testing.proxy import FaultProxy
from oplogbridge_sinks.webhook.settings import WebhookSettings
from oplogbridge_sinks.webhook.sink import plugin
from receiver import Receiver

TOO_LARGE_BYTES = 17 * 2**20  # more than a write may hold


class WebhookRig(SinkRig):
    plugin = plugin
    rejected_bytes = TOO_LARGE_BYTES

    def __init__(self, receiver: Receiver, proxy: FaultProxy) -> None:
        self.receiver = receiver
        self.proxy = proxy
        receiver.refuse = lambda post: len(post.body) >= TOO_LARGE_BYTES
        self.settings = WebhookSettings(
            url=f"http://127.0.0.1:{proxy.port}/hook", allow_http=True, allow_private_addresses=True, ack_wait="5s"
        )

    async def read_back(self) -> list[ReadBack]:
        return [ReadBack(post.body, None, None, None) for post in self.receiver.acknowledged]

    def expected(self, event: Event) -> ReadBack:
        return ReadBack(event.payload, None, None, None)

    @asynccontextmanager
    async def down(self) -> AsyncIterator[None]:
        self.proxy.refuse()
        self.proxy.cut()
        yield
        self.proxy.heal()

    @asynccontextmanager
    async def cut(self, where: Literal["request", "reply"]) -> AsyncIterator[None]:
        cut = self.proxy.cut_after("upstream", 100) if where == "request" else self.proxy.reset_before_reply()
        yield
        assert cut.is_set()
        self.proxy.heal()

    async def connections(self) -> int:
        return self.proxy.open_connections


class TestWebhookSink(SinkContract):
    lacks: ClassVar = {"position", "bare offset", "lock", "expectation"}
    waived: ClassVar = {
        "test_a_destination_that_is_down_is_unavailable_and_works_again": "opening sends nothing; the first "
        "event finds out (test_webhook_sink)",
    }

    @pytest.fixture
    async def rig(self) -> AsyncIterator[WebhookRig]:
        async with Receiver() as receiver, FaultProxy("127.0.0.1", receiver.port) as proxy:
            yield WebhookRig(receiver, proxy)
