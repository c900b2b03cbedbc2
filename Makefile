# Everything from a machine that has only python3, pip and make.
#   make demo   restore the sample frames, judge and draw them (demo_output/)
#   make test   format, lint, imports, types, tests
#   make lint   the same without the tests
#   make test-slow   tests of minutes each, an hour in all
#   make clean  forget .venv, caches and demo_output/

PYTHON ?= python3
BIN := .venv/bin
CORES := $(shell nproc 2>/dev/null || getconf _NPROCESSORS_ONLN)
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
BUILD := hatchling editables setuptools wheel

.PHONY: demo test test-slow lint clean

demo: .venv/ready
	$(BIN)/python sample_data/demo.py

# As many files of tests at once as this process may use cores (8 at most), with one thread each.
test: lint
	OMP_NUM_THREADS=1 $(BIN)/pytest -n $(CORES) --maxprocesses 8 --dist loadfile

# One of them alone takes longer than a test may that is not stuck.
test-slow: .venv/ready-to-test
	OMP_NUM_THREADS=1 $(BIN)/pytest -m slow -o faulthandler_timeout=7200

lint: .venv/ready-to-test
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports
	$(BIN)/mypy

# The build backends are installed with the rest, so that their versions are pinned ones too; setuptools
# and wheel are those of a dependency that comes as source.
.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(PIP) $(BUILD)
	$(PIP) --no-build-isolation -e .
	touch $@

.venv/ready-to-test: .venv/ready
	$(PIP) --no-build-isolation -e '.[test,lint,bench]'
	touch $@

clean:
	rm -rf .venv demo_output .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
