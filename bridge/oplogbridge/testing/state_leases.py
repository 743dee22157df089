"""What a state store promises about leases."""

from __future__ import annotations

import asyncio
import re

import pytest

from oplogbridge.errors import Fenced
from oplogbridge.state import Holder
from oplogbridge.testing.state_place import (
    ALICE,
    BOB,
    LONG_SECONDS,
    StatePlace,
    acquired,
    short_leases_ran_out,
    stored,
    taken_over,
)


class KeepsLeases:
    """Points of the contract that ask who may read a source."""

    @pytest.fixture
    def place(self) -> StatePlace:
        raise NotImplementedError("a subclass of StateStoreContract gives the place")

    async def test_a_free_source_is_acquired_with_a_token_of_epoch_and_nonce(self, place: StatePlace) -> None:
        store = await place.store()
        token = await store.acquire("shop", ALICE, LONG_SECONDS)
        assert token is not None
        assert re.fullmatch(r"1-[0-9a-f]{16,}", token)

    async def test_nobody_acquires_a_source_that_somebody_holds(self, place: StatePlace) -> None:
        one, two = await place.store(), await place.store()
        await acquired(one, "shop", ALICE)
        assert await two.acquire("shop", BOB, LONG_SECONDS) is None
        assert await one.acquire("shop", BOB, LONG_SECONDS) is None
        assert await one.acquire("shop", ALICE, LONG_SECONDS) is None, "its own, but it does not reclaim"

    async def test_sources_are_leased_apart(self, place: StatePlace) -> None:
        one, two = await place.store(), await place.store()
        await acquired(one, "shop", ALICE)
        assert await two.acquire("shop:2", BOB, LONG_SECONDS) is not None
        assert await two.acquire("Läden/één %2F", BOB, LONG_SECONDS) is not None

    async def test_a_released_lease_is_free_and_the_next_token_is_newer_and_other(self, place: StatePlace) -> None:
        one, two = await place.store(), await place.store()
        tokens = []
        for store in (one, two, one, one):
            tokens.append(await acquired(store, "shop", ALICE))
            await store.release("shop", tokens[-1])
        epochs = [int(token.partition("-")[0]) for token in tokens]
        nonces = {token.partition("-")[2] for token in tokens}
        assert epochs == sorted(set(epochs))
        assert len(nonces) == len(tokens)

    async def test_a_stranger_releases_nothing(self, place: StatePlace) -> None:
        one, two = await place.store(), await place.store()
        token = await acquired(one, "shop", ALICE)
        await two.release("shop", "1-" + "0" * 32)
        await two.release("warehouse", token)
        await one.renew("shop", token, LONG_SECONDS)
        assert await two.acquire("shop", BOB, LONG_SECONDS) is None

    async def test_a_lease_that_ran_out_is_taken_over_and_its_old_holder_is_fenced(self, place: StatePlace) -> None:
        one, two = await place.store(), await place.store()
        old = await acquired(one, "shop", ALICE, place.ttl_seconds)
        await one.save("shop", old, "p", stored(5), replacing=None)
        new = await taken_over(place, two, "shop", BOB)
        assert int(new.partition("-")[0]) > int(old.partition("-")[0])
        with pytest.raises(Fenced):
            await one.renew("shop", old, LONG_SECONDS)
        with pytest.raises(Fenced):
            await one.load("shop", old, "p")
        with pytest.raises(Fenced):
            await one.save("shop", old, "p", stored(6), replacing=stored(5))
        await one.release("shop", old)
        await two.renew("shop", new, LONG_SECONDS)
        assert await two.load("shop", new, "p") == stored(5)

    async def test_a_lease_that_ran_out_is_nobodys_even_before_it_is_taken(self, place: StatePlace) -> None:
        store = await place.store()
        token = await acquired(store, "shop", ALICE, place.ttl_seconds)
        await short_leases_ran_out(place)
        assert await store.holder("shop") is None
        with pytest.raises(Fenced):
            await store.renew("shop", token, LONG_SECONDS)
        with pytest.raises(Fenced):
            await store.load("shop", token, "p")
        with pytest.raises(Fenced):
            await store.save("shop", token, "p", stored(5), replacing=None)
        assert await store.peek("p") is None

    async def test_a_renewed_lease_holds_longer(self, place: StatePlace) -> None:
        one, two = await place.store(), await place.store()
        token = await acquired(one, "shop", ALICE, place.ttl_seconds)
        await one.renew("shop", token, LONG_SECONDS)
        await short_leases_ran_out(place)
        assert await two.acquire("shop", BOB, LONG_SECONDS) is None
        await one.renew("shop", token, LONG_SECONDS)

    async def test_a_renewal_with_a_wrong_token_changes_nothing(self, place: StatePlace) -> None:
        one, two = await place.store(), await place.store()
        token = await acquired(one, "shop", ALICE, place.ttl_seconds)
        for wrong in ("", "1", token[:-1], token + "0", token.partition("-")[0] + "-" + "0" * 32):
            with pytest.raises(Fenced):
                await two.renew("shop", wrong, LONG_SECONDS)
        await taken_over(place, two, "shop", BOB)

    async def test_an_instance_that_reclaims_takes_its_own_lease_back_at_once(self, place: StatePlace) -> None:
        one, two = await place.store(), await place.store()
        before = Holder("bridge-0", "host-a", 11, None, reclaims=True)
        after = Holder("bridge-0", "host-b", 12, None, reclaims=True)
        old = await acquired(one, "shop", before)
        new = await acquired(two, "shop", after)
        assert await two.holder("shop") == after
        with pytest.raises(Fenced):
            await one.renew("shop", old, LONG_SECONDS)
        await two.renew("shop", new, LONG_SECONDS)

    async def test_an_instance_that_reclaims_does_not_take_anybody_elses_lease(self, place: StatePlace) -> None:
        one, two = await place.store(), await place.store()
        await acquired(one, "shop", Holder("bridge-1", "host-a", 11, None, reclaims=True))
        assert await two.acquire("shop", Holder("bridge-0", "host-b", 12, None, reclaims=True), LONG_SECONDS) is None

    async def test_of_many_that_acquire_at_once_exactly_one_does(self, place: StatePlace) -> None:
        stores = [await place.store() for _ in range(4)]
        requests = [store.acquire("shop", BOB, LONG_SECONDS) for store in stores for _ in range(2)]
        tokens = [token for token in await asyncio.gather(*requests) if token is not None]
        assert len(tokens) == 1
        await stores[-1].renew("shop", tokens[0], LONG_SECONDS)

    async def test_everybody_sees_who_holds_a_lease(self, place: StatePlace) -> None:
        one, two = await place.store(), await place.store()
        assert await two.holder("shop") is None
        token = await acquired(one, "shop", ALICE)
        assert await one.holder("shop") == ALICE
        assert await two.holder("shop") == ALICE
        await one.renew("shop", token, LONG_SECONDS)
        assert await two.holder("shop") == ALICE
        assert await two.acquire("shop", BOB, LONG_SECONDS) is None, "looking leaves no trace"
        await one.release("shop", token)
        assert await two.holder("shop") is None
