"""Faults on real servers, and a count of what arrived: `python -m chaos`, or `make chaos SINK=kafka FAULT=kill N=50`.

line.py           one line under test: source, bridge, destination, state store, each a process of its own
destinations.py   what the five sinks write to, as whoever looks after the servers sees it
faults_*.py       what is done to a line, by what it is done to
catalogue.py      which fault meets which sink, how often
cells.py          one such meeting, and what came of it
report.py         the table of docs/reliability.md
"""
