"""When the right to poll and to write counts as lost."""

from __future__ import annotations

import asyncio

import pytest

from oplogbridge.clock import Clock, SystemClock
from oplogbridge.errors import Fenced, Misconfigured, Unavailable
from oplogbridge.lease import RENEWALS_PER_TTL, Lease
from oplogbridge.state import Holder
from oplogbridge.state.memory import MemoryStateStore
from oplogbridge.testing.clock import ManualClock

TTL = 10.0
ME = Holder("me", "here", 1, None)


class Renewals(MemoryStateStore):
    """Fails when told to, and takes its time to answer."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock)
        self.sent_at: list[float] = []
        self.errors: list[Exception] = []
        self.answer_after = 0.0
        self.hangs = False
        self._time = clock

    async def renew(self, source: str, token: str, ttl_seconds: float) -> None:
        self.sent_at.append(self._time.monotonic())
        if self.errors:
            raise self.errors.pop(0)
        if self.hangs:
            await asyncio.Event().wait()
        await super().renew(source, token, ttl_seconds)
        await self._time.sleep(self.answer_after)


async def held(clock: Clock, *, ttl_seconds: float = TTL) -> tuple[Lease, Renewals]:
    store = Renewals(clock)
    await store.open()
    token = await store.acquire("shop", ME, ttl_seconds)
    assert token is not None
    return Lease("shop", token, ttl_seconds, clock, clock.monotonic() + ttl_seconds), store


async def test_the_epoch_is_read_from_the_token() -> None:
    lease, _ = await held(ManualClock())

    assert lease.epoch == 1


async def test_it_is_valid_until_the_instant_and_not_in_it() -> None:
    clock = ManualClock()
    lease, _ = await held(clock)

    clock.advance(TTL - 0.001)
    lease.check()
    clock.advance(0.001)

    with pytest.raises(Fenced, match="ran out"):
        lease.check()


async def test_it_is_renewed_several_times_in_a_ttl() -> None:
    clock = ManualClock()
    lease, store = await held(clock)
    keeping = asyncio.create_task(lease.keep(store))

    await clock.run(5 * TTL)

    assert len(store.sent_at) == 5 * RENEWALS_PER_TTL
    assert not keeping.done()
    lease.check()
    keeping.cancel()


async def test_it_counts_from_when_the_renewal_was_sent_and_not_from_its_answer() -> None:
    clock = ManualClock()
    lease, store = await held(clock)
    store.answer_after = 3.0
    keeping = asyncio.create_task(lease.keep(store))

    await clock.run(TTL / RENEWALS_PER_TTL + 3.0)

    assert lease.valid_until == store.sent_at[0] + TTL
    keeping.cancel()


@pytest.mark.parametrize("error", [Unavailable("down"), Misconfigured("the password was rotated")])
async def test_failing_renewals_are_repeated_until_one_succeeds(error: Exception) -> None:
    clock = ManualClock()
    lease, store = await held(clock)
    store.errors += [error] * 8
    keeping = asyncio.create_task(lease.keep(store))

    await clock.run(9.0)

    assert not keeping.done()
    assert lease.valid_until == max(store.sent_at) + TTL
    keeping.cancel()


async def test_it_is_lost_a_ttl_after_the_last_good_renewal() -> None:
    clock = ManualClock()
    lease, store = await held(clock)
    began_at = clock.monotonic()
    store.errors += [Unavailable("down")] * 1000
    keeping = asyncio.create_task(lease.keep(store))

    await clock.run(TTL + 0.25)

    assert isinstance(keeping.exception(), Fenced)
    assert lease.valid_until == began_at + TTL


async def test_it_is_lost_at_once_when_the_store_says_so() -> None:
    clock = ManualClock()
    lease, store = await held(clock)
    store.memory.wipe()
    keeping = asyncio.create_task(lease.keep(store))

    await clock.run(TTL / RENEWALS_PER_TTL)

    assert isinstance(keeping.exception(), Fenced)


async def test_whoever_checks_learns_at_once_what_the_renewal_was_told() -> None:
    clock = ManualClock()
    lease, store = await held(clock)
    store.errors.append(Fenced("somebody else has it"))
    keeping = asyncio.create_task(lease.keep(store))

    await clock.run(TTL / RENEWALS_PER_TTL)

    assert isinstance(keeping.exception(), Fenced)
    with pytest.raises(Fenced):  # long before it runs out: the sink of the new owner must not be opened
        lease.check()


async def test_a_renewal_that_hangs_is_given_up_when_the_lease_runs_out() -> None:
    clock = SystemClock()  # what bounds a call is real time
    lease, store = await held(clock, ttl_seconds=0.2)
    runs_out_at = lease.valid_until
    store.hangs = True

    async with asyncio.timeout(10):
        with pytest.raises(Fenced, match="ran out"):
            await lease.keep(store)

    assert clock.monotonic() >= runs_out_at
    assert lease.valid_until == runs_out_at
    assert len(store.sent_at) >= 1


async def test_a_process_that_was_suspended_finds_it_lost_before_it_asks_anybody() -> None:
    clock = ManualClock()
    lease, store = await held(clock)
    keeping = asyncio.create_task(lease.keep(store))
    await clock.sleeping(1)

    clock.advance(3600)  # the machine slept

    with pytest.raises(Fenced):
        lease.check()
    with pytest.raises(Fenced):
        await keeping
    assert store.sent_at == []
