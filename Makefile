# make setup      a .venv with everything the tests and checks need
# make demo       the main job, start to report, on the embedded model and data
# make test       the tests, in minutes;  make test-fast: without the slow ones;  make test-all: with the longest too
# make check      lint, types, layers
# make docs       write the generated pages, then run the code blocks of every page
# make mini       make the embedded model and data anew (hours)
#
# Each sets itself up when .venv is missing. PYTHON=python3.12 make ... chooses the Python that .venv is made with.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
BASE := $(VENV)/.base-is-installed
ALL := $(VENV)/.all-is-installed
# Two processes with one thread each: the tests' tensors are too small for more threads to help.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal

.PHONY: setup demo test test-all test-fast check docs mini
.DEFAULT_GOAL := setup

setup: $(ALL)

demo: $(BASE)
	$(BIN)/brushwork demo

test: $(ALL)
	$(PYTEST) -m "not gpu and not thorough"

test-all: $(ALL)
	$(PYTEST) -m "not gpu"

test-fast: $(ALL)
	$(PYTEST) -m "not gpu and not slow"

check: $(ALL)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: $(ALL)
	$(BIN)/python docs/generate.py
	$(PYTEST) tests/test_docs.py

mini: $(ALL)
	$(BIN)/python -m pip install --editable '.[embedded]'
	$(BIN)/python -m embedded.make

# Some systems ship Python without ensurepip: then the system's own pip puts pip into the environment.
$(BIN)/python:
	$(PYTHON) -m venv $(VENV) || { $(PYTHON) -m venv --clear --without-pip $(VENV) && \
		$(PYTHON) -m pip --python $(BIN)/python install pip; }

$(BASE): pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --editable .
	@touch $@

$(ALL): pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --editable '.[dev]'
	@touch $(BASE) $@
