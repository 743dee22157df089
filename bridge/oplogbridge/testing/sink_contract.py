"""The executable half of the sink contract (`oplogbridge.sink`). Every sink passes it, ours like anyone's.

A sink's test file gives a `rig` and gets the suite:

    class TestKafkaSink(SinkContract):
        waived = {"test_a_foreign_writer_is_noticed": "topics may be shared"}

        @pytest.fixture
        async def rig(self, kafka, unique):
            yield KafkaRig(kafka, unique)

What a destination cannot do is waived by the test's name, with the reason; a reason is documentation, so write it for a
reader of the guarantees. Whole abilities (a position, fencing, …) are left out with `lacks`, and a test checks that the
destination lacks just those.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from typing import Any, ClassVar

import pytest

from oplogbridge.testing.sink_delivers import Delivers
from oplogbridge.testing.sink_points import Ability
from oplogbridge.testing.sink_positions import HoldsItsPosition
from oplogbridge.testing.sink_rig import SinkRig
from oplogbridge.testing.sink_survives import Survives


class SinkContract(Delivers, HoldsItsPosition, Survives):
    """Subclass it, give it a `rig` fixture, waive with a reason."""

    waived: ClassVar[Mapping[str, str]] = {}
    # Most fence a predecessor that lives; a file locks him in, and where there is only an expectation he meets it.
    lacks: ClassVar[Set[Ability]] = frozenset({"lock", "expectation"})

    @pytest.fixture
    def rig(self) -> SinkRig:
        raise NotImplementedError("a subclass of SinkContract gives the rig")

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Points that are waived, or that need what this destination lacks, are not collected: nothing is skipped."""
        super().__init_subclass__(**kwargs)
        unknown = [name for name in cls.waived if not hasattr(SinkContract, name)]
        assert not unknown, f"waived, but not in the suite: {unknown}"
        assert all(cls.waived.values()), "a waiver needs a reason"
        for name in dir(SinkContract):
            if name in cls.waived or cls.lacks & getattr(getattr(SinkContract, name), "needs", frozenset()):
                setattr(cls, name, None)

    async def test_it_lacks_just_what_it_says(self, rig: SinkRig) -> None:
        has = {
            "position": rig.traits.holds_position,
            "bare offset": rig.traits.holds_position and rig.keeps_bare_offset,
            "fencing": rig.opening == "fences",
            "expectation": rig.opening == "expects",
            "lock": rig.opening == "is refused",
            "size limit": rig.rejected_bytes is not None,
        }
        assert self.lacks == {ability for ability, present in has.items() if not present}
