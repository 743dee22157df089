"""A receiver that does everything wrong, and gets every event all the same: in order, correctly signed."""

from __future__ import annotations

import base64
import random
from datetime import UTC, datetime
from email.utils import format_datetime
from itertools import pairwise

import pytest
from standardwebhooks.webhooks import Webhook

import rig
from oplogbridge_sinks.webhook.settings import WebhookSettings
from oplogbridge_sinks.webhook.sink import plugin
from receiver import Answer, Post, Receiver, never
from world import PipelineChoice, World

SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()
ENTRIES = 60


def any_answer(chance: random.Random) -> Answer:
    moment = format_datetime(datetime.now(UTC), usegmt=True)
    wrong = [
        Answer(429),
        Answer(429, {"Retry-After": "3"}),
        Answer(500, text="<html>oops"),
        Answer(503, {"Retry-After": moment}),
        Answer(302, {"Location": "/elsewhere"}),
        Answer(202, {"Oplog-Ack": "+WPI"}),
        Answer(lost=True),
        Answer(500, lost=True),
        Answer(410),
    ]
    if chance.random() < 0.01:
        return never()
    return Answer() if chance.random() < 0.6 else chance.choice(wrong)


@pytest.mark.parametrize("ordering", ["ordered", "key"])
async def test_a_misbehaving_receiver_gets_every_event_in_order_and_correctly_signed(ordering: str) -> None:
    chance = rig.seeded("answers")
    async with Receiver() as receiver:
        receiver.decide = lambda _: any_answer(chance)
        settings = WebhookSettings.model_validate(
            {
                "url": receiver.url,
                "allow_http": True,
                "allow_private_addresses": True,
                "secret": SECRET,
                "ordering": ordering,
                "ack_wait": "100ms",
            }
        )
        name = f"orders-{receiver.port}"
        async with World(PipelineChoice(name, plugin=plugin, settings=settings), jitter=chance.random) as world:
            world.source.append(ENTRIES)
            one = world.start()

            def all_saved() -> bool:
                stored = world.stored()
                return stored is not None and stored.offset == ENTRIES + 1

            await world.until(all_saved, seconds_max=1e6, step=1.0)
            one.stop()
            await one.ended()

        kept = receiver.kept
        assert [post.id for post in sorted(kept, key=sequence)] == [f"shop-{n}" for n in world.source.sequences]
        assert_ascending([sequence(post) for post in kept if ordering == "ordered"])
        for key in {post.key for post in kept}:
            assert_ascending([sequence(post) for post in kept if post.key == key])
            # and nothing of a key was even tried before what comes before it was taken
            tried = list(dict.fromkeys(sequence(post) for post in receiver.posts if post.key == key))
            assert_ascending(tried)
        for post in receiver.posts:
            Webhook(SECRET).verify(post.body, {name.lower(): value for name, value in post.headers.items()})
        print(f"{len(receiver.posts)} requests for {ENTRIES} events, {len(receiver.acknowledged)} acknowledged")
        assert len(receiver.posts) > ENTRIES


def sequence(post: Post) -> int:
    return int(post.headers["Oplog-Sequence"])


def assert_ascending(sequences: list[int]) -> None:
    assert all(one < other for one, other in pairwise(sequences)), sequences
