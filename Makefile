# Secure Messaging Repository: the verbs of this project. `make` alone lists them.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help demo test test-stack lint reformat pages lock bench chaos chaos-stack flood-stack clean bootstrap-demo bootstrap-test bootstrap-bench bootstrap-stack

# Where an administrator's programs are, which not every search path names.
export PATH := $(PATH):/usr/sbin:/sbin
# Every program of a demonstration or a test starts anew: compiling modules each time would be half of its start.
unexport PYTHONDONTWRITEBYTECODE

BIN := .venv/bin
# What pytest gets: what TESTS names (a path, an id, or options such as -k), or the whole suite in three processes. Each of
# them waits for servers and programs a fifth of its time: two would leave two cores idle, and a third has its own servers.
TESTS ?=
PYTEST_ARGS = $(if $(TESTS),$(TESTS),--numprocesses 3 --dist loadfile --no-loadscope-reorder)

# $(call step,COMMAND) shows the command, runs it and says how long it took.
define step
printf '\n==> %s\n' "$(1)"; began=$$EPOCHSECONDS; $(1); printf '    took %s s\n' "$$((EPOCHSECONDS - began))"
endef

help: ## list the verbs
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: bootstrap-demo ## show the whole system at work on private servers; KEEP=1 leaves them up
	@exec $(BIN)/python -m tests.e2e.demo $(if $(KEEP),--keep,)

test: bootstrap-test ## lint, types, import contracts and every test; TESTS=... runs only those tests
ifeq ($(strip $(TESTS)),)
	@$(MAKE) --no-print-directory lint
endif
	@printf '\n==> pytest %s\n' "$(PYTEST_ARGS)"; exec $(BIN)/python -m pytest $(PYTEST_ARGS)

test-stack: bootstrap-stack ## docker-compose.yml in a Docker engine of its own, alone and as a cluster; needs root
	@exec $(BIN)/python -m pytest $(or $(TESTS),tests/stack)

lint: bootstrap-test ## style, formatting, types, import contracts
	@$(call step,$(BIN)/ruff check .)
	@$(call step,$(BIN)/ruff format --check .)
	@$(call step,$(BIN)/mypy)
	@$(call step,$(BIN)/lint-imports)

reformat: bootstrap-test ## let ruff mend what it can
	@$(BIN)/ruff check --fix . || true
	@$(BIN)/ruff format .

pages: bootstrap-test ## write anew what the documentation takes from the code
	$(BIN)/python -m tests.support.protocol_page
	$(BIN)/python -m tests.support.command_pages
	$(BIN)/python -m tests.support.pictures
	$(BIN)/smr-repository settings > docs/SETTINGS.md

# Hashes of every platform's files, no addresses: where packages come from is the machine's business.
LOCK = CUSTOM_COMPILE_COMMAND='make lock' $(BIN)/pip-compile --quiet --upgrade --generate-hashes --strip-extras --allow-unsafe \
	--no-emit-index-url --no-emit-find-links --no-emit-trusted-host --resolver backtracking
lock: bootstrap-test ## lock the newest versions of all dependencies
	$(LOCK) --output-file requirements/build.lock requirements/build.in
	$(LOCK) --output-file requirements/runtime.lock pyproject.toml
	$(LOCK) --extra dev --output-file requirements/dev.lock --constraint requirements/runtime.lock pyproject.toml requirements/build.in
	$(LOCK) --output-file requirements/mongod.lock requirements/mongod.in
	$(LOCK) --output-file requirements/cwt.lock requirements/cwt.in
	$(LOCK) --output-file requirements/bench.lock requirements/bench.in

bench: bootstrap-bench ## measure, each figure against a floor of the same run; ONLY=name for some, FULL=1 for all rows
	@ONLY='$(ONLY)' FULL='$(FULL)' exec $(BIN)/python -m bench

# SEED=number repeats the plan of another run; OPTIONS="--wire-clients 8" and the like change its size.
DURATION ?= 60
chaos: bootstrap-test ## break everything for DURATION seconds under load, then judge what clients were promised
	@exec $(BIN)/python -m tests.chaos --seconds $(DURATION) $(if $(SEED),--seed $(SEED),) $(OPTIONS)

chaos-stack: bootstrap-stack ## break each server of deploy/cluster.yml in turn, and tell how long clients waited; KINDS=... for some
	@exec $(BIN)/python -m tests.stack $(KINDS)

flood-stack: bootstrap-stack ## flood docker-compose.yml, and tell how long the others waited until it was cut off
	@exec $(BIN)/python -m tests.stack.flood

clean: ## remove .venv/ and what tools left behind
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis build dist *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

bootstrap-demo:
	@./bootstrap.sh demo

bootstrap-test:
	@./bootstrap.sh test

bootstrap-bench:
	@./bootstrap.sh bench

bootstrap-stack:
	@./bootstrap.sh stack
