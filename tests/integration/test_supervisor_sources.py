"""Several sources in one bridge: what happens to one of them is nothing to the others."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from oplogbridge.bridge import Bridge
from oplogbridge.errors import Misconfigured
from oplogbridge.spec import SourceSpec
from oplogbridge.state.memory import MemoryStateStore
from world import Instance, PipelineChoice, World


class DefectiveStore(MemoryStateStore):
    """Renewing the lease of one source meets a defect of ours."""

    is_broken = True

    async def renew(self, source: str, token: str, ttl_seconds: float) -> None:
        if self.is_broken and source == "broken":
            raise RuntimeError("a defect")
        await super().renew(source, token, ttl_seconds)


def _bridge_over(sound: World, broken: World, store: DefectiveStore, *, until_caught_up: bool = False) -> Bridge:
    def source(name: str, world: World) -> SourceSpec:
        inside = Instance(world, name)
        return SourceSpec(
            name=name,
            source_id=world.source_id,
            poll_interval_seconds=1.0,
            settle_seconds=0.0,
            make_client=lambda _check: inside._client(),
            pipelines=[replace(inside._spec(choice), source=name) for choice in world.pipelines],
        )

    return Bridge(
        [source("broken", broken), source("sound", sound)],
        store=store,
        clock=sound.clock,
        jitter=lambda: 0.5,
        lease_ttl_seconds=10.0,
        shutdown_timeout_seconds=5.0,
        until_caught_up=until_caught_up,
    )


async def test_an_error_of_ours_in_one_source_leaves_the_others_delivering_and_is_tried_again() -> None:
    async with World(PipelineChoice("one")) as sound, World(PipelineChoice("two"), clock=sound.clock) as broken:
        store = DefectiveStore(sound.clock)
        bridge = _bridge_over(sound, broken, store)
        running = asyncio.create_task(bridge.run())
        await sound.until(lambda: bridge.status.pipelines["two"].state == "stopped")
        assert bridge.status.pipelines["two"].error == "unexpected RuntimeError: a defect; please report it"
        assert not bridge.status.sources["broken"].lease_held
        assert "broken" not in store.memory.leases  # another instance may try

        await sound.run(120)
        sound.source.append(3)
        await sound.until(lambda: len(sound.sequences) == 3, seconds_max=5)
        assert bridge.status.sources["sound"].epoch == 1  # it kept its lease all along
        tries = bridge.status.sources["broken"].epoch or 0
        assert 3 <= tries <= 20  # again and again, ever more slowly

        store.is_broken = False
        broken.source.append(3)
        await sound.until(lambda: len(broken.sequences) == 3, seconds_max=120)
        await sound.until(lambda: bridge.status.pipelines["two"].error is None)
        bridge.stop()
        await running


async def test_until_caught_up_a_source_with_an_error_of_ours_ends_as_stopped_and_the_others_deliver() -> None:
    async with World(PipelineChoice("one")) as sound, World(PipelineChoice("two"), clock=sound.clock) as broken:
        for world in (sound, broken):
            world.source.append(30)
        bridge = _bridge_over(sound, broken, DefectiveStore(sound.clock), until_caught_up=True)
        running = asyncio.create_task(bridge.run())

        await sound.until(running.done)

        assert sound.sequences == sound.source.sequences
        assert len(broken.sequences) < 30
        with pytest.raises(Misconfigured, match="two: unexpected RuntimeError: a defect; please report it"):
            bridge.raise_if_stopped()
