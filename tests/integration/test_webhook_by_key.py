"""`ordering: key`: different keys at once, each in order, and one offset that never passes what is not delivered."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from itertools import pairwise
from typing import Any

import pytest

from oplogbridge.testing.memory import MemorySettings
from oplogbridge_sinks.webhook.settings import WebhookSettings
from oplogbridge_sinks.webhook.sink import plugin
from receiver import Answer, Post, Receiver
from world import PipelineChoice, World

KEYS = ["user/0", "user/1", "user/2"]  # of the scripted source: the sequence modulo 3


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with Receiver() as receiver:
        yield receiver


def by_key(receiver: Receiver, *, letters: bool = False, **changes: Any) -> PipelineChoice:
    settings = {"url": receiver.url, "allow_http": True, "allow_private_addresses": True, "ordering": "key"} | changes
    return PipelineChoice(
        # What a process counts outlives its sinks; a port is used by one test at a time.
        name=f"orders-{receiver.port}",
        plugin=plugin,
        settings=WebhookSettings(**settings),
        letters=MemorySettings() if letters else None,
    )


class HookWorld(World):
    async def close(self) -> None:
        await super().close()
        for sink in [sink for one in self.instances for sink in one.sinks]:
            await sink._inner.close()  # as the operating system does with the connections of a process that was killed


def sequence(post: Post) -> int:
    return int(post.headers["Oplog-Sequence"])


def assert_in_order_of_each_key(receiver: Receiver) -> None:
    for key in KEYS:
        of_key = [sequence(post) for post in receiver.kept if post.key == key]
        assert all(one < other for one, other in pairwise(of_key)), (key, of_key)


def stored_offset(world: World) -> int | None:
    stored = world.stored()
    return None if stored is None else stored.offset


async def test_different_keys_are_delivered_at_once_and_each_in_order(receiver: Receiver) -> None:
    answered = asyncio.Event()
    receiver.decide = lambda post: Answer(after=answered) if sequence(post) == 3 else None
    async with HookWorld(by_key(receiver)) as world:
        world.source.append(12)
        one = world.start()

        await world.until(lambda: len(receiver.acknowledged) == 8)
        await world.run(5)

        assert {post.key for post in receiver.acknowledged} == {"user/1", "user/2"}
        assert [sequence(post) for post in receiver.posts if post.key == "user/0"] == [3]
        assert receiver.at_once_max > 1
        assert stored_offset(world) == 3  # the lowest that is not delivered
        assert one.pipeline().caught_up is False

        answered.set()
        await world.until(lambda: stored_offset(world) == 13)

        assert_in_order_of_each_key(receiver)
        assert len(receiver.posts) == 12
        assert one.pipeline().events_delivered == 12


async def test_a_key_that_waits_holds_up_no_other_key_at_the_live_end(receiver: Receiver) -> None:
    refusing = True
    receiver.decide = lambda post: Answer(503, {"Retry-After": "60"}) if refusing and post.key == "user/1" else None
    async with HookWorld(by_key(receiver)) as world:
        world.source.append(1)
        one = world.start()
        await world.until(lambda: len(receiver.posts) == 1)

        world.source.append(8)  # the poll after the refusal brings them
        await world.until(lambda: len(receiver.acknowledged) == 6, seconds_max=10)

        assert stored_offset(world) == 1
        assert one.pipeline().state == "retrying"
        assert "HTTP 503" in (one.pipeline().error or "")

        refusing = False
        await world.until(lambda: stored_offset(world) == 10, seconds_max=120)

        assert [sequence(post) for post in receiver.acknowledged if post.key == "user/1"] == [1, 4, 7]
        assert len(receiver.posts) == 10  # nothing but the one that was refused came twice
        await world.run(2)
        assert (one.pipeline().state, one.pipeline().error, one.pipeline().caught_up) == ("running", None, True)


async def test_a_key_that_waits_holds_up_the_others_once_max_ack_pending_is_full(receiver: Receiver) -> None:
    receiver.decide = lambda post: Answer(503, {"Retry-After": "600"}) if sequence(post) == 1 else None
    async with HookWorld(by_key(receiver, max_ack_pending=6)) as world:
        world.source.append(30)
        world.start()
        await world.run(20)

        assert [sequence(post) for post in receiver.acknowledged] == [2, 3, 5, 6]
        assert stored_offset(world) == 1


async def test_more_than_max_ack_pending_are_never_under_way(receiver: Receiver) -> None:
    async with HookWorld(by_key(receiver, max_ack_pending=2), page_limit=100) as world:
        world.source.append(60)
        world.start()
        await world.until(lambda: stored_offset(world) == 61)

        assert receiver.at_once_max <= 2
        assert len(receiver.posts) == 60


async def test_an_event_is_set_aside_when_all_before_it_is_delivered_and_what_came_after_is_not_sent_again(
    receiver: Receiver,
) -> None:
    first_answered = asyncio.Event()
    answers = {1: Answer(after=first_answered), 2: Answer(422, text="no such customer")}
    receiver.decide = lambda post: answers.get(sequence(post))
    choice = by_key(receiver, letters=True)
    async with HookWorld(choice) as world:
        world.source.append(9)
        world.start()
        await world.until(lambda: len(receiver.acknowledged) == 3)
        await world.run(3)

        assert [sequence(post) for post in receiver.acknowledged] == [3, 6, 9]
        assert world.letters().sequences == []  # 1 is not delivered yet
        assert stored_offset(world) == 1

        first_answered.set()
        await world.until(lambda: stored_offset(world) == 10)

        assert world.letters().sequences == [2]
        assert sorted(sequence(post) for post in receiver.posts) == list(range(1, 10))
        assert_in_order_of_each_key(receiver)


async def test_a_pipeline_that_stops_at_an_event_tries_that_one_again_and_sends_no_copies(receiver: Receiver) -> None:
    mended = False
    receiver.decide = lambda post: Answer(422) if sequence(post) == 2 and not mended else None
    async with HookWorld(by_key(receiver)) as world:
        world.source.append(9)
        one = world.start()
        await world.until(lambda: one.status != {} and one.pipeline().state == "stopped")

        assert "sequence 2 cannot be delivered" in (one.pipeline().error or "")
        assert stored_offset(world) == 2
        before = len(receiver.posts)
        await world.run(40)
        assert [sequence(post) for post in receiver.posts[before:]].count(2) == 1

        mended = True
        await world.until(lambda: stored_offset(world) == 10)

        assert sorted(sequence(post) for post in receiver.acknowledged) == list(range(1, 10))
        assert_in_order_of_each_key(receiver)


async def test_a_receiver_that_is_gone_for_good_stops_the_pipeline(receiver: Receiver) -> None:
    receiver.decide = lambda post: Answer(410) if sequence(post) == 5 else None
    async with HookWorld(by_key(receiver)) as world:
        world.source.append(9)
        one = world.start()
        await world.until(lambda: one.status != {} and one.pipeline().state == "stopped")

        assert "gone for good" in (one.pipeline().error or "")
        assert stored_offset(world) == 5


async def test_a_malformed_entry_is_set_aside_when_all_before_it_is_delivered(receiver: Receiver) -> None:
    answered = asyncio.Event()
    receiver.decide = lambda post: Answer(after=answered) if sequence(post) == 1 else None
    async with HookWorld(by_key(receiver, letters=True)) as world:
        world.source.append(3)
        world.source.put_malformed(4)
        world.source.append(3)
        world.start()
        await world.until(lambda: len(receiver.acknowledged) == 2)
        await world.run(3)
        assert (world.letters().sequences, stored_offset(world)) == ([], 1)

        answered.set()
        await world.until(lambda: stored_offset(world) == 8)

        assert world.letters().sequences == [4]
        assert sorted(sequence(post) for post in receiver.posts) == [1, 2, 3, 5, 6, 7]


async def test_filtered_entries_move_the_offset(receiver: Receiver) -> None:
    async with HookWorld(by_key(receiver)) as world:
        world.source.append(2)
        world.start()
        await world.until(lambda: stored_offset(world) == 3)
    choice = by_key(receiver)
    choice = PipelineChoice(choice.name, types=frozenset({"order"}), plugin=choice.plugin, settings=choice.settings)
    async with HookWorld(choice) as world:
        world.source.append(5)
        world.start()
        await world.until(lambda: stored_offset(world) == 6)

    assert len(receiver.posts) == 2


async def test_a_drain_finishes_what_is_under_way_and_a_successor_sends_no_copy_of_it(receiver: Receiver) -> None:
    answered = asyncio.Event()
    receiver.decide = lambda post: Answer(after=answered) if sequence(post) in (1, 2) else None
    async with HookWorld(by_key(receiver)) as world:
        world.source.append(2)
        one = world.start()
        await world.until(lambda: len(receiver.posts) == 2)

        one.stop()
        await world.run(1)
        assert one.task is not None
        assert not one.task.done()
        answered.set()
        await one.ended()
        assert stored_offset(world) == 3

        world.source.append(3)
        world.start()
        await world.until(lambda: stored_offset(world) == 6)
        assert len(receiver.posts) == 5


async def test_a_drain_does_not_wait_for_a_key_that_waits(receiver: Receiver) -> None:
    receiver.decide = lambda post: Answer(503, {"Retry-After": "600"}) if post.key == "user/1" else None
    async with HookWorld(by_key(receiver)) as world:
        world.source.append(6)
        one = world.start()
        await world.until(lambda: len(receiver.acknowledged) == 4)

        one.stop()
        await asyncio.wait_for(one.ended(), 10)

        assert stored_offset(world) == 1


async def test_until_caught_up_waits_for_the_last_key(receiver: Receiver) -> None:
    receiver.answer(503, headers={"Retry-After": "30"})
    async with HookWorld(by_key(receiver)) as world:
        world.source.append(7)
        one = world.start(until_caught_up=True)
        assert one.task is not None
        await world.until(one.task.done)

        assert stored_offset(world) == 8
        assert sorted(sequence(post) for post in receiver.acknowledged) == list(range(1, 8))


async def test_after_a_crash_at_most_max_ack_pending_come_again_with_the_same_ids(receiver: Receiver) -> None:
    async with HookWorld(by_key(receiver, max_ack_pending=4), page_limit=100) as world:
        world.source.append(40)
        one = world.start()
        await world.until(lambda: len(receiver.acknowledged) >= 15, step=0.001)
        one.kill()
        await one.ended()
        offset = stored_offset(world) or 0
        sent = {post.id for post in receiver.posts}
        assert len([post for post in receiver.posts if sequence(post) >= offset]) <= 4

        world.start()
        await world.until(lambda: stored_offset(world) == 41)

        copies = [post for post in receiver.posts if post.id in sent][len(sent) :]
        assert len(copies) <= 4
        assert len(receiver.kept) == 40
        assert_in_order_of_each_key(receiver)
