"""Notes: the part of the state-store contract about small texts: jobs, pauses, lists of what is still to come."""

from __future__ import annotations

import asyncio

import pytest

from oplogbridge.errors import Fenced
from oplogbridge.state import LeaseToken
from oplogbridge.testing.state_place import ALICE, LONG_SECONDS, StatePlace, acquired, mended

MANY = 1000  # in one step: what one page may bring


class KeepsNotes:
    async def test_what_was_noted_is_read_by_every_store_and_kinds_are_kept_apart(self, place: StatePlace) -> None:
        one, two = await place.store(), await place.store()
        assert await one.notes("job") == {}
        assert await one.note("job", {"a": "1", 'ü "b"\n': '{"x":"日本\\n"}', "empty": ""})
        assert await one.note("pause", {"a": "9"})
        assert await two.notes("job") == {"a": "1", 'ü "b"\n': '{"x":"日本\\n"}', "empty": ""}
        assert await two.note("job", {"a": None, "empty": "2", "never": None})
        assert await one.notes("job") == {'ü "b"\n': '{"x":"日本\\n"}', "empty": "2"}
        assert await one.notes("pause") == {"a": "9"}

    async def test_a_note_that_expects_another_text_changes_nothing(self, place: StatePlace) -> None:
        store = await place.store()
        assert await store.note("job", {"a": "1"}, expected={"a": None})
        for expected in ({"a": None}, {"a": "2"}, {"a": "1", "b": "x"}, {"a": ""}):
            assert not await store.note("job", {"a": "3", "c": "3"}, expected=expected)
        assert await store.notes("job") == {"a": "1"}
        assert await store.note("job", {"a": "2", "b": "2"}, expected={"a": "1", "b": None})
        assert await store.notes("job") == {"a": "2", "b": "2"}

    async def test_of_many_that_expect_one_text_at_once_exactly_one_is_noted(self, place: StatePlace) -> None:
        one, two = await place.store(), await place.store()
        asked = [store.note("job", {"a": str(at)}, expected={"a": None}) for at, store in enumerate((one, two) * 3)]
        noted = await asyncio.gather(*asked)
        assert sum(noted) == 1
        assert await one.notes("job") == {"a": str(noted.index(True))}

    async def test_under_a_lease_only_its_holder_notes(self, place: StatePlace) -> None:
        store = await place.store()
        first = await acquired(store, "shop", ALICE)
        assert await store.note("job", {"a": "1"}, under=LeaseToken("shop", first))
        await store.release("shop", first)
        second = await acquired(store, "shop", ALICE)
        for token in (LeaseToken("shop", first), LeaseToken("other", second)):
            with pytest.raises(Fenced):
                await store.note("job", {"a": "2"}, expected={"a": "1"}, under=token)
        assert await store.notes("job") == {"a": "1"}
        assert await store.note("job", {"a": "2"}, under=LeaseToken("shop", second))

    async def test_a_page_of_notes_is_one_step(self, place: StatePlace) -> None:
        store = await place.store()
        many = {f"{number:04}": f"text {number}" for number in range(MANY)}
        assert await store.note("list", many)
        assert await store.notes("list") == many
        assert await store.note("list", dict.fromkeys(many))
        assert await store.notes("list") == {}

    async def test_a_wiped_store_has_no_notes(self, place: StatePlace) -> None:
        store = await place.store()
        await store.note("job", {"a": "1"})
        await place.wipe()
        assert await mended(lambda: store.notes("job")) == {}
        assert (await place.store()) is not None
        assert await store.acquire("shop", ALICE, LONG_SECONDS) is not None
