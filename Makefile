# `make demo` and `make test` do all the set-up on a fresh machine.

PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test lint install

demo: install
	$(BIN)/kvolve run runs/demo.toml

test: install
	$(BIN)/python -m pytest

lint: install
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

install: .venv/installed

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11) and 'kvolve needs Python 3.11 or newer; say make PYTHON=python3.11')"
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@
