# VENV can be set to build the environment elsewhere: make VENV=/tmp/venv test
VENV ?= .venv
PYTHON ?= python3
BIN = $(VENV)/bin
INSTALLED = $(VENV)/.installed

.PHONY: check test slow bench lint

check: lint test

$(INSTALLED): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet -e '.[dev]'
	touch $@

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

test: $(INSTALLED)
	$(BIN)/python -m pytest

# full-size variants through every recipe (about 45 minutes on two cores); the table is results/convert_matrix.csv
slow: $(INSTALLED)
	$(BIN)/python -m pytest -m slow
	$(BIN)/python benchmarks/convert_matrix.py --out build/matrix

bench: $(INSTALLED)
	$(BIN)/python benchmarks/recipe_latency.py --variant tiny224
	$(BIN)/python benchmarks/recipe_latency.py --variant v2_tiny256
