# Everything stays inside this folder. The first run makes .venv from the lock files, and later runs use it.

PYTHON ?= python3
PIP_TOOLS := pip-tools==7.6.2

BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --no-input --quiet

.DEFAULT_GOAL := help
.PHONY: help demo test suites lint unit wheel coverage chaos outage soak bench figures lock clean

# The tests start hundreds of Python processes, and none of them should compile the modules again.
unexport PYTHONDONTWRITEBYTECODE

# Tests run on several workers, four for each core, because they mostly wait. See tests/parallel.py.
CORES := $(shell getconf _NPROCESSORS_ONLN)
WORKERS ?= $(shell expr 4 '*' $(CORES))
PARALLEL := --numprocesses $(WORKERS) --dist loadgroup --no-loadscope-reorder

help: ## Show this list
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | while IFS="$$(printf '\t')" read -r target what; do \
	    printf '  make %-8s %s\n' "$$target" "$$what"; done

demo: .venv/.runtime ## Show what Microbatch does: eight letters, five seconds, one embedded server
	@$(BIN)/microbatch demo

test: .venv/.dev ## Check everything: lint, types, imports between packages, all test suites (WORKERS=8 at a time)
	@$(MAKE) --no-print-directory --jobs=2 lint suites

suites: .venv/.dev
	@$(BIN)/python -m pytest --collect-only --quiet >/dev/null || : # compiles the modules once, not in each worker
	$(BIN)/python -m pytest $(PARALLEL)

lint: .venv/.dev ## Check style, types, imports between packages, and the size of modules, classes and functions
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	@$(BIN)/python -m tests.structure

unit: .venv/.dev ## Run the unit tests only
	$(BIN)/python -m pytest $(PARALLEL) tests/unit

wheel: .venv-wheel/.made ## Run all tests on the built wheel (PYTHON=python3.13, TESTS=tests/acceptance)
	.venv-wheel/bin/python -m pytest $(PARALLEL) $(TESTS)

# The exit code reports a failed test, after the figures.
coverage: .venv/.dev ## Run all tests, and show which lines and branches no test reached
	@rm -rf .coverage && mkdir .coverage
	@$(BIN)/coverage run -m pytest $(PARALLEL); status=$$?; \
	    $(BIN)/coverage combine --quiet && $(BIN)/coverage report && exit $$status

chaos: .venv/.dev ## Test the guarantees under faults (SECONDS=300, SEED= of an earlier run, MUTANT= a broken library)
	@$(BIN)/python -m tests.chaos --seconds $(or $(SECONDS),300) $(SEED:%=--seed %) $(MUTANT:%=--mutant %)

outage: .venv/.dev ## Stop a processor's database for a while (SECONDS=20), and check that this does no harm
	@$(BIN)/python -m tests.outage --seconds $(or $(SECONDS),20)

soak: .venv/.runtime ## Run at a steady rate for ten minutes (SECONDS=600), and check that nothing has grown
	$(BIN)/python benchmarks/soak.py $(or $(SECONDS),600)

bench: .venv/.dev .venv-bench/.made ## Measure it and its peers, ten minutes (ONLY=run for one row, ROUNDS=5, SECONDS=1)
	@$(BIN)/python -m benchmarks $(ONLY:%=--only %) $(ROUNDS:%=--rounds %) $(SECONDS:%=--seconds %)

figures: .venv/.dev ## Show the newest results of `make bench` in the README
	@$(BIN)/python -m benchmarks.readme

# The lock files name no index, no path and no machine, and they have the hashes of the files for every platform. So
# any pip can install from them, with any index that has those files.
lock: .venv-lock/.made ## Pin the newest versions of all dependencies in the lock files
	CUSTOM_COMPILE_COMMAND='make lock' .venv-lock/bin/pip-compile $(COMPILE) --extra embedded --extra dashboard \
	    --output-file requirements.lock pyproject.toml requirements.in
	CUSTOM_COMPILE_COMMAND='make lock' .venv-lock/bin/pip-compile $(COMPILE) \
	    --output-file requirements-dev.lock requirements-dev.in
	CUSTOM_COMPILE_COMMAND='make lock' .venv-lock/bin/pip-compile $(COMPILE) \
	    --output-file benchmarks/requirements.lock benchmarks/requirements.in

COMPILE := --quiet --upgrade --generate-hashes --strip-extras --no-emit-index-url --no-emit-find-links \
    --no-emit-trusted-host --no-emit-options

clean: ## Remove what these commands made
	rm -rf .venv .venv-bench .venv-lock .venv-wheel .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .coverage .hypothesis build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# ----------------------------------------------------------------------------------------------------------------------

# Stamps: an empty file for each completed step. An interrupted step leaves no stamp, and is done again.

.venv/.runtime: .venv/.made requirements.lock pyproject.toml
	@echo 'Installing what requirements.lock pins into .venv ...'
	@$(PIP) install --require-hashes -r requirements.lock
	@$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

.venv/.dev: .venv/.runtime requirements-dev.lock
	@echo 'Installing what requirements-dev.lock pins into .venv ...'
	@$(PIP) install --require-hashes -r requirements-dev.lock
	@touch $@

# Built again each time. The checkout is not on the import path of this environment, so the tests import the wheel.
.PHONY: .venv-wheel/.made
.venv-wheel/.made: requirements.lock requirements-dev.lock
	@rm -rf .venv-wheel build/wheel && $(PYTHON) -m venv .venv-wheel
	@echo 'Installing what the lock files pin, and the wheel, into .venv-wheel ...'
	@.venv-wheel/bin/python -m pip --disable-pip-version-check --no-input --quiet install --require-hashes \
	    -r requirements.lock -r requirements-dev.lock
	@.venv-wheel/bin/python -m pip --disable-pip-version-check --no-input --quiet wheel --no-deps --no-build-isolation \
	    --wheel-dir build/wheel .
	@.venv-wheel/bin/python -m pip --disable-pip-version-check --no-input --quiet install --no-deps build/wheel/*.whl

.venv-bench/.made: .venv/.made benchmarks/requirements.lock
	@echo 'Installing what benchmarks/requirements.lock pins into .venv-bench ...'
	@$(BIN)/python -m venv --clear .venv-bench
	@.venv-bench/bin/python -m pip --disable-pip-version-check --no-input --quiet install --require-hashes \
	    -r benchmarks/requirements.lock
	@touch $@

.venv-lock/.made: .venv/.made
	@$(BIN)/python -m venv --clear .venv-lock
	@.venv-lock/bin/python -m pip --disable-pip-version-check --quiet install '$(PIP_TOOLS)'
	@touch $@

.venv/.made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	    echo 'make: Microbatch needs Python 3.11 or later, and "$(PYTHON)" is not one:' \
	        'set PYTHON, as in "make test PYTHON=python3.12".' >&2; exit 1; }
	@$(PYTHON) -m venv --clear .venv || { \
	    echo 'make: "$(PYTHON) -m venv" failed; on Debian it needs the package python3-venv.' >&2; exit 1; }
	@touch $@
