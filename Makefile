# Everything that people and CI do here. `make` alone lists it.
PYTHON ?= python3
PIP     = $(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt
VENV   := .venv
BIN    := $(VENV)/bin
ARGS   ?=

.DEFAULT_GOAL := help
.PHONY: simulate mutants help setup demo test test-quick chaos soak fuzz real-data lint types fmt bench golden docs build clean \
        services services-stop services-status services-install

help: ## This list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  %-17s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

# ---- set-up: stamps, so that it is made again only when what it is made from has changed

$(VENV)/created:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { echo "Python >= 3.11 is needed, and $(PYTHON) is $$($(PYTHON) -V 2>&1 | head -1): make PYTHON=python3.12 ..."; exit 1; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || { echo "$(PYTHON) cannot make virtual environments: apt-get install python3-venv"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/core: $(VENV)/created pyproject.toml constraints.txt
	$(PIP) -e .
	@touch $@

$(VENV)/dev: $(VENV)/core
	$(PIP) -e '.[dev]'
	@touch $@

setup: $(VENV)/dev ## Everything to develop with, in .venv

# ---- see it work

demo: $(VENV)/core ## See it work: emulator, bridge and files, for DEMO_FOR=10s or until Ctrl-C
	$(BIN)/oplog-bridge demo $(if $(DEMO_FOR),--for $(DEMO_FOR))

# ---- tests

# On a laptop without Java the tests that need Kafka are skipped, loudly; where CI is set that is an error.
test: setup ## The whole suite, with real servers; ARGS="-k redis -x", ARGS="-n 0 -s" to watch
	@$(BIN)/python tests/services install || test -z "$$CI"
	@# Hundreds of processes are started, and where PYTHONDONTWRITEBYTECODE is set each would compile all of it: 0.15 s.
	@$(BIN)/python -m compileall -q bridge sinks
	@# Half of the suite's time is waiting: two workers, each with servers of its own, a file to one worker.
	$(BIN)/python -m pytest -n 2 --dist loadfile $(ARGS)

test-quick: setup ## Without servers: unit, property and in-memory contract tests
	$(BIN)/python -m pytest tests/unit tests/properties tests/contract --no-servers $(ARGS)

chaos: setup services-install ## Every fault on every sink, on real servers (a quarter of an hour); SINK=kafka FAULT=kill N=50
	cd tests && ../$(BIN)/python -m chaos $(if $(SINK),--sink $(SINK)) $(if $(FAULT),--fault $(FAULT)) $(if $(N),-n $(N)) $(ARGS)

soak: setup services-install ## Ten million entries through each sink, with a fault every few seconds (an hour); SINK=kafka ENTRIES=1000000
	cd tests && ../$(BIN)/python -m chaos.soak $(if $(SINK),--sink $(SINK)) $(if $(ENTRIES),--entries $(ENTRIES)) $(ARGS)

fuzz: setup ## Hostile input for all that parses, guided by coverage; TARGET=page-v4 RUNS=1000000
	$(PIP) atheris
	cd tests && ../$(BIN)/python -m fuzz $(if $(TARGET),--target $(TARGET)) $(if $(RUNS),--runs $(RUNS)) $(ARGS)

real-data: setup services-install ## Carry a real, public change history through every sink and compare
	$(BIN)/python tests/real_data.py $(ARGS)

lint: setup ## Layout and lint
	$(BIN)/ruff format --check --extend-exclude '*.md'
	$(BIN)/ruff check

types: setup ## Types, strictly
	$(BIN)/mypy
	$(BIN)/mypy examples

fmt: setup ## Rewrite the layout and what lint can mend
	$(BIN)/ruff format --extend-exclude '*.md'
	$(BIN)/ruff check --fix

# ---- servers without Docker or root

services: setup ## Start Redis and Kafka, and print their addresses: eval "$(make -s services)"
	@$(BIN)/python tests/services start

services-stop: setup ## Stop them
	@$(BIN)/python tests/services stop

services-status: setup ## Which of them run, and where
	@$(BIN)/python tests/services status || true

services-install: setup ## Fetch Kafka's jars, once (needs a JDK >= 17 and Maven)
	@$(BIN)/python tests/services install

# ---- the rest

simulate: setup ## The whole line in a simulated world; SEEDS=20000, FIRST=0
	cd tests && PYTHONPATH=.:../bridge:../sinks ../$(BIN)/python -m simulation --seeds $(or $(SEEDS),2000) --first $(or $(FIRST),0)

mutants: setup ## Break the code on purpose, and find the seed that shows each way
	cd tests && PYTHONPATH=.:../bridge:../sinks ../$(BIN)/python -m simulation --mutants

bench: setup services-install ## How fast; PEERS=1 also measures the others
	$(if $(PEERS),$(PIP) -e '.[bench]')
	$(BIN)/python benchmarks/bench.py $(if $(PEERS),--peers) $(ARGS)

golden: setup ## Write tests/golden anew: what every format looks like, byte for byte
	PYTHONPATH=bridge:sinks:tests $(BIN)/python tests/golden_files.py

docs: setup ## Write again what is generated from code: tables of exceptions and of the vendor's statements
	PYTHONPATH=bridge:sinks:tests $(BIN)/python tests/exception_table.py
	PYTHONPATH=bridge:sinks:tests $(BIN)/python tests/statements.py

build: setup ## Source distribution and wheel, in dist/
	$(PIP) build
	$(BIN)/python -m build

clean: ## Remove what was made here; the servers' jars stay
	rm -rf $(VENV) dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
