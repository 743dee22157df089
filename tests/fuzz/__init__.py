"""Hostile input for everything that parses: `make fuzz TARGET=page-v4 RUNS=1000000`.

targets.py     what is fuzzed, what it may say, and what must be true of what it takes
admin.py       one of them: requests to the admin server, as bytes on a socket
mutate.py      seeded mutations without coverage, for the test suite
corpus/        inputs that were interesting once, and those that broke something
"""
