# `make run` and `make test` need python3 (3.11 or newer), git and make; everything else is set up here.
# PIP_EXTRA="--extra-index-url https://download.pytorch.org/whl/cpu" sets up with PyTorch's CPU build.
PYTHON ?= python3
PIP_EXTRA ?=
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt $(PIP_EXTRA)
PYTEST := $(BIN)/python -m pytest

.PHONY: run test check docs learn heldout invariance edges bench faults map clean

run: $(VENV)/.run
	$(BIN)/rlrun algo=lstm_dqn env=cartpole

test: $(VENV)/.dev
	$(PYTEST) -n 2 --dist worksteal

check: $(VENV)/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(PYTEST) -n 2 --dist worksteal

docs: $(VENV)/.docs
	$(BIN)/mkdocs build --strict

learn: $(VENV)/.dev
	$(BIN)/python benchmarks/learning.py $(ROWS)

heldout: $(VENV)/.dev
	PYTHONPATH=benchmarks OMP_NUM_THREADS=1 $(BIN)/python -m held_out $(ROWS)

invariance: $(VENV)/.dev
	PYTHONPATH=benchmarks OMP_NUM_THREADS=1 $(BIN)/python benchmarks/invariance.py $(ROWS)

edges: $(VENV)/.dev
	PYTHONPATH=benchmarks OMP_NUM_THREADS=1 $(BIN)/python benchmarks/edges.py $(ROWS)

map: $(VENV)/.run
	$(BIN)/python benchmarks/architecture.py docs/architecture.md

bench: $(VENV)/.run
	$(BIN)/python benchmarks/compare.py

faults: $(VENV)/.dev
	PYTHONPATH=benchmarks OMP_NUM_THREADS=1 $(BIN)/python -m faults $(KIND)

clean:
	rm -rf $(VENV) dist site .pytest_cache .mypy_cache .ruff_cache

# Stamps: a set-up is skipped until what it depends on changes.
$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.run: $(BIN)/python pyproject.toml constraints.txt
	$(PIP) -e '.[plots,render]'
	@touch $@

$(VENV)/.dev: $(BIN)/python pyproject.toml constraints.txt
	$(PIP) -e '.[dev,plots,render]'
	@touch $@ $(VENV)/.run

$(VENV)/.docs: $(BIN)/python pyproject.toml constraints.txt
	$(PIP) -e '.[docs]'
	@touch $@
