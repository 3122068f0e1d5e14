SHELL := /bin/bash
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# Processes of the tests that may run beside each other, each with databases of its own.
WORKERS ?= 2
PYTEST := $(BIN)/coverage run -m pytest -q --durations=10
SHARED := -n $(WORKERS) --dist loadgroup --no-loadscope-reorder
# Where the marks stand: to collect every file once more takes a quarter of a minute.
ALONE = $(shell grep -rlE 'mark\.(ray|alone)\b' --include='test_*.py' tests | sort)

.PHONY: run stop test check bench fmt

run: $(STAMP)
	$(BIN)/raymill up
	$(BIN)/raymill demo

stop: $(STAMP)
	$(BIN)/raymill down

test: $(STAMP)
	rm -f .coverage .coverage.*
	@echo "== shared";     $(PYTEST) $(SHARED) -m "not (ray or alone)" --ignore tests/e2e
	@echo "== alone";      $(PYTEST) -m "ray or alone" $(ALONE)
	@echo "== end-to-end"; $(PYTEST) tests/e2e
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
