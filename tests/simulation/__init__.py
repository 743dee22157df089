"""The real pipeline, supervisor, source reader and lease in a simulated world, driven by a seed.

    python -m simulation --seeds 1000            # from `tests/`; or `make simulate SEEDS=1000`
    python -m simulation --seed 4711 --trace     # one scenario again, step by step

`loop.py` has the processes and their time, `network.py` what happens to a request, `stores.py`, `source.py` and
`sinks/` the other ends, `oracle.py` what must hold, `scenario.py` what a seed means, `mutants.py` the proof that the
oracle bites.
"""
