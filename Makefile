# The words that people and CI use. `make setup` makes .venv; every other word calls it first.
.DEFAULT_GOAL := help
.PHONY: help setup check test e2e demo demo-kind bench sim lock generate clean
SHELL := bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# Tests that only need Python run in parallel; those with processes of their own do not.
PYTEST := $(BIN)/python -m pytest
# What fails many of these waits for its time limit in each: the first few tell what is wrong.
FEW := --maxfail 8
# `make test` lives the first 1,000 clusters.
SIM_SEEDS ?= 4000
SIM_FIRST ?= 1000

help: ## show these words
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

setup: $(STAMP) ## make .venv with everything pinned by name, version and hash

$(STAMP): requirements/constraints.txt pyproject.toml
	@tools/check-python $(PYTHON)
	@test -x $(BIN)/python || { echo "making $(VENV)"; tools/install-prerequisites venv && $(PYTHON) -m venv $(VENV); }
	@echo "installing the pinned dependencies into $(VENV) (about a minute the first time)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/constraints.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

check: setup ## format, lint, types, import contracts, generated files, the tidy test
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/python tools/generate-crds --check
	tools/install-prerequisites java mvn
	$(BIN)/python tools/generate-kafka-codec --check
	$(PYTEST) -q -p no:cacheprovider tools/tests

test: setup ## unit, simulation, foreign clients, a real Kubernetes API server, a smoke run on kind
	tools/install-prerequisites
	tools/kafka-jars
	tools/raft-transcripts
	tools/history-checker
	$(PYTEST) -n 2 -m "not clients and not java and not kube and not kind"
	$(PYTEST) $(FEW) -m "(clients or java) and not kind"
	$(PYTEST) $(FEW) -m "kube and not kind"
	$(PYTEST) $(FEW) e2e -m "smoke or not kind"

e2e: setup ## every scenario on a real kind cluster
	tools/install-prerequisites
	PENSTOCK_CRASH_ROUNDS=50 $(PYTEST) broker/tests/crash
	$(PYTEST) e2e

demo: setup ## 100,000 messages, the leader killed in the middle, nothing lost (local processes); MODE chooses how brokers replicate
	@$(BIN)/python e2e/demo.py $(if $(MODE),--mode $(MODE))

demo-kind: setup ## the same on a real Kubernetes cluster through kubectl apply; MODE chooses how brokers replicate
	@$(BIN)/python e2e/demo_kind.py $(if $(MODE),--mode $(MODE))

bench: setup ## Penstock and Apache Kafka in turn, with ratios
	tools/install-prerequisites java mvn
	$(BIN)/python -m bench.run --report docs/performance.md
	$(BIN)/python -m bench.replicated --report docs/performance.md
	$(BIN)/python -m bench.failover --report docs/performance.md
	$(BIN)/python -m bench.seeding --report docs/performance.md
	$(BIN)/python -m bench.availability --report docs/availability.md
	$(BIN)/python -m bench.metrics --report docs/performance.md
	$(BIN)/python -m bench.fuzz_socket
	$(BIN)/python -m bench.tracing --report docs/performance.md

sim: setup ## the simulations with more seeds than make test: 4,000 other clusters, 300 shards, logs and Raft groups; SIM_SEEDS and SIM_FIRST choose others
	PENSTOCK_SIM_SEEDS=$(SIM_SEEDS) PENSTOCK_SIM_FIRST=$(SIM_FIRST) $(PYTEST) -q -n 2 broker/tests/simulation broker/tests/master_slave/test_master_simulation.py
	PENSTOCK_SIM_SEEDS=300 $(PYTEST) -q broker/tests/log broker/tests/core broker/tests/raft -n 2 -k simulat

lock: setup ## write the pinned dependencies anew
	PATH=$(CURDIR)/$(BIN):$$PATH tools/lock-dependencies

generate: setup ## write the Kafka codec and the CRDs anew
	$(BIN)/python tools/generate-kafka-codec
	$(BIN)/python tools/generate-crds

clean: ## remove what the words above made
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
