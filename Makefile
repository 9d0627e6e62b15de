# Everything sets itself up: `make demo` and `make test` need only make and Python 3.11 or newer.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
DEV := $(VENV)/.ready-dev
BENCH := .venv-bench
PEERS := $(BENCH)/.ready

.PHONY: help setup assets browser demo test faults check bench up lock clean
help: ## show what there is
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 10

setup: $(READY) ## make .venv with the `telltale` command in it

INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check

$(READY): requirements/server.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "Telltale needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) --version 2>&1). Say which: make PYTHON=/path/to/python3"; exit 1; }
	@echo "setting up $(VENV) (once; some minutes on a slow line)"
	@$(PYTHON) -m venv $(VENV)
	@$(INSTALL) --require-hashes --only-binary :all: -r requirements/server.txt
	@$(INSTALL) --no-deps --no-build-isolation --editable .
	@touch $@
	@echo "$(BIN)/telltale is there; to have it on the PATH: . $(BIN)/activate"

# Two come as source only: the oracle of the quality tests (its wheel claims to refuse Python 3.11), and a part of
# brightwind, which reads our exports independently.
$(DEV): $(READY) requirements/dev.txt
	@echo "adding what the tests need"
	@$(INSTALL) --require-hashes --only-binary :all: --no-binary ioos-qc,gmaps -r requirements/dev.txt
	@touch $@

assets: $(READY) ## fetch what the dashboard's pages load (the dashboard does it by itself at its first start)
	@$(BIN)/python -m dashboard.pages.assets

# The pages are tested in a real browser where there is one; as root on Debian or Ubuntu it is installed.
APT := timeout 300 env DEBIAN_FRONTEND=noninteractive apt-get -qq
browser:
	@command -v chromium >/dev/null || command -v chromium-browser >/dev/null || command -v google-chrome >/dev/null || \
	  { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && \
	    { $(APT) update && $(APT) install -y --no-install-recommends chromium fonts-dejavu-core; } >/dev/null 2>&1; } || \
	  echo "no browser: the tests of the dashboard's pages will be skipped"

demo: $(READY) ## a month of a real mast through the whole way, checked by counting (ARGS=--keep leaves it up)
	@$(BIN)/telltale demo $(ARGS)

# Two at a time, each with a broker and a database of its own; tests of one file stay together, and the long ones (the
# first by name) begin first.
JOBS ?= 2
test: $(DEV) browser ## lint, types and all tests
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder $(ARGS)

faults: $(DEV) ## the fault book: each fault in its long form, under load; prints it and writes FAULTS.md
	@$(BIN)/pytest -q -n 0 --faults long tests/fault tests/integration $(ARGS)

check: $(DEV) ## lint, types and the tests that need no broker
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/pytest tests/unit tests/property tests/contract

# Peers have requirements of their own; where they cannot be had, the benchmark says so and goes on.
$(PEERS): requirements/bench.txt
	@echo "setting up $(BENCH) for the peers that are measured beside us"
	@$(PYTHON) -m venv $(BENCH)
	@$(BENCH)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes --only-binary :all: \
	  -r requirements/bench.txt || echo "peers in Python cannot be had here, and are left out"
	@touch $@

bench: $(DEV) $(PEERS) ## figures, each beside a limit measured in the same run
	@$(BIN)/python -m tests.bench $(ARGS)

up: $(READY) ## broker, database and services in the foreground; Ctrl-C stops them
	@$(BIN)/telltale up $(ARGS)

# Hashes for every platform, no host names: pip resolves the names with whatever index the machine is set to.
LOCK := uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --no-annotate pyproject.toml
lock: ## pin again what pyproject.toml asks for
	$(BIN)/$(LOCK) --extra dev -o requirements/dev.txt
	$(BIN)/$(LOCK) --extra all --extra build -o requirements/server.txt
	$(BIN)/$(LOCK) --extra edge -o requirements/edge.txt
	$(BIN)/$(LOCK) --extra bench -o requirements/bench.txt

clean: ## remove .venv and .telltale
	rm -rf $(VENV) $(BENCH) .telltale
