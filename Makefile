# `make demo` and `make test` build .venv when it is missing and then do their job.
PYTHON ?= python3
# What was compiled once need not be compiled again by every process that tests start.
export PYTHONDONTWRITEBYTECODE :=
BIN := .venv/bin

.PHONY: demo test pytest faults lint bench install clean

demo: install
	$(BIN)/meddistill demo

# Linters beside the tests, so that no core waits.
test: install
	$(MAKE) --no-print-directory --jobs 2 lint pytest

pytest: install
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder

# Every kill, full disk and damage many times over; takes a quarter of an hour.
faults: install
	MEDDISTILL_FAULT_REPEATS=20 $(BIN)/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder tests/faults tests/features/test_feature_crash.py tests/training/test_checkpoint.py

lint: install
	$(BIN)/ruff check --no-cache src tests benchmarks studies
	$(BIN)/ruff format --check --no-cache src tests benchmarks studies
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: install
	$(BIN)/python -m benchmarks

install: .venv/.installed

.venv/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or later is needed; call: make PYTHON=python3.11 ...")'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[train,dev]'
	touch $@

clean:
	rm -rf runs .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
