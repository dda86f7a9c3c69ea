# To get started, run make demo and make test. They need Python 3.11 or later, make and git.

PYTHON ?= python3
AIRFLOW_VERSION ?= 3.3.2
VENV ?= .venv
CHROMIUM ?= chromium
RUNS ?= 200
SEED ?= 1
JOBS ?= 1
DESTINATION ?= feed
# Tests wait for a third of their time: three processes for two cores.
PROCESSES ?= $(shell $(PYTHON) -c "import os; print(3 * os.cpu_count() // 2)")
EXAMPLES ?= 5000
DURATION ?= 60
PUBLISHES ?= 5
BIN = $(VENV)/bin
# Tests and the demo start Airflow dozens of times: let none of them compile it.
export UV_COMPILE_BYTECODE = 1
PYTEST = $(BIN)/python -m pytest --numprocesses $(PROCESSES) --dist worksteal

.DEFAULT_GOAL := help
.PHONY: help demo test test-slow test-fast check hooks test-ui test-cluster chromium matrix chaos chaos-sync kills kills-sync kills-postgres kills-assets threads watch fuzz lint format docs bench build release clean

help: ## Show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

demo: $(VENV)/.demo ## Export 26,000 entries from a sandbox through a real Airflow, and copy them to PostgreSQL, with proof
	$(BIN)/python scripts/demo.py

test: $(VENV)/.dev ## Run the tests, on all cores (make test TESTS=tests/export for some)
	$(PYTEST) -m "not slow" $(TESTS)

test-slow: $(VENV)/.dev ## Run the tests that take long: kills, random histories, documented commands
	$(PYTEST) -m slow $(TESTS)

check: $(VENV)/.dev ## Run before you push: style, types and the fast tests, in about a minute
	@$(MAKE) --no-print-directory --jobs 2 lint test-fast

test-fast: $(VENV)/.dev
	$(PYTEST) --quiet -m "not slow and not integration"

hooks: $(VENV)/.dev ## Check style and types before each commit, with pre-commit
	$(BIN)/pre-commit install

chaos: $(VENV)/.dev ## Export under random faults and edits (make chaos RUNS=2000 SEED=1 JOBS=2; RUNS=1 replays a seed)
	$(BIN)/python -m chaos --runs $(RUNS) --seed $(SEED) --jobs $(JOBS)

chaos-sync: $(VENV)/.dev ## Follow a service through random histories (make chaos-sync RUNS=1000 SEED=1 JOBS=2 DESTINATION=postgres, or s3)
	DESTINATION=$(DESTINATION) $(BIN)/python -m chaos.sync --runs $(RUNS) --seed $(SEED) --jobs $(JOBS)

test-ui: chromium $(VENV)/.ui ## Drive the connection form, the Test button and a DAG run in a browser
	CHROMIUM=$(CHROMIUM) $(BIN)/python -m pytest tests/ui

test-cluster: $(VENV)/.cluster ## Publish, and share an export, in a real cluster: Celery, PostgreSQL, workers (PUBLISHES=20 for more)
	PUBLISHES=$(PUBLISHES) $(BIN)/python -m pytest tests/cluster

chromium:
	@command -v $(CHROMIUM) >/dev/null || { echo "Chromium is missing: install the package chromium, or set its command with make test-ui CHROMIUM=..." >&2; exit 1; }

kills: $(VENV)/.dev ## Kill exports at random moments (make kills RUNS=200; SEED=7 for different moments)
	RUNS=$(RUNS) SEED=$(SEED) $(BIN)/python -m pytest --quiet tests/test_kill.py -k random_moments

kills-sync: $(VENV)/.dev ## Kill exports of changes at random moments (make kills-sync RUNS=100 DESTINATION=s3; SEED=7 for different moments)
	DESTINATION=$(DESTINATION) RUNS=$(RUNS) SEED=$(SEED) $(BIN)/python -m pytest --quiet tests/test_kill_sync.py

kills-postgres: $(VENV)/.dev ## Kill runs of a copy in PostgreSQL at random moments (make kills-postgres RUNS=100; SEED=7 for different moments)
	RUNS=$(RUNS) SEED=$(SEED) $(BIN)/python -m pytest --quiet tests/test_kill_postgres.py

kills-assets: $(VENV)/.dev ## Kill exports of assets at random moments (make kills-assets RUNS=100; SEED=7 for different moments)
	RUNS=$(RUNS) SEED=$(SEED) $(BIN)/python -m pytest --quiet tests/test_kill_assets.py

threads: $(VENV)/.dev ## Call from 16 threads with tokens that expire after two seconds (make threads DURATION=60)
	DURATION=$(DURATION) $(BIN)/python -m pytest --quiet tests/api/test_threads.py

watch: $(VENV)/.dev ## Watch a service with faults in a fifth of its responses (make watch DURATION=600)
	DURATION=$(DURATION) $(BIN)/python -m pytest --quiet tests/provider/test_triggers.py -k under_faults

fuzz: $(VENV)/.dev ## Try hostile input (make fuzz EXAMPLES=5000; SEED=7 for different input)
	EXAMPLES=$(EXAMPLES) SEED=$(SEED) $(BIN)/python -m pytest --quiet --show-capture=no tests/test_fuzz.py

matrix: $(VENV)/.dev ## Run the tests on every supported Airflow and Python (MATRIX="--full 3.1.8" for all tests, on one)
	$(BIN)/python scripts/airflow_matrix.py $(MATRIX)

lint: $(VENV)/.dev ## Check style and types
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

format: $(VENV)/.dev ## Format the code and fix what ruff can fix
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

docs: $(VENV)/.docs ## Build the documentation into site/
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict
	@! grep -rnoE '<(script|link|img|iframe)[^>]*(src|href)="?(https?:)?//[^>]*' site --include='*.html'

bench: $(VENV)/.dev ## Compare with the alternatives (about 35 minutes; make bench BENCH=--quick for three)
	$(BIN)/python -m benchmarks $(BENCH)

build: $(VENV)/.dev ## Build wheel and sdist in dist/, and try them in a clean environment
	rm -rf dist
	$(BIN)/uv build --quiet --out-dir dist
	$(BIN)/python scripts/check_build.py --airflow $(AIRFLOW_VERSION)

release: $(VENV)/.dev ## Set the version, date the changelog, commit and tag (make release VERSION=1.2.3)
	$(BIN)/python scripts/release.py $(VERSION)

clean: ## Remove everything that these commands made
	rm -rf $(VENV) .demo .ui dist site .mypy_cache .pytest_cache .ruff_cache
	rm -rf benchmarks/.cache benchmarks/.envs benchmarks/.work

$(BIN)/uv:
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or later is missing: set it with make PYTHON=python3.11 ...") if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv

$(VENV)/.demo: $(BIN)/uv pyproject.toml
	$(BIN)/uv pip install --quiet --python $(BIN)/python "apache-airflow==$(AIRFLOW_VERSION)" --group demo --editable '.[postgres,sandbox]'
	@touch $@

$(VENV)/.dev: $(VENV)/.demo pyproject.toml
	$(BIN)/uv pip install --quiet --python $(BIN)/python --group test --group lint --editable '.[parquet,postgres,sandbox,zstd]'
	@touch $@

$(VENV)/.cluster: $(VENV)/.dev pyproject.toml
	$(BIN)/uv pip install --quiet --python $(BIN)/python --group cluster
	@touch $@

$(VENV)/.docs: $(VENV)/.demo pyproject.toml
	$(BIN)/uv pip install --quiet --python $(BIN)/python --group docs
	@touch $@

$(VENV)/.ui: $(VENV)/.dev pyproject.toml
	$(BIN)/uv pip install --quiet --python $(BIN)/python --group ui
	@touch $@
