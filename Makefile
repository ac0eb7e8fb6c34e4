# Everything a fresh clone needs, into .venv. `make demo` and `make test` install what is missing first.
#
#   make demo     build a store from real TiO2 structures, featurize, train with two Ray workers, evaluate, plot, export
#   make test     the test suite; pass options with ARGS, such as ARGS='-m "not ray" -x'
#   make lint     ruff and mypy
#   make pyg      optional: compile torch-scatter and torch-cluster (about ten minutes on two cores)
#
# PyPI's torch for Linux brings CUDA along (gigabytes). Another build goes in through TORCH, for example
#   make env TORCH="torch==2.13.0 --index-url https://download.pytorch.org/whl/cpu"

PYTHON ?= python3
VENV ?= .venv
TORCH ?= torch==2.13.0
MAX_JOBS ?= 2
ARGS ?=

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
READY := $(VENV)/.ready

.DEFAULT_GOAL := help
.PHONY: help env pyg demo test lint format clean

help:
	@sed -n '/^#/!q; s/^# \{0,1\}//p' Makefile

env: $(READY)

# torch first and alone: the index given in TORCH holds nothing else that the package needs.
$(READY): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --quiet --upgrade pip setuptools wheel ninja
	$(PIP) install --quiet $(TORCH)
	$(PIP) install --quiet --editable ".[dev]"
	@touch $@

# Source only on PyPI, and their build imports the torch that is installed: hence no build isolation.
# pip keeps the wheels it builds; one built for another torch does not import, and is built again.
pyg: $(READY)
	MAX_JOBS=$(MAX_JOBS) $(PIP) install --no-build-isolation --editable ".[pyg]"
	@$(BIN)/python -c "import torch_scatter, torch_cluster" || MAX_JOBS=$(MAX_JOBS) $(PIP) install \
		--no-build-isolation --no-deps --no-cache-dir --force-reinstall torch-scatter torch-cluster

demo: $(READY)
	$(BIN)/aenet-ray train examples/tio2.yaml $(ARGS)

test: $(READY)
	$(BIN)/python -m pytest $(ARGS)

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
