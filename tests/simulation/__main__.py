"""Run seeds, say how fast, and show the trace of the first that fails."""

from __future__ import annotations

import argparse
import contextlib
import logging
import sys
import time
import warnings

import structlog

from simulation.mutants import MUTANTS, first_seed, kills
from simulation.oracle import Violation
from simulation.scenario import Scenario


def main() -> int:
    parser = argparse.ArgumentParser(prog="simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=1000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--trace", action="store_true")
    parser.add_argument("--mutants", action="store_true", help="find the first seed that kills each mutant")
    arguments = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    sys.unraisablehook = lambda _: None  # coroutines of killed processes cannot be closed politely
    warnings.simplefilter("ignore")
    if arguments.mutants:
        return _mutants()
    seeds = range(arguments.first, arguments.first + arguments.seeds) if arguments.seed is None else [arguments.seed]
    began, handles = time.perf_counter(), 0
    for seed in seeds:
        scenario = Scenario(seed, trace=arguments.trace)
        try:
            scenario.run()
        except (Violation, RuntimeError) as violation:
            again = Scenario(seed, trace=True)
            with contextlib.suppress(Violation, RuntimeError):
                again.run()
            print(*(again.trace or []), sep="\n")
            print(f"seed {seed}: {violation}")
            return 1
        handles += scenario.loop.handles_run
        if arguments.trace:
            print(*(scenario.trace or []), sep="\n")
    seconds = time.perf_counter() - began
    print(f"{len(seeds)} scenarios, {len(seeds) / seconds:.0f} a second, {handles / len(seeds):.0f} steps each")
    return 0


def _mutants() -> int:
    survived = 0
    for mutant in MUTANTS:
        seed = first_seed(mutant)
        survived += seed is None
        said = "SURVIVES" if seed is None else f"seed {seed}: {kills(mutant, seed)}"
        print(f"{mutant.name}: {said[:160]}", flush=True)
    return survived


if __name__ == "__main__":
    raise SystemExit(main())
