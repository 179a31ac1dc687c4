# Every command that a person needs. `make` alone lists them. Needs python3 >= 3.11 (or PY=python3.12) and a package index.

PY ?= python3
BIN := .venv/bin
.DEFAULT_GOAL := help

##@ Use it
demo: setup ## Sync a made-up company into an embedded PostgreSQL and show the result
	@$(BIN)/pipeboard demo $(ARGS)

ui: setup ## Dagster's web interface on the same data, http://127.0.0.1:3000
	@$(BIN)/pipeboard ui $(ARGS)

metabase: setup ## Put questions and a dashboard into a Metabase; see README
	@$(BIN)/python -m deploy.metabase $(ARGS)

##@ Work on it
setup: ## Make .venv from requirements.lock; does nothing when it is up to date
	@$(PY) -IS deploy/bootstrap.py

test: setup ## Every test, on real servers that start by themselves (ARGS="-k redis" for some)
	@$(BIN)/python -m pytest $(ARGS)

test-ui: setup ## Dagster's UI in Chromium, as people use it; minutes (make test-packages installs it)
	@$(BIN)/python -m pytest -n 0 tests/ui $(ARGS)

screenshots: setup ## Take the README's pictures of Dagster's UI, by the same tests
	@$(BIN)/python -m pytest -n 0 tests/ui --screenshots=deploy/screenshots

test-deploy: setup ## Image and Compose file on a real Docker engine; where there is none it says what was not run
	@$(BIN)/python -m pytest -n 0 -v -s -m "engine or not engine" tests/deploy $(ARGS)

test-packages: ## Install what only tests want: Debian's packages in deploy/test-packages.txt
	@deploy/test-packages.sh

check: setup ## Lint, format, types, import rules
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

audit: setup ## Known vulnerabilities of what the image holds; asks pypi.org
	$(BIN)/uv tool run pip-audit@2.10.1 --requirement deploy/requirements.lock --require-hashes --disable-pip --strict

format: setup ## Put the code into the one format
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

lives: setup ## 200 random lives of a company against the promise
	@$(BIN)/python -m pytest --dist=load tests/graph/test_life.py --lives 200 $(ARGS)

soak: setup ## Random lives of a company against the promise, for an hour (MINUTES=5 for less)
	@$(BIN)/python -m pytest -n 0 -s tests/graph/test_life.py -k hour --soak-minutes $(or $(MINUTES),60)

bench: setup ## API to PostgreSQL: Pipeboard, the floor and others (tests/bench/RESULTS.md)
	@$(BIN)/python -m tests.bench $(ARGS)

dashboard: setup ## Write Grafana's dashboard from deploy/grafana/dashboard.py
	@$(BIN)/python -m deploy.grafana.dashboard

COMPILE := $(BIN)/uv pip compile pyproject.toml --universal --python-version 3.11 --generate-hashes --no-strip-extras \
	--no-emit-index-url --no-header --quiet
lock: setup ## Write requirements.lock and the image's part of it (ARGS=--upgrade for newer versions)
	$(COMPILE) --group dev --output-file requirements.lock $(ARGS)
	$(COMPILE) --group build --constraint requirements.lock --no-annotate --output-file deploy/requirements.lock

help: ## This list
	@awk 'BEGIN { FS = ":.*## " } /^##@ / { printf "\n%s\n", substr($$0, 5) } \
		/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' Makefile

.PHONY: audit bench check dashboard demo format help lives lock metabase screenshots setup soak test test-deploy test-packages test-ui ui
