# Everything a person or CI does with this repository, one target each. Every target makes the environment
# it needs in .venv, from pyproject.toml and the tested versions in constraints.txt, and remakes it when they change.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# All modules would be compiled, and most are never imported; what is imported takes a sixth of that time.
INSTALL := -m pip --disable-pip-version-check install --quiet --no-compile
STAMP := $(VENV)/.installed
BENCH_STAMP := $(VENV)/.installed-bench
IQA_VENV := .venv-iqa
IQA_STAMP := $(IQA_VENV)/.installed
CODE := bigrestore tests examples
FAULTS = $(filter-out %/survival.py %/bad_inputs.py %/fuzz_readers.py $(wildcard tests/faults/test_*.py),$(wildcard tests/faults/*.py))
JOBS ?= 2
MODELS ?= trained
MINUTES ?= 1440

# Or each process would compile all that it imports.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help demo test test-fast test-faults test-iqa gpu-check check lint layers types bench train-all wheel format clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1|\2/' | column -t -s '|'

demo: $(STAMP)  ## restore tissue images, leave a report and demo/before_after.png
	$(BIN)/python examples/demo.py

test: $(STAMP)  ## run the test suite, in JOBS=2 processes
	OMP_NUM_THREADS=$${OMP_NUM_THREADS:-1} $(BIN)/python -m pytest --numprocesses $(JOBS) --dist worksteal

test-fast: $(STAMP)  ## the tests for the desk: all but whole commands, trainings and processes
	OMP_NUM_THREADS=$${OMP_NUM_THREADS:-1} $(BIN)/python -m pytest --numprocesses $(JOBS) --dist worksteal -m "not slow"

test-iqa: $(STAMP) $(IQA_STAMP)  ## hold the scores against pyiqa (non-commercial licence) in an environment of its own
	$(IQA_VENV)/bin/python -m pytest tests/report -m pyiqa

gpu-check: $(STAMP)  ## on a machine with a GPU: hold every method and precision against the CPU, and say how fast it is
	$(BIN)/python -m pytest tests/gpu
	$(BIN)/python -m tests.bench.gpu

test-faults: $(STAMP)  ## kill runs and workers, fill disks, try hostile inputs: under 15 minutes
	@for script in $(FAULTS); do echo "== $$script"; $(BIN)/python $$script || failed="$$failed $$script"; done; \
	  test -z "$$failed" || { echo "wrong:$$failed" >&2; exit 1; }

check: lint layers types test  ## what CI runs: ruff, the layers, mypy --strict, tests

lint: $(STAMP)  ## ruff: rules and format
	$(BIN)/ruff check $(CODE)
	$(BIN)/ruff format --check $(CODE)

layers: $(STAMP)  ## import-linter: no import runs back up
	$(BIN)/lint-imports

types: $(STAMP)  ## mypy --strict
	$(BIN)/mypy

bench: $(BENCH_STAMP)  ## measure every figure of docs/benchmarks.md and print figure, target, measured, met?
	$(BIN)/python -m tests.bench

train-all: $(STAMP)  ## train every shipped model from nothing on DATA=images, into MODELS=trained, in MINUTES=1440 together
	@test -n "$(DATA)" || { echo "name a folder of clean images: make train-all DATA=images" >&2; exit 2; }
	$(BIN)/python examples/train_all.py $(DATA) $(MODELS) --minutes $(MINUTES)

wheel: $(STAMP)  ## build wheel and source distribution, install and test them in empty places
	$(BIN)/python tests/project/wheel_check.py

format: $(STAMP)  ## let ruff lay out the code
	$(BIN)/ruff format $(CODE)
	$(BIN)/ruff check --fix $(CODE)

clean:  ## remove what the targets made, the environment included
	rm -rf $(VENV) $(IQA_VENV) build dist demo bench-results *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find bigrestore tests examples -type d -name __pycache__ -prune -exec rm -rf {} +

# Makes an empty environment in the folder of the argument.
define empty_environment
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "bigrestore needs Python 3.11 or newer, and $(PYTHON) is older or missing; name another one: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	@test -x $(1)/bin/python || $(PYTHON) -m venv $(1) || { \
	  rm -rf $(1); echo "$(PYTHON) cannot make a virtual environment; install its venv package (Debian, Ubuntu: python3-venv)" >&2; exit 1; }
endef

$(VENV)/bin/python:
	$(call empty_environment,$(VENV))

$(STAMP): pyproject.toml constraints.txt | $(VENV)/bin/python
	$(BIN)/python $(INSTALL) --editable '.[dev]' --constraint constraints.txt
	@touch $@

$(BENCH_STAMP): $(STAMP)
	$(BIN)/python $(INSTALL) --editable '.[dev,bench]' --constraint constraints.txt
	@touch $@

# Its packages come before those of .venv, which it sees too; both are installed at once.
$(IQA_STAMP): requirements-iqa.txt | $(VENV)/bin/python
	$(call empty_environment,$(IQA_VENV))
	@$(BIN)/python -c 'import sysconfig; print("import site; site.addsitedir(%r)" % sysconfig.get_path("purelib"))' \
	  > "$$($(IQA_VENV)/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/bigrestore-dev.pth"
	$(IQA_VENV)/bin/python $(INSTALL) --no-deps --requirement requirements-iqa.txt
	@touch $@
