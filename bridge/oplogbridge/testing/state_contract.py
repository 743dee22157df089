"""The executable half of `oplogbridge.state.StateStore`: a suite that runs over every state store.

    class TestMyStore(StateStoreContract):
        @pytest.fixture
        def place(self) -> StatePlace:
            return MyPlace()

Nothing sleeps. Where a lease has to run out, `place.let_time_pass` moves a manual clock, or does nothing and the suite
asks again until it has: then `ttl_seconds` is real and short.
"""

from __future__ import annotations

import asyncio

import pytest

from oplogbridge.errors import Fenced, Misconfigured, Unavailable
from oplogbridge.state import Mark, Stored, kept
from oplogbridge.testing.state_leases import KeepsLeases
from oplogbridge.testing.state_notes import KeepsNotes
from oplogbridge.testing.state_place import (
    ALICE,
    BOB,
    CANCELLED_AFTER_TURNS,
    LONG_SECONDS,
    StatePlace,
    acquired,
    audit_record,
    cancelled_after,
    mended,
    stored,
)


class StateStoreContract(KeepsLeases, KeepsNotes):
    """Subclass it and give it a `place` fixture."""

    async def test_what_was_saved_is_loaded(self, place: StatePlace) -> None:
        one, two = await place.store(), await place.store()
        token = await acquired(one, "shop", ALICE)
        assert await one.load("shop", token, "p") is None
        assert await one.peek("p") is None
        await one.save("shop", token, "p", stored(5), replacing=None)
        await one.save("shop", token, "p", stored(6, mark=Mark(5, "17")), replacing=stored(5))
        assert await one.load("shop", token, "p") == stored(6, mark=Mark(5, "17"))
        assert await two.peek("p") == stored(6, mark=Mark(5, "17"))

    async def test_offsets_are_exact_up_to_2_to_the_63(self, place: StatePlace) -> None:
        store = await place.store()
        token = await acquired(store, "shop", ALICE)
        before = None
        for offset in (0, 2**53 + 1, 6112271540663877634, 2**63 - 1, 2**63):
            value = stored(offset, mark=Mark(offset))
            await store.save("shop", token, "p", value, replacing=before)
            assert await store.load("shop", token, "p") == value
            before = value

    async def test_any_text_survives(self, place: StatePlace) -> None:
        store = await place.store()
        token = await acquired(store, "shop", ALICE)
        value = Stored(
            7, Mark(6, 'a "proof"\n\\'), source="https://häuser.example/ü?x=1", destination="file:/tmp/日本.jsonl"
        )
        await store.save("shop", token, "pipe:line/é %", value, replacing=None)
        assert await store.load("shop", token, "pipe:line/é %") == value
        assert await store.peek("pipe:line/é %") == value

    async def test_pipelines_are_kept_apart(self, place: StatePlace) -> None:
        store = await place.store()
        token = await acquired(store, "shop", ALICE)
        await store.save("shop", token, "p", stored(5), replacing=None)
        await store.save("shop", token, "q", stored(9), replacing=None)
        assert await store.load("shop", token, "p") == stored(5)
        assert await store.load("shop", token, "q") == stored(9)

    async def test_the_token_of_another_source_neither_loads_nor_saves(self, place: StatePlace) -> None:
        store = await place.store()
        await acquired(store, "shop", ALICE)
        other = await acquired(store, "warehouse", ALICE)
        with pytest.raises(Fenced):
            await store.load("shop", other, "p")
        with pytest.raises(Fenced):
            await store.save("shop", other, "p", stored(5), replacing=None)
        assert await store.peek("p") is None

    async def test_a_save_that_replaces_another_value_than_the_one_kept_changes_nothing(
        self, place: StatePlace
    ) -> None:
        store = await place.store()
        token = await acquired(store, "shop", ALICE)
        with pytest.raises(Unavailable):
            await store.save("shop", token, "p", stored(6), replacing=stored(5))
        assert await store.load("shop", token, "p") is None
        await store.save("shop", token, "p", stored(5), replacing=None)
        for wrong in (None, stored(4), stored(5, mark=Mark(5)), Stored(5, None, "another source", "kafka:oplog.shop")):
            with pytest.raises(Unavailable):
                await store.save("shop", token, "p", stored(9), replacing=wrong)
        assert await store.load("shop", token, "p") == stored(5)

    async def test_a_delayed_save_never_goes_back(self, place: StatePlace) -> None:
        """Protocol check, schedule 5: save(3) is on its way when the pipeline opens again and saves 4."""
        store = await place.store()
        token = await acquired(store, "shop", ALICE)
        await store.save("shop", token, "p", stored(2), replacing=None)
        await store.save("shop", token, "p", stored(4), replacing=stored(2))
        with pytest.raises(Unavailable):
            await store.save("shop", token, "p", stored(3), replacing=stored(2))
        assert await store.load("shop", token, "p") == stored(4)

    async def test_of_many_that_replace_one_value_at_once_exactly_one_does(self, place: StatePlace) -> None:
        one, two = await place.store(), await place.store()
        token = await acquired(one, "shop", ALICE)
        saves = [
            store.save("shop", token, "p", stored(offset), replacing=None)
            for offset, store in enumerate((one, two, one, two), start=1)
        ]
        outcomes = await asyncio.gather(*saves, return_exceptions=True)
        winners = [offset for offset, outcome in enumerate(outcomes, start=1) if outcome is None]
        assert len(winners) == 1
        assert [type(outcome) for outcome in outcomes if outcome is not None] == [Unavailable] * 3
        assert await one.load("shop", token, "p") == stored(winners[0])

    async def test_a_wiped_store_knows_no_token_and_mints_other_ones(self, place: StatePlace) -> None:
        """Protocol check, schedule 8: a live holder must not find "nothing stored" where the store forgot its lease."""
        one, two = await place.store(), await place.store()
        forgotten = await acquired(one, "shop", ALICE)
        await one.save("shop", forgotten, "p", stored(5), replacing=None)
        await place.wipe()
        with pytest.raises(Fenced):
            await mended(lambda: one.load("shop", forgotten, "p"))
        with pytest.raises(Fenced):
            await one.save("shop", forgotten, "p", stored(6), replacing=None)
        with pytest.raises(Fenced):
            await one.renew("shop", forgotten, LONG_SECONDS)
        new = await mended(lambda: two.acquire("shop", BOB, LONG_SECONDS))
        assert new is not None
        assert new != forgotten
        await one.release("shop", forgotten)
        with pytest.raises(Fenced):
            await one.load("shop", forgotten, "p")
        assert await two.load("shop", new, "p") is None

    # --- audit --------------------------------------------------------------------------------------------------------

    async def test_the_audit_trail_is_read_newest_first(self, place: StatePlace) -> None:
        one, two = await place.store(), await place.store()
        assert await one.audit(10) == []
        records = [audit_record(number) for number in range(5)]
        for number, record in enumerate(records):
            await (one, two)[number % 2].record(record)
        assert await one.audit(10) == records[::-1]
        assert await two.audit(2) == [records[4], records[3]]
        assert await two.audit(0) == []

    async def test_the_audit_trail_is_bounded(self, place: StatePlace, monkeypatch: pytest.MonkeyPatch) -> None:
        assert kept.AUDIT_RECORDS_MAX == 10_000
        monkeypatch.setattr(kept, "AUDIT_RECORDS_MAX", 3)
        store = await place.store()
        for number in range(5):
            await store.record(audit_record(number))
        assert await store.audit(100) == [audit_record(4), audit_record(3), audit_record(2)]

    # --- formats ------------------------------------------------------------------------------------------------------

    async def test_what_a_newer_version_wrote_is_refused_by_name(self, place: StatePlace) -> None:
        await (await place.store()).close()
        await place.claim_format(2)
        with pytest.raises(Misconfigured, match=r"format 2.*upgrade oplog-bridge"):
            await place.store()

    async def test_an_offset_of_a_newer_version_is_refused_by_name(self, place: StatePlace) -> None:
        store = await place.store()
        token = await acquired(store, "shop", ALICE)
        await place.put_stored("p", '{"v":2,"offsets":["5"]}')
        for read in (store.load("shop", token, "p"), store.peek("p")):
            with pytest.raises(Misconfigured, match=r"format 2.*upgrade oplog-bridge"):
                await read

    async def test_an_offset_that_is_not_ours_is_misconfigured(self, place: StatePlace) -> None:
        store = await place.store()
        token = await acquired(store, "shop", ALICE)
        await place.put_stored("p", "5")
        with pytest.raises(Misconfigured, match="oplog-bridge offsets set"):
            await store.load("shop", token, "p")

    # --- life ---------------------------------------------------------------------------------------------------------

    async def test_a_store_may_be_closed_twice_and_opened_again_and_its_lease_goes_on(self, place: StatePlace) -> None:
        store = await place.store()
        token = await acquired(store, "shop", ALICE)
        await store.save("shop", token, "p", stored(5), replacing=None)
        await store.close()
        await store.close()
        await store.open()
        assert await store.load("shop", token, "p") == stored(5)
        await store.renew("shop", token, LONG_SECONDS)
        assert await (await place.store()).acquire("shop", BOB, LONG_SECONDS) is None

    async def test_a_closed_store_is_unavailable(self, place: StatePlace) -> None:
        store = await place.store()
        await store.close()
        with pytest.raises(Unavailable, match="not open"):
            await store.acquire("shop", ALICE, LONG_SECONDS)
        with pytest.raises(Unavailable, match="not open"):
            await store.peek("p")

    async def test_closing_one_store_leaves_the_others_alone(self, place: StatePlace) -> None:
        one, two = await place.store(), await place.store()
        token = await acquired(one, "shop", ALICE)
        await two.close()
        await one.renew("shop", token, LONG_SECONDS)

    async def test_a_lease_taken_for_a_cancelled_caller_is_the_next_callers_at_once(self, place: StatePlace) -> None:
        one, two = await place.store(), await place.store()
        for turns in CANCELLED_AFTER_TURNS:
            token = await cancelled_after(turns, asyncio.create_task(one.acquire("shop", ALICE, LONG_SECONDS)))
            if token is None:
                token = await acquired(one, "shop", ALICE)
            await one.renew("shop", token, LONG_SECONDS)
            assert await two.acquire("shop", BOB, LONG_SECONDS) is None
            await one.release("shop", token)

    async def test_a_cancelled_save_happened_or_did_not_and_the_store_goes_on(self, place: StatePlace) -> None:
        store = await place.store()
        token = await acquired(store, "shop", ALICE)
        before: Stored | None = None
        for turns in CANCELLED_AFTER_TURNS:
            value = stored(1000 + turns)
            save = asyncio.create_task(store.save("shop", token, "p", value, replacing=before))
            await cancelled_after(turns, save)
            found = await store.load("shop", token, "p")
            assert found in (before, value)
            assert await store.holder("shop") == ALICE, "an answer is paired with its own request"
            before = stored(2000 + turns)
            # The cancelled save may land yet; it replaces the same value, so one of the two is refused.
            try:
                await store.save("shop", token, "p", before, replacing=found)
            except Unavailable:
                before = await store.load("shop", token, "p")
