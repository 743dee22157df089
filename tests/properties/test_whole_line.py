"""The whole line under random faults: every sequence once, in order, dead letters once, offsets only forward, in pace.

A failure prints the script of faults as it struck, and hypothesis the example and its seed.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator

import pytest
import structlog
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from simulation import Action, Script, Simulation

ENTRIES = st.lists(
    st.tuples(st.sampled_from(["sound", "sound", "sound", "filtered", "malformed", "rejected"]), st.integers(1, 3)),
    min_size=2,
    max_size=25,
)
EXAMPLES = settings(max_examples=200, suppress_health_check=[HealthCheck.too_slow], deadline=None)


def scripts(*actions: Action, **fixed: object) -> st.SearchStrategy[Script]:
    return st.builds(
        Script,
        entries=ENTRIES,
        faults=st.lists(st.tuples(st.integers(1, 160), st.sampled_from(actions)), min_size=1, max_size=10),
        at_start=st.integers(0, 25),
        page_limit=st.integers(1, 5),
        events_max=st.integers(1, 6),
        instances=st.integers(1, 2),
        pipelines=st.integers(1, 2),
        **{name: st.just(value) for name, value in fixed.items()},
    )


@pytest.fixture(autouse=True, scope="module")
def _quiet() -> Iterator[None]:
    """Thousands of lines of log that nobody reads cost half of the time."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    yield
    structlog.reset_defaults()


@EXAMPLES
@given(scripts("kill", "cancel", "stop", "fail", "hang", "late"))
def test_every_entry_is_delivered_once_and_in_order_whatever_crashes_or_fails(script: Script) -> None:
    simulation = Simulation(script)

    asyncio.run(simulation.run())

    assert simulation.lossless


@EXAMPLES
@given(scripts("kill", "cancel", "stop", "fail", "hang", "late", "late", holds_position=False))
def test_without_a_position_every_entry_is_delivered_at_least_once_and_in_order(script: Script) -> None:
    simulation = Simulation(script)

    asyncio.run(simulation.run())

    assert simulation.lossless


@EXAMPLES
@given(scripts("kill", "fail", "hang", "lose", "forget", "lose", "forget"))
def test_a_destination_or_store_that_loses_acknowledged_data_gets_it_again_and_holds_each_entry_once(
    script: Script,
) -> None:
    simulation = Simulation(script)

    asyncio.run(simulation.run())

    assert simulation.steps > 0
