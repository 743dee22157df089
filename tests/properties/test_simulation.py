"""The whole line in a simulated world: scenarios drawn from seeds, an oracle that knows the truth, and its teeth."""

from __future__ import annotations

import logging
import random
import sys
import warnings
from collections.abc import Iterator

import pytest
import structlog

from simulation.mutants import MUTANTS, Mutant, kills
from simulation.oracle import Violation
from simulation.scenario import Scenario

FIXED_SEEDS, FRESH_SEEDS = 600, 600


@pytest.fixture(autouse=True, scope="module")
def _quiet() -> Iterator[None]:
    """A log line of every process would cost half of the time, and a killed process's coroutines cannot be closed
    politely."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    before, sys.unraisablehook = sys.unraisablehook, lambda _: None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
    sys.unraisablehook = before
    structlog.reset_defaults()


def holds(seed: int) -> None:
    """Fails with the trace of the scenario, which is the same each time."""
    try:
        Scenario(seed).run()
    except (Violation, RuntimeError) as failure:
        again = Scenario(seed, trace=True)
        with pytest.raises((Violation, RuntimeError)):
            again.run()
        print(*(again.trace or []), sep="\n")
        pytest.fail(f"seed {seed}: {failure}", pytrace=False)


def test_every_scenario_of_a_fixed_slice_holds() -> None:
    for seed in range(FIXED_SEEDS):
        holds(seed)


def test_every_scenario_of_a_fresh_slice_holds() -> None:
    first = random.SystemRandom().randrange(1_000_000, 2**40)
    print(f"again with: make simulate FIRST={first} SEEDS={FRESH_SEEDS}")
    for seed in range(first, first + FRESH_SEEDS):
        holds(seed)


def test_a_seed_is_the_same_scenario_each_time() -> None:
    for seed in (7, 70, 700):
        traces = []
        for _ in range(2):
            scenario = Scenario(seed, trace=True)
            scenario.run()
            traces.append(scenario.trace)
        assert traces[0] == traces[1]
        assert len(traces[0] or []) > 20


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_each_way_of_breaking_the_code_is_found(mutant: Mutant) -> None:
    killed = kills(mutant, mutant.seed)

    assert killed is not None, f"it survives seed {mutant.seed}: `make mutants` finds another"
    print(killed)
    Scenario(mutant.seed, kinds=[*mutant.kinds] or None).run()  # it is the mutant, not the scenario
