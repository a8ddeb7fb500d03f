# `make` lists the targets. The first use of one creates .venv with what it needs;
# PYTHON names the interpreter to build it from: make test PYTHON=python3.12
PYTHON ?= python3
JOBS ?= 2
DEMO := results/demo
METHODS := simultaneous alternating negative_momentum lookahead extragradient \
  past_extragradient optimistic optimistic_adam eag_v feg runge_kutta_4 primal_dual \
  anderson consensus symplectic competitive_gradient

VENV := .venv
BIN := $(VENV)/bin
SHELL := /bin/bash

# What is installed for whom; every stamp includes the base.
EXTRAS_base :=
EXTRAS_test := [test]
EXTRAS_docs := [docs]

# Set-up runs under a lock where the system has one, so that two targets started at
# once wait for each other instead of filling one environment together.
LOCK := $(if $(shell command -v flock),flock Makefile)
install = $(LOCK) $(MAKE) -s $(VENV)/.installed-$(1)

# worksteal: a file's tests start on one worker and share its compiled functions.
PYTEST := $(BIN)/python -m pytest -n $(JOBS) --dist worksteal

.DEFAULT_GOAL := help
.PHONY: help demo test test-all check wheel-test bench docs clean

help:  ## show this list
	@grep -E '^[a-z-]+: .*##' Makefile | sed -E 's/:.*## /\t/' | expand -t 12

demo:  ## compare methods on the bilinear game: table, curves, phase portrait
	@$(call install,base)
	@rm -rf $(DEMO)
	$(BIN)/gamedyn compare bilinear --rules $(METHODS) --out $(DEMO)
	@echo
	@echo "pictures: $(CURDIR)/$(DEMO)/convergence.png"
	@echo "          $(CURDIR)/$(DEMO)/phase.png"
	@echo "all of it on one page: $(CURDIR)/$(DEMO)/report.html"

# "quick": programs compile without optimisation, properties are tried on fewer random
# examples (tests/conftest.py). `test-all` runs everything on programs as users compile
# them, on more.
test: export GAMEDYN_TEST_PROFILE ?= quick
# Compiled programs are kept: a second run takes two thirds of the time. XLA's remarks on
# each that it reads, on features that every processor lacks, are not shown.
test: export JAX_COMPILATION_CACHE_DIR ?= $(CURDIR)/.jax_cache
test: export JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS ?= 0
test: export JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES ?= -1
test: export TF_CPP_MIN_LOG_LEVEL ?= 3
# Tests that start processes of their own need not compile the package's sources in each.
test: export PYTHONDONTWRITEBYTECODE :=
test:  ## every test not marked slow, the doctests included
	@$(call install,test)
	$(PYTEST) -m "not slow" $(ARGS)

test-all:  ## every test, on fully optimised programs
	@$(call install,test)
	$(PYTEST) $(ARGS)

check:  ## lint, format, types
	@$(call install,test)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

wheel-test:  ## build the wheel, install it in a new environment, use it far from here
	$(PYTHON) tests/wheel.py

bench:  ## run every benchmark, one after the other; they write benchmarks/results
	@$(call install,base)
	@set -e; for script in benchmarks/[!_]*.py; do \
	  echo "== $$script"; $(BIN)/python $$script; \
	done

docs:  ## build the documentation into site/
	@$(call install,docs)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

clean:  ## remove what the other targets made, benchmark results excepted
	rm -rf $(VENV) $(DEMO) site dist .pytest_cache .ruff_cache .hypothesis .jax_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/.installed-%: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit("gamedyn needs Python 3.11 or later, for \
	example: make PYTHON=python3.12" if sys.version_info < (3, 11) else 0)'
	@test -x $(BIN)/pip || $(PYTHON) -m venv $(VENV)
	@echo "installing gamedyn$(EXTRAS_$*) into $(VENV)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check \
	  -c constraints.txt -e '.$(EXTRAS_$*)'
	@touch $(VENV)/.installed-base $@
