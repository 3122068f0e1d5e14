SHELL := /bin/bash
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# Processes of the integration tests; those that need Ray share one of them.
WORKERS ?= 0
PYTEST := $(BIN)/coverage run -m pytest -q --durations=10

.PHONY: run stop test check bench fmt

run: $(STAMP)
	$(BIN)/raymill up
	$(BIN)/raymill demo

stop: $(STAMP)
	$(BIN)/raymill down

test: $(STAMP)
	rm -f .coverage .coverage.*
	@echo "== unit";        $(PYTEST) -m "not integration and not ray and not e2e"
	@echo "== integration"; $(PYTEST) -n $(WORKERS) --dist loadgroup -m "integration or ray and not e2e"
	@echo "== end-to-end";  $(PYTEST) -m e2e
	$(BIN)/coverage combine -q
	$(BIN)/coverage report --skip-covered --sort=cover

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(STAMP)
	$(BIN)/python benchmarks $(if $(SOAK),soak)

fmt: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --disable-pip-version-check -q -c constraints.txt -e '.[all]'
	touch $@
