# Needs make and Python 3.10 to 3.13; the tests also use gcc. Everything else goes into .venv.

.PHONY: help demo test fuzz lint pixels clean
.DEFAULT_GOAL := help

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check
PYTEST_FLAGS ?= -n 2 --dist loadfile

# The first interpreter that TensorFlow has wheels for and that can make an environment.
PYTHON ?= $(shell for python in python3 python3.12 python3.11 python3.13 python3.10 python; do \
	$$python -c 'import sys, venv, ensurepip; sys.exit(not (3, 10) <= sys.version_info < (3, 14))' 2>/dev/null \
	&& { echo $$python; break; }; done)

help:  ## what there is to do
	@awk -F ':.*## ' '/^[a-z]+:.*## /{printf "  make %-6s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(VENV)/.demo  ## compile a digit reader with its preprocessing, measure it against the usual ways
	@$(BIN)/python specs/digits/demo.py

test: $(VENV)/.dev  ## the whole test suite, with ruff and mypy
	@$(BIN)/python -m pytest $(PYTEST_FLAGS)

fuzz: $(VENV)/.dev  ## 100 000 mutated specs, and models, arrays and formulas in number: SEED=1 CASES=1000 TARGET=npy
	@$(BIN)/python -m tests.fuzz $(if $(SEED),--seed $(SEED)) --cases $(or $(CASES),100000) $(if $(TARGET),--target $(TARGET))

lint: $(VENV)/.dev  ## ruff and mypy alone
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/mypy

pixels: $(VENV)/.dev  ## random cases of every step against the real libraries; MINUTES=5
	@$(BIN)/python benchmarks/pixels.py --minutes $(or $(MINUTES),5)

clean:  ## remove the environment and everything built
	rm -rf $(VENV) build .pytest_cache .mypy_cache .ruff_cache .hypothesis

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "make: no Python 3.10 to 3.13 with venv and pip was found; say make PYTHON=/path/to/python3 (Debian: apt install python3-venv)" >&2; exit 1; }
	@echo "making $(VENV) with $$($(PYTHON) --version)" >&2
	@$(PYTHON) -m venv $(VENV)

# The stamps keep a second call from asking pip again; a changed pyproject.toml makes it ask.
$(VENV)/.demo: pyproject.toml | $(BIN)/python
	@echo "installing pbcompile and TensorFlow into $(VENV): some 700 MB, once" >&2
	@$(PIP) install --editable '.[demo]'
	@touch $@

$(VENV)/.dev: pyproject.toml | $(BIN)/python
	@echo "installing pbcompile, TensorFlow and the development tools into $(VENV): some 800 MB, once" >&2
	@$(PIP) install --editable '.[dev,demo]'
	@touch $@ $(VENV)/.demo
