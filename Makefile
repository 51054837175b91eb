# Sightline: every target sets up what it needs first (deploy/install), which takes no time when nothing changed.
SHELL := /bin/bash
.DEFAULT_GOAL := help
PYTHON ?=
BIN := .venv/bin
# Two threads of one library on a small machine are slower than one; what needs more sets it itself.
export OMP_NUM_THREADS ?= 1
PYTEST := $(BIN)/python -m pytest --durations=15
# Tests without servers do not disturb each other; the others would be measured and timed beside each other.
SIDE_BY_SIDE := -n auto --maxprocesses 4 --dist loadfile
RUN_OPTIONS ?=
PROTO := $(sort $(wildcard proto/sightline/v1/*.proto))
BUF := .tools/buf/node_modules/@bufbuild/buf-linux-x64/bin/buf
RELEASED := proto/released/v1.binpb

.PHONY: help
help: ## Show this list
	@awk 'BEGIN {FS = ":.*## "; printf "Sightline\n\n"} /^[a-z0-9-]+:.*## / {printf "  make %-18s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# ---- run

.PHONY: install
install: ## Set up this checkout: packages, Triton, broker, store and the page
	@PYTHON="$(PYTHON)" deploy/install

.PHONY: install-checks
install-checks:
	@PYTHON="$(PYTHON)" deploy/install --for-checks

.PHONY: run
run: install ## Start a line on this machine, with its page (Ctrl-C stops it)
	@$(BIN)/sightline run $(RUN_OPTIONS)

.PHONY: smoke
smoke: install ## Send 300 frames through a line of its own and count what comes out
	@$(BIN)/sightline smoke --frames 300

# ---- test

.PHONY: test
test: install-checks ## Run every test, the fast ones first
	@$(PYTEST) $(SIDE_BY_SIDE) tests/unit
	@$(PYTEST) tests/contract tests/integration tests/e2e tests/bench tests/fuzz

.PHONY: test-unit
test-unit: install-checks ## Run the tests that need no server
	@$(PYTEST) $(SIDE_BY_SIDE) tests/unit tests/contract -m "not integration"

.PHONY: test-integration
test-integration: install-checks ## Run the tests that speak to a real broker, store and Triton
	@$(PYTEST) tests/contract tests/integration

.PHONY: test-e2e
test-e2e: install-checks ## Run the tests that start the whole line
	@$(PYTEST) tests/e2e

.PHONY: bench
bench: install ## Measure on this machine's processor; tables here, JSON in build/bench
	@$(BIN)/python -m tests.bench

.PHONY: bench-gpu
bench-gpu: install ## Measure on a GPU; says so where there is none
	@$(BIN)/python -m tests.bench --gpu

# ---- check

.PHONY: check
check: install-checks lint typecheck layers proto-check web-check security-check alerts-check chart-check compose-check ## Check everything: code, protocol, page, security and what it is deployed with

.PHONY: fmt
fmt: install-checks ## Format the code
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

.PHONY: lint
lint: install-checks ## Check format and rules
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@deploy/check-words
	@deploy/settings-page --check

.PHONY: docs
docs: install ## Write docs/settings.md anew from the settings
	@deploy/settings-page

.PHONY: typecheck
typecheck: install-checks ## Check types
	@$(BIN)/mypy
	@$(BIN)/mypy --strict deploy/install.py
	@$(BIN)/mypy --strict deploy/security_check.py

.PHONY: layers
layers: install-checks ## Check which package may import which
	@$(BIN)/lint-imports

.PHONY: web-check
web-check: install-checks ## Check types and rules of the page, and run its own tests
	@deploy/npm run check
	@deploy/npm test

.PHONY: security-check
security-check: install-checks ## Check known weaknesses, licences, secrets and calls that run what they read
	@deploy/security-check

.PHONY: alerts-check
alerts-check: install-checks ## Check and test alerts, dashboards and runbooks
	@deploy/alerts-check

.PHONY: dashboards
dashboards: install ## Write Grafana's dashboards anew from deploy/dashboards
	@$(BIN)/python deploy/dashboards

.PHONY: chart
chart: install-checks ## Write the chart's values.schema.json and README anew
	@deploy/chart-schema

.PHONY: chart-check
chart-check: install-checks ## Render the chart with each example and hold it against three versions of Kubernetes
	@deploy/chart-check

.PHONY: compose-check
compose-check: install-checks ## Check the compose files, the images' recipes and their lists of packages
	@deploy/compose-check

# ---- protocol

.PHONY: proto
proto: install-checks ## Generate the code of proto/sightline/v1
	@deploy/proto generate

.PHONY: proto-check
proto-check: install-checks ## Check that generated code is current and that nothing released breaks
	@deploy/proto check

.PHONY: proto-release
proto-release: install-checks ## Make today's protocol the one that later changes must not break
	@deploy/proto release

# ---- rest

.PHONY: lock
lock: install ## Write requirements.lock anew from pyproject.toml
	@deploy/lock.sh

.PHONY: clean
clean: ## Remove what was built, measured and recorded here; keeps what was installed
	@rm -rf build dist .cache .sightline .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	@rm -rf services/dashboard/static

.PHONY: distclean
distclean: clean ## Remove what was installed too
	@rm -rf .venv .tools services/dashboard/web/node_modules sightline.egg-info
