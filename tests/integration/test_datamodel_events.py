"""`datamodel_events`: a data model is told once, before the first event that is shown by it, wherever it is killed."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace

import pytest

from objects_world import MODELS, ObjectsWorld
from oplogbridge.emulator.datamodel import datamodel_of
from oplogbridge.source.datamodel import differences
from oplogbridge.testing.memory import MemorySettings
from world import Instance, PipelineChoice, shortest_gap

EVENTS = PipelineChoice(datamodel_events=True)


def told(world: ObjectsWorld) -> list[tuple[str, str | None]]:
    """Runs of the log: `deploy`, or `entries`, and the data model's hash of each."""
    events = [json.loads(event.payload) for event in world.at().log]
    shown = [
        ("deploy" if one["data"]["operation"] == "deploy" else "entries", one.get("datamodelhash")) for one in events
    ]
    return [run for run, _ in itertools.groupby(shown)]


def deploy(world: ObjectsWorld, number: int) -> str:
    """Another field in every model; the new hash."""
    models = {name: {"fields": {"name": "text", f"more{number}": "text"}} for name in MODELS}
    world.backend.deploy(datamodel_of({"models": models}))
    return world.backend.datamodel_hash


async def caught_up(world: ObjectsWorld, one: Instance) -> None:
    entries = len(world.backend.log)
    await world.until(
        lambda: one.pipeline().caught_up and sum(event.place is None for event in world.at().log) == entries
    )


async def test_each_model_is_told_before_what_is_shown_by_it() -> None:
    async with ObjectsWorld(EVENTS, seed=1) as world:
        hashes = [world.backend.datamodel_hash]
        world.write(5)
        one = world.start()
        await caught_up(world, one)
        for number in range(3):
            hashes.append(deploy(world, number))
            await world.run(10)
            world.write(4)
            await caught_up(world, one)

        assert told(world) == [(kind, hash_) for hash_ in hashes for kind in ("deploy", "entries")]
        model = json.loads(next(e for e in reversed(world.at().log) if e.operation == "deploy").payload)
        assert (model["type"], model["id"]) == ("oplog.datamodel.deploy", f"{model['data']['sequence']}-1")
        assert set(model["data"]["object"]["models"]) == set(MODELS)
        assert model["data"]["object"]["id"] == hashes[-1]
        assert shortest_gap(world.asked) >= 1.0 - 1e-9


async def test_a_filter_of_types_does_not_hold_the_model_back() -> None:
    async with ObjectsWorld(replace(EVENTS, types=frozenset({"no such type"})), seed=1) as world:
        world.write(5)
        one = world.start()
        await world.until(lambda: one.pipeline().caught_up)

        assert [event.operation for event in world.at().log] == ["deploy"]


@pytest.mark.parametrize("seed", range(30))
async def test_killed_anywhere_every_model_is_told_once(seed: int) -> None:
    settings = MemorySettings(events_max=2, goes_back=seed % 2 == 0)
    async with ObjectsWorld(replace(EVENTS, settings=settings), seed=seed) as world:
        chance = world.random
        hashes = [world.backend.datamodel_hash]
        world.write(4)
        one = world.start()
        for number in range(3):
            names = ("sink.write", "sink.move", "sink.open", "store.save", "store.note", "store.notes", "client.ask")
            hold = one.gate.hold(chance.choice(names), chance.choice(("before", "after")), skip=chance.randrange(3))
            await world.run(chance.random() * 20)
            if hold.is_reached or chance.random() < 0.5:
                one.kill()
                one = world.start()
            else:
                one.gate.holds.clear()
            await caught_up(world, one)
            hashes.append(deploy(world, number))
            world.write(4)
        one.gate.holds.clear()
        await caught_up(world, one)

        assert told(world) == [(kind, hash_) for hash_ in hashes for kind in ("deploy", "entries")]


async def test_without_datamodel_events_a_change_is_read_once_and_told_in_the_log(
    capsys: pytest.CaptureFixture[str],
) -> None:
    async with ObjectsWorld(seed=1) as world:
        world.write(3)
        one = world.start()
        await world.until(lambda: one.pipeline().caught_up)
        for number in range(2):
            deploy(world, number)
            world.write(1)
            await world.run(20)

        assert [run[0] for run in told(world)] == ["entries"] * 3
    shown = capsys.readouterr().out
    assert shown.count("data model read") == 2
    assert "-asset.more0" in shown
    assert "+asset.more1" in shown


def test_differences_are_named() -> None:
    before = {"a": {"fields": {"x": {"type": "text"}, "y": {"type": "text"}}}, "b": {}}
    after = {"a": {"fields": {"x": {"type": "number"}, "z": {"type": "text"}}}, "c": {}}

    assert list(differences(before, after)) == ["~a.x", "-a.y", "+a.z", "-b", "+c"]
