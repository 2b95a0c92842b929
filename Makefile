# `make demo`, `make quick` and `make test` work on a fresh machine: each sets up what it needs in .venv.
PYTHON ?= python3
JOBS ?= logical
BIN := .venv/bin
INSTALL := $(BIN)/python -m pip install --quiet --constraint constraints.txt
PYTEST := $(BIN)/python -m pytest --numprocesses $(JOBS) --maxprocesses 8
SOURCES := src tests benchmarks examples

# Workers start twice as fast if Python may cache the compiled tests and sources.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo quick test matrix mutation lint docs bench lock clean

# The distance of photographs that are corrupted more and more, without a download.
demo: .venv/demo
	$(BIN)/frechet demo

# The linters and the fast tests: run it after every change.
quick: lint
	$(PYTEST) -m "not slow and not subprocess and not browser and not network and not exhaustive"

# All tests: run it before you submit. COVERAGE=--cov, which CI adds, also measures their coverage; it takes a third longer.
test: .venv/dev
	$(PYTEST) $(COVERAGE) -m "not exhaustive"

# The longest tests, then the core of the tests on every Python, on the lowest allowed versions, and from the wheel.
matrix: .venv/dev
	$(PYTEST) -m exhaustive
	$(BIN)/python scripts/matrix.py

# How many small changes of the code the tests find.
mutation: .venv/dev
	$(BIN)/python scripts/mutation.py

lint: .venv/dev
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: .venv/dev
	$(BIN)/mkdocs build --strict

bench: .venv/dev
	$(BIN)/python benchmarks/limits.py
	@echo "comparisons with other tools: see benchmarks/README.md"

# Upgrade the pinned tools, then run `make test`.
lock:
	rm -rf .venv
	echo > constraints.txt
	$(MAKE) .venv/dev
	echo "# Versions of the development environment (Python 3.11, Linux), used by make. Update: make lock" > constraints.txt
	$(BIN)/python -m pip freeze --exclude-editable | sed -e 's/+cpu//' >> constraints.txt

.venv/bin/python:
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip

.venv/demo: pyproject.toml constraints.txt | .venv/bin/python
	$(INSTALL) --editable '.[demo]'
	@touch $@

.venv/dev: pyproject.toml constraints.txt | .venv/bin/python
	$(INSTALL) torch==2.13.0
	$(INSTALL) --editable '.[demo,fast,torch,jax,report,torchmetrics]' --group dev --group docs
	@touch $@ .venv/demo

clean:
	rm -rf .venv build dist htmlcov .coverage .pytest_cache .mypy_cache .ruff_cache
