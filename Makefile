# Every target sets up what it needs; a second call finds it done.

PYTHON ?= python3
HOME_DIR ?= .strataflow
SOURCES ?= scripts/sources/complete_journey
FROM ?= 2017-01-01
DATE ?= 2017-12-31
PORT ?= 8080
PYTEST_WORKERS ?= 2
SIZE ?= S

BIN := .venv/bin
READY := .venv/.ready
READY_DEV := .venv/.ready-dev

.DEFAULT_GOAL := help
.PHONY: help setup run up test bench lint format lock clean

help: ## say what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo "Settings, for example make run HOME_DIR=/data/shop: HOME_DIR SOURCES FROM DATE PORT PYTHON SIZE PARTS"

setup: $(READY) ## create .venv with the pinned packages

run: $(READY) ## history, then one more day, through the three DAGs under a real scheduler; ends with a summary
	@$(BIN)/python -m strataflow.embedded run --home $(HOME_DIR) --sources $(SOURCES) --from $(FROM) --date $(DATE)

up: $(READY) ## Airflow with its UI on 127.0.0.1:$(PORT) until Ctrl-C
	@$(BIN)/python -m strataflow.embedded up --home $(HOME_DIR) --sources $(SOURCES) \
		--port $(PORT) --until $(DATE)

test: $(READY_DEV) ## all tests
	@$(BIN)/python -m pytest -q -n $(PYTEST_WORKERS) --dist loadfile --no-loadscope-reorder

bench: $(READY_DEV) ## measure what a day costs: SIZE=S (with 50 random shops, 60 days of causes and a backfill; half an hour), M (under 10 minutes) or L (under 40); PARTS="days rfm" only these; writes docs/bench
	@PYTHONPATH=scripts $(BIN)/python -m bench --size $(SIZE) $(if $(WORK),--work $(WORK)) $(if $(SHOP),--shop $(SHOP)) \
		$(foreach part,$(PARTS),--parts $(part))

lint: $(READY_DEV) ## ruff, sqlfluff, yamllint, and the vocabulary of tags
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/sqlfluff lint --disable-progress-bar dbt_project/models $(wildcard dbt_project/tests)
	@$(BIN)/yamllint --strict .
	@$(BIN)/python -m strataflow.cli tags lint

format: $(READY_DEV) ## let ruff and sqlfluff mend what they can
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .
	@$(BIN)/sqlfluff fix --disable-progress-bar dbt_project/models $(wildcard dbt_project/tests)

# The lock files carry versions and hashes and no address, so they work with any package index.
# Call it with UPGRADE=--upgrade to move to newer versions.
LOCK = $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	--no-emit-find-links --custom-compile-command "make lock" $(UPGRADE)

lock: .venv/bin/uv ## pin the packages again from pyproject.toml
	@printf 'setuptools>=77\n' > .venv/build.in
	@$(LOCK) --output-file requirements-dev.txt --extra postgres --extra lineage --extra spark --extra bench --extra dev pyproject.toml .venv/build.in
	@$(LOCK) --output-file requirements.txt --constraint requirements-dev.txt \
		--extra postgres --extra lineage pyproject.toml .venv/build.in
	@$(LOCK) --output-file requirements-spark.txt --constraint requirements-dev.txt \
		--extra postgres --extra lineage --extra spark pyproject.toml .venv/build.in
	@! grep -nE 'https?://|file:/|--(extra-)?index-url|--find-links' requirements*.txt

clean: ## remove .venv and caches; the home with its data stays
	rm -rf .venv .pytest_cache .ruff_cache .hypothesis dbt_project/target dbt_project/logs

.venv/bin/uv:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "Strataflow needs Python 3.11 or newer: make PYTHON=/path/to/python3.11" >&2; exit 2; }
	@echo "setting up .venv"
	@$(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check uv

INSTALL = $(BIN)/uv pip install --quiet --python $(BIN)/python

$(READY): requirements.txt pyproject.toml | .venv/bin/uv
	@$(INSTALL) --require-hashes --requirements requirements.txt
	@$(INSTALL) --no-deps --no-build-isolation --editable .
	@touch $@

$(READY_DEV): requirements-dev.txt $(READY)
	@$(INSTALL) --require-hashes --requirements requirements-dev.txt
	@touch $@
