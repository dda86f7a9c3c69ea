# All that a newcomer needs is make demo and make test; they need Python 3.11 or later, make and git.

PYTHON ?= python3
AIRFLOW_VERSION ?= 3.3.2
VENV ?= .venv
BIN = $(VENV)/bin

.DEFAULT_GOAL := help
.PHONY: help demo test matrix lint format bench build release clean

help: ## Show this
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

demo: $(VENV)/.demo ## Export 26,000 entries from a sandbox through a real Airflow, with proof
	$(BIN)/python scripts/demo.py

test: $(VENV)/.dev ## Run all tests
	$(BIN)/python -m pytest

matrix: $(VENV)/.dev ## Run the tests on every supported version of Airflow (MATRIX="--full 3.1.8" for all tests, on one)
	$(BIN)/python scripts/airflow_matrix.py $(MATRIX)

lint: $(VENV)/.dev ## Check style and types
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

format: $(VENV)/.dev ## Put the code into shape
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

bench: $(VENV)/.dev ## Measure next to the alternatives (about an hour; make bench BENCH=--quick for two minutes)
	$(BIN)/python benchmarks/run.py $(BENCH)

build: $(VENV)/.dev ## Build wheel and sdist into dist/, and try them in a clean environment
	rm -rf dist
	$(BIN)/uv build --quiet --out-dir dist
	$(BIN)/python scripts/check_build.py --airflow $(AIRFLOW_VERSION)

release: $(VENV)/.dev ## Set the version, date the changelog, commit and tag: make release VERSION=1.2.3
	$(BIN)/python scripts/release.py $(VERSION)

clean: ## Remove what the other commands made
	rm -rf $(VENV) .demo dist .mypy_cache .pytest_cache .ruff_cache
	rm -rf benchmarks/.cache benchmarks/.envs benchmarks/.work

$(BIN)/uv:
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or later is needed: make PYTHON=python3.11 ...") if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv

$(VENV)/.demo: $(BIN)/uv pyproject.toml
	$(BIN)/uv pip install --quiet --python $(BIN)/python "apache-airflow==$(AIRFLOW_VERSION)" --editable '.[sandbox]'
	@touch $@

$(VENV)/.dev: $(VENV)/.demo pyproject.toml
	$(BIN)/uv pip install --quiet --python $(BIN)/python --group test --group lint --editable '.[parquet,sandbox,zstd]'
	@touch $@
