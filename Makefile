# `make quickstart` and `make test` each work on a fresh machine with Python 3.10 to 3.13.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
OLDEST = .venv-oldest
EXTRAS = all,dev
DATA ?=
CONFIG ?= test_tipc/configs/mobilenext_x0_35/train_infer_python.txt
MODE ?= lite_train_lite_infer

.PHONY: help setup quickstart test test-long checks lint types loops gate docs test-oldest tipc bench bench-train clean

help:
	@echo "make quickstart   set up and evaluate the bundled model on handwritten digits"
	@echo "make test         set up, lint, check types and run the tests"
	@echo "make test-long    the same with the tests that take long, such as 10,000 mutations of each file"
	@echo "make gate         what the commands write, compared with what they wrote (scripts/gate.py)"
	@echo "make docs         the documentation site in build/site, warnings as errors"
	@echo "make setup        .venv with the package and everything optional that runs here"
	@echo "make test-oldest  the tests on the oldest supported Paddle, 2.6.2"
	@echo "make tipc         a TIPC chain (CONFIG=, MODE=): train, eval, export, infer, each step checked"
	@echo "make bench DATA=… evaluation speed and latency against the usual loop"
	@echo "make bench-train  speed of a training step against a plain Paddle loop"

setup: $(VENV)/.done

$(VENV)/.done: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --no-compile -c constraints.txt -e '.[$(EXTRAS)]'
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt --no-deps pnnx  # it asks for PyTorch
	$(BIN)/python -m compileall -qq --workers 0 $(VENV)/lib || true  # on all cores, where pip takes one
	@touch $@

quickstart: setup
	$(BIN)/mobilenext quickstart

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

types: setup
	$(BIN)/mypy

# Two at a time, file by file, those that take longest first (tests/conftest.py). Each has one thread: with more than
# there are cores, threads of OpenMP that wait for one another take up the time of those that work.
PYTEST = OMP_NUM_THREADS=1 $(BIN)/python -m pytest
TWO = -n 2 --dist loadfile --no-loadscope-reorder

test: checks
	$(PYTEST) $(TWO)

test-long: checks
	$(PYTEST) $(TWO) -m "long or not long"

# The loops of training are compiled meanwhile: else several processes of the tests would do it, each for itself. So is
# the bytecode: where the environment forbids Python to write it, each process would compile all modules again.
checks: setup
	@$(MAKE) --no-print-directory --jobs=2 lint types loops

loops: setup
	$(BIN)/python -m compileall -qq src tests || true
	PYTHONPATH=tests $(BIN)/python -W ignore -c "from warm import load_kernels; load_kernels()"

gate: setup
	$(BIN)/python scripts/gate.py check

docs: $(VENV)/.docs
	$(BIN)/sphinx-build -q -W --keep-going -c docs -d build/doctrees . build/site
	@echo "build/site/index.html"

$(VENV)/.docs: $(VENV)/.done
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[docs]'
	@touch $@

test-oldest: $(OLDEST)/.done
	$(OLDEST)/bin/python -m pytest

$(OLDEST)/.done: pyproject.toml constraints-oldest.txt
	$(PYTHON) -m venv $(OLDEST)
	$(OLDEST)/bin/pip install --quiet --disable-pip-version-check -c constraints-oldest.txt -e '.[cpu,quickstart,train,dev]'
	@touch $@

tipc: setup
	$(BIN)/python test_tipc/run.py $(CONFIG) $(MODE)

bench: setup
	@test -n "$(DATA)" || { echo "usage: make bench DATA=folder-with-imgs-and-val_list.txt"; exit 2; }
	$(BIN)/python benchmarks/evaluation.py $(DATA)

bench-train: setup
	$(BIN)/python benchmarks/training.py

clean:
	rm -rf $(VENV) $(OLDEST) .pytest_cache .mypy_cache .ruff_cache
