# async_jobs: everything a newcomer needs. `make` lists the targets.
#
# The environment lives in .venv and comes from a lock file with hashes. Two stamp files remember
# what was installed, so that a second run installs nothing.

# The first Python that is new enough; PYTHON=/path/to/python decides otherwise.
IS_NEW_ENOUGH := import sys; sys.exit(sys.version_info < (3, 11))
PYTHON ?= $(firstword $(foreach p,python3 python3.14 python3.13 python3.12 python3.11,\
	$(shell $(p) -c '$(IS_NEW_ENOUGH)' >/dev/null 2>&1 && echo $(p))))

SHELL := /bin/sh
BIN := .venv/bin
PIP_INSTALL = $(BIN)/python -m pip install -qq --disable-pip-version-check --progress-bar off

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:
.PHONY: help demo test test-lowest simulate soak bench bench-quick fairness check docs docs-serve
.PHONY: screenshots diagram openapi cli-page lock clean
MAKEFLAGS += --no-print-directory

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' Makefile

demo: .venv/.run ## run the whole system on a realistic workload, with no services to install; ARGS=--keep
	@$(BIN)/async-jobs demo $(ARGS)

# Three workers for the two cores that CI and small laptops have, because some tests wait for
# processes and leases more than they compute. It is safe because nothing is shared: each worker
# process starts a Postgres of its own, and each test gets a database of its own. The longest tests
# are dealt out first (tests/kit/dealing.py), and `worksteal` evens out the rest. The package is
# compiled first, for the hundreds of programs that tests start: where PYTHONDONTWRITEBYTECODE is
# set, as in containers, each of them would compile it for itself.
test: .venv/.dev ## run all tests on real components; ARGS='-k quota' picks some
	@$(BIN)/python -m compileall -q async_jobs
	@$(BIN)/pytest --quiet --numprocesses=3 --dist=worksteal $(ARGS)

# In an environment of its own, which is made anew: the command line with its log, and the whole
# system in memory. Nothing of the settings in pyproject.toml, which are for a newer pytest.
LOWEST := .venv-lowest/bin
test-lowest: ## try the lowest versions of all dependencies that pyproject.toml allows
	@$(FIND_UV); \
	"$$UV" venv --quiet --clear --python '$(PYTHON)' .venv-lowest && \
	"$$UV" pip install --quiet --python $(LOWEST)/python --resolution lowest-direct \
		'.[client,api,sqs,testing]'
	@$(LOWEST)/async-jobs --version
	@ASYNC_JOBS_DB_DSN=none $(LOWEST)/async-jobs api --no-auth --log-level INFO 2>&1 | \
		grep -q "address must begin with postgresql"
	@$(LOWEST)/python -m pytest --quiet -p no:cacheprovider -c /dev/null --rootdir . \
		-o asyncio_mode=auto -o pythonpath=. --import-mode=importlib \
		tests/unit/test_memory_system.py tests/unit/test_terminal.py

simulate: .venv/.dev ## run the system through seeded worlds where everything goes wrong; ARGS='--seeds 5000'
	@$(BIN)/python -m tests.simulation $(ARGS)

soak: .venv/.dev ## kill and maltreat real processes for some ten minutes; ARGS='--transport sqs'
	@$(BIN)/python -m tests.kills $(ARGS)

# Each system gets an environment of its own under .async_jobs/bench; Redis and an SQS emulator are
# used where they can be had, and named as missing where not.
bench: .venv/.run ## measure beside the floor and all peers; ARGS='--growth' for curves
	@$(BIN)/python -m benchmarks $(ARGS)

bench-quick: .venv/.run ## measure beside the floor and PgQueuer, in less than five minutes
	@$(BIN)/python -m benchmarks --quick $(ARGS)

# In virtual time, so that a busy machine changes nothing. ARGS='--beside COMMIT' puts the package
# of another commit beside this one's in the same tables.
fairness: .venv/.run ## measure deadlines and fairness beside plain policies; ARGS='--quick' in minutes
	@$(BIN)/python -m benchmarks.fairness $(ARGS)

check: .venv/.dev ## lint, format, types, import rules, generated files
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy --strict async_jobs tests examples benchmarks tools
	$(BIN)/pyright
	$(BIN)/lint-imports --no-logo
	$(BIN)/python -m tools.lifecycle_diagram --check
	$(BIN)/python -m tools.openapi_document --check
	$(BIN)/python -m tools.cli_reference --check

# In an environment of its own: what the tests are given pins a docutils of 2022.
docs: .venv-docs/.docs ## build the documentation site; a warning or a wrong link fails it
	@.venv-docs/bin/python -m tools.site

docs-serve: docs ## build the documentation site and serve it on 127.0.0.1:8100
	@.venv-docs/bin/python -m http.server 8100 --bind 127.0.0.1 --directory .async_jobs/site/html

screenshots: .venv/.dev ## take the pictures of docs/dashboard.md again; needs chromium
	$(BIN)/python -m tests.dashboard.screenshots

diagram: .venv/.dev ## write docs/lifecycle.md from the transition table
	$(BIN)/python -m tools.lifecycle_diagram

openapi: .venv/.dev ## write docs/openapi.json from the routes of the HTTP API
	$(BIN)/python -m tools.openapi_document

cli-page: .venv/.dev ## write docs/cli.md from the commands
	$(BIN)/python -m tools.cli_reference

FIND_UV := UV=$$(command -v uv) || { \
	test -x .venv-uv/bin/uv || { \
		echo "Fetching uv for this once ..." && '$(PYTHON)' -m venv .venv-uv && \
		.venv-uv/bin/python -m pip install -qq --disable-pip-version-check uv; }; \
	UV=.venv-uv/bin/uv; }

# Versions that still fit stay; delete the lock files first to take the newest of everything.
# The others are constrained by the first one, so that tests see what users get. The image takes
# deploy.lock, which has no embedded Postgres, and builds the package with build.lock.
LOCK := pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-annotate --custom-compile-command 'make lock'
LIKE_DEV := --constraint requirements/dev.lock --output-file
lock: ## compile requirements/*.lock again from pyproject.toml
	@$(FIND_UV); \
	"$$UV" $(LOCK) pyproject.toml --all-extras --group dev \
		--output-file requirements/dev.lock && \
	"$$UV" $(LOCK) pyproject.toml --extra client --extra api --extra dashboard --extra sqs --extra embedded \
		--extra fast --extra prometheus --extra otel --group build $(LIKE_DEV) requirements/run.lock && \
	"$$UV" $(LOCK) pyproject.toml --extra client --extra api --extra dashboard --extra sqs --extra fast \
		--extra prometheus --extra otel $(LIKE_DEV) requirements/deploy.lock && \
	"$$UV" $(LOCK) --group build $(LIKE_DEV) requirements/build.lock && \
	"$$UV" $(LOCK) pyproject.toml --extra client --extra api --extra prometheus --extra otel \
		--group build --group docs --constraint requirements/deploy.lock \
		--output-file requirements/docs.lock

clean: ## remove the environment and everything generated
	@rm -rf .venv .venv-docs .venv-lowest .venv-uv .async_jobs build dist .hypothesis .import_linter_cache \
		.mypy_cache .pytest_cache .ruff_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

# --- the environment ------------------------------------------------------------------------

.PHONY: .venv
.venv: .venv/.dev

# $(1) is the lock file. The package itself is installed without a build environment: the lock
# holds the build backend too, so that nothing unlocked is ever fetched.
define install
	@echo "Installing $(1) into $(@D) ..."
	@if command -v uv >/dev/null 2>&1; then \
		uv pip install --quiet --python $(BIN)/python --require-hashes -r $(1) && \
		uv pip install --quiet --python $(BIN)/python --no-build-isolation --no-deps -e .; \
	else \
		{ $(BIN)/python -m pip --version || $(BIN)/python -m ensurepip; } >/dev/null 2>&1; \
		$(PIP_INSTALL) --require-hashes -r $(1) && \
		$(PIP_INSTALL) --no-build-isolation --no-deps -e .; \
	fi
	@touch $@
endef

.venv/.run: requirements/run.lock pyproject.toml | .venv/bin/python
	$(call install,requirements/run.lock)

.venv/.dev: requirements/dev.lock pyproject.toml | .venv/bin/python
	$(call install,requirements/dev.lock)
	@touch .venv/.run

.venv-docs/.docs: BIN := .venv-docs/bin
.venv-docs/.docs: requirements/docs.lock pyproject.toml | .venv-docs/bin/python
	$(call install,requirements/docs.lock)

.venv/bin/python .venv-docs/bin/python:
	@'$(PYTHON)' -c '$(IS_NEW_ENOUGH)' 2>/dev/null || { \
		echo "async_jobs needs Python 3.11 or newer; found: $$('$(or $(PYTHON),python3)' -V 2>&1)"; \
		echo "Name another with: make $(MAKECMDGOALS) PYTHON=/path/to/python3.11"; exit 1; } >&2
	@echo "Creating $(@:/bin/python=) with $$('$(PYTHON)' -V) ..."
	@if command -v uv >/dev/null 2>&1; then \
		uv venv --quiet --allow-existing --python '$(PYTHON)' $(@:/bin/python=); \
	else \
		'$(PYTHON)' -m venv $(@:/bin/python=); \
	fi
