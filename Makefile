# Everything a developer types. Needs Python 3.11 or newer with venv, and make; `make help` lists the targets.

PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed

.DEFAULT_GOAL := help
.PHONY: help install compiled python demo test chaos fuzz lint check bench docs lock

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-9s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

install: $(STAMP) ## make .venv from the hash-locked requirements; .venv/bin/tocsin is there then
	@echo ".venv/bin/tocsin is ready"

compiled: $(STAMP) ## compile the hot modules where they stand (needs a C compiler): less CPU in the daemon
	TOCSIN_COMPILE=1 $(BIN)/python setup.py --quiet build_ext --inplace

python: ## throw what `make compiled` made away; do so before you change these modules
	rm -rf build gateway/*.so dispatcher/*.so

demo: $(STAMP) ## half a minute of mixed traffic: embedded Postgres, two simulated SMSCs, the daemon
	$(BIN)/tocsin demo

test: $(STAMP) ## the whole suite, on an embedded Postgres or on TOCSIN_TEST_DATABASE_URL
	$(BIN)/python -m pytest -n 4 --dist loadfile

SEEDS ?= 1-20
chaos: $(STAMP) ## seeded faults over daemon, Postgres, SMSC and network, judged by the logs; SEEDS=1-200 for more
	$(BIN)/python -m tests.chaos --seeds $(SEEDS)

SECONDS ?= 600
fuzz: $(STAMP) ## hostile octets for codec, session, segmentation, receipts and replies; SECONDS=60 for less
	$(BIN)/python -m tests.fuzz --seconds $(SECONDS)

lint: $(STAMP) ## format, lint and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/python -m mypy

check: lint ## the same, and the fast tests
	$(BIN)/python -m pytest -n 4 --dist loadfile -m "not slow"

bench: $(STAMP) ## a small form of all benchmarks, about six minutes; benchmarks/README.md has the official ones
	$(BIN)/python -m benchmarks

docs: $(STAMP) ## write the reference pages of docs/ anew from the code
	$(BIN)/python docs/generate.py

lock: ## write requirements*.txt anew from pyproject.toml (needs uv)
	echo 'setuptools>=77' | $(LOCK) --extra embedded --extra dev --output-file requirements.txt -
	echo 'setuptools>=77' | $(LOCK) --constraint requirements.txt --output-file requirements-run.txt -
	$(LOCK) --extra bench --constraint requirements.txt --output-file requirements-bench.txt

# No index, host or path of this machine may get into the files: uv's configuration is not read.
LOCK = uv pip compile pyproject.toml --no-config --quiet --generate-hashes --universal --python-version 3.11 \
	--no-emit-index-url --no-emit-find-links --custom-compile-command "make lock"

$(STAMP): requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "make: $(PYTHON) is not Python 3.11 or newer; name one: make install PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
		{ echo "make: $(PYTHON) lacks venv; on Debian: apt-get install python3-venv" >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@
