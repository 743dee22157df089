"""Hostile input in short: the corpus, and mutations of it, without coverage. `make fuzz` goes on."""

from __future__ import annotations

import logging

import pytest

import rig
from fuzz import admin
from fuzz.mutate import mutated
from fuzz.targets import TARGETS

INPUTS = 3_000
SLOW_INPUTS = {"config": 400}
ADMIN_INPUTS = 400


@pytest.mark.parametrize("name", TARGETS)
def test_what_is_kept_and_what_is_like_it_breaks_nothing(name: str) -> None:
    target, chance = TARGETS[name], rig.seeded(name)
    kept = target.corpus()

    for data in kept:
        target.check(data)
    for _ in range(SLOW_INPUTS.get(name, INPUTS)):
        data = mutated(kept, chance)
        try:
            target.check(data)
        except BaseException:
            print(f"put it into tests/fuzz/corpus/{name}: {data!r}")
            raise


def test_no_request_whatever_breaks_the_admin_server(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL, "aiohttp.server")  # as in production: it quotes the request, login and all
    chance = rig.seeded("admin")
    with admin.AdminUnderFire() as check:
        for seed in admin.SEEDS:
            check(seed)
        for _ in range(ADMIN_INPUTS):
            check(mutated(admin.SEEDS, chance))
