"""A webhook: one request an event, acknowledged by its answer; copies carry the same id."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from oplogbridge.errors import Misconfigured, Rejected, Unavailable
from oplogbridge.sink import SinkContext, SinkTraits
from oplogbridge.values import Batch, Event, Position
from simulation.loop import Process
from simulation.network import Network
from simulation.sinks.place import FOREIGN, Kind, Place

REQUESTS_MAX = 3  # between two saves


@dataclass
class WebhookState:
    log: list[int] = field(default_factory=list)

    def logs(self) -> Sequence[Sequence[int]]:
        return [self.log]

    def offset(self) -> int | None:
        return None

    def behind(self, writes: int) -> WebhookState:
        return WebhookState(self.log[: len(self.log) - writes])

    def recreated(self) -> WebhookState:
        return WebhookState()

    def write_foreign(self) -> None:
        self.log.append(FOREIGN)


class SimulatedWebhook:
    def __init__(self, process: Process, place: Place, network: Network, context: SinkContext) -> None:
        self._process = process
        self._place = place
        self._network = network
        self.destination = f"webhook:{context.pipeline}"

    async def open(self) -> Position | None: ...

    async def prepare(self, events: Sequence[Event]) -> None: ...

    async def write(self, batch: Batch) -> Position | None:
        reached, saved = batch.events[0].sequence, batch.events[0].sequence
        unsaved = 0
        try:
            for event in batch.events:
                if unsaved == REQUESTS_MAX:
                    await self._save(batch, reached)
                    unsaved, saved = 0, reached
                await self._post(event)
                reached, unsaved = event.sequence + 1, unsaved + 1
        except Unavailable:
            if reached != saved:
                await self._save(batch, reached)
            raise
        return None

    async def move(self, offset: int) -> Position | None:
        raise Misconfigured("webhook: it holds no position")

    async def position(self) -> Position | None: ...

    async def close(self) -> None: ...

    async def _post(self, event: Event) -> None:
        def effect(state: WebhookState) -> None:
            if event.sequence in self._place.rejected:
                raise Rejected(event, "it is refused here")
            if state.log and self._network.random.random() * 100 < self._network.weather.slow:
                raise Unavailable("busy", retry_after_seconds=1.0)
            state.log.append(event.sequence)

        await self._network.ask(self._process, self._place.server, f"post {event.sequence}", effect)

    @staticmethod
    async def _save(batch: Batch, offset: int) -> None:
        if batch.save is not None:
            await batch.save(offset)


_TRAITS = SinkTraits("at_least_once", False, False, events_max=6, bytes_max=1 << 20)
KIND = Kind("webhook", WebhookState, SimulatedWebhook, _TRAITS)
BY_KEY = Kind(
    "webhook by key",
    WebhookState,
    SimulatedWebhook,
    SinkTraits("at_least_once", False, False, events_max=6, bytes_max=1 << 20, pending_max=4),
    order="key",
)
