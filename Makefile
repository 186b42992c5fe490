# Two commands on a fresh machine: `make demo` and `make test`. Both set everything up first.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: setup check test lowest demo latency clean

setup: $(VENV)/.installed

# torch comes first and by its pin: its CPU build is enough, and a range could pull CUDA packages.
$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt torch
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The slow ones mostly compute, so they share the cores out among them; the others may watch a clock.
test: check
	$(BIN)/pytest -m "not slow"
	OMP_NUM_THREADS=1 $(BIN)/pytest -m slow --numprocesses auto --dist worksteal

# 3 GB for each version of Python.
lowest:
	tests/lowest_versions.sh

demo: setup
	$(BIN)/edgeunet demo --force

latency: setup
	$(BIN)/python benchmarks/cpu_latency.py

clean:
	rm -rf $(VENV) build dist demo *.egg-info
