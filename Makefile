# make demo needs Python 3.11 or newer and make; what has to do with RabbitMQ, root or Docker too. Start with: make demo

BROKER ?= sqlite
BROKER_VERSION ?=
MINUTES ?= 10
JOBS ?= 4
# Most tests wait for a broker or for time to pass: more of them than cores run at once, each file or class in one process.
# A test that takes too long is broken off by a signal: the other way ends its process, and the rest would never be run.
IN_PARALLEL := -n $(JOBS) --dist loadscope --timeout-method signal
ON_BROKER := $(if $(filter 4,$(BROKER_VERSION)),EVENTBUS_RABBITMQ_ROOT=$(CURDIR)/.rabbitmq4)
PY := .venv/bin/python
DISTRIBUTIONS := . $(patsubst %/pyproject.toml,%,$(sort $(wildcard transports/*/pyproject.toml plugins/*/pyproject.toml)))
PROJECTS := $(DISTRIBUTIONS:%=%/pyproject.toml)
READY := .venv/.ready

.DEFAULT_GOAL := help
.PHONY: help demo test test-rabbitmq4 test-faults soak lint types format bench fuzz broker database lock clean
.NOTPARALLEL:

help:  ## Show this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

demo: $(READY) $(if $(filter rabbitmq secure,$(BROKER)),broker)  ## Run the demo over one SQLite file (or BROKER=memory, rabbitmq, or secure: over mutual TLS)
	$(PY) -m examples.customers.$(if $(filter secure,$(BROKER)),secure,demo --broker $(BROKER))

test: lint types broker database  ## Everything that must pass: lint, types and all tests, with a real RabbitMQ and PostgreSQL
	$(PY) -m pytest $(IN_PARALLEL) --ignore tests/faults
	$(PY) -m pytest tests/faults

test-rabbitmq4: $(READY) database  ## The tests with a broker, on RabbitMQ 4 (root on Debian or Ubuntu)
	@tools/bootstrap.sh broker4
	EVENTBUS_RABBITMQ_ROOT=$(CURDIR)/.rabbitmq4 $(PY) -m pytest $(IN_PARALLEL) tests/rabbitmq tests/admin tests/cli tests/examples tests/dead_letters tests/outbox tests/inbox

lint: $(READY)  ## Check style and the import rules
	.venv/bin/ruff check
	.venv/bin/ruff format --check
	.venv/bin/lint-imports

types: $(READY)  ## Check types, ours and those that a user sees
	.venv/bin/mypy
	.venv/bin/mypy tests/typing/test_typing.py
	.venv/bin/basedpyright tests/typing

format: $(READY)  ## Rewrite the code in our style
	.venv/bin/ruff check --fix
	.venv/bin/ruff format

bench: $(READY) broker  ## Measure us and our peers side by side (a quick run), with a report
	$(PY) -m benchmarks all --quick --json benchmark-report/results.json

fuzz: $(READY)  ## Feed the AMQP reader with hostile bytes for a minute
	$(PY) -m tests.fuzz.fuzz_lane --seconds 60

test-faults: $(READY) $(if $(filter 4,$(BROKER_VERSION)),,broker)  ## All faults against real brokers, with a table (BROKER_VERSION=4: on RabbitMQ 4)
	$(if $(filter 4,$(BROKER_VERSION)),@tools/bootstrap.sh broker4)
	$(ON_BROKER) $(PY) -m tests.faults --everything --report fault-report

soak: $(READY) broker  ## Ten minutes under load with a random fault every 20 s (MINUTES=10)
	$(PY) -m tests.faults.soak --minutes $(MINUTES)

broker:  ## Make sure that a RabbitMQ can be started, installing it if need be
	@tools/bootstrap.sh broker

database:  ## Make sure that a PostgreSQL can be started, installing it if need be
	@tools/bootstrap.sh database

lock: .boot/.ready  ## Choose the newest allowed third-party versions: writes constraints.txt
	tools/bootstrap.sh lock $(DISTRIBUTIONS)

clean:  ## Remove everything that make made
	rm -rf .venv .boot .bench .rabbitmq4 benchmark-report fault-report .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	rm -rf $(foreach folder,$(DISTRIBUTIONS),$(folder)/dist $(folder)/build)
	find . -type d -name __pycache__ -prune -exec rm -rf {} +

$(READY): $(PROJECTS) constraints.txt tools/bootstrap.sh | .boot/.ready
	@tools/bootstrap.sh install $(DISTRIBUTIONS)
	@touch $@

.boot/.ready:
	@tools/bootstrap.sh boot
	@touch $@
