# Every target prepares the environment it needs: .venv, with the versions of constraints.txt.
# PYTHON chooses the interpreter that makes it (3.11 or newer), ARGS is passed on:  make test ARGS="-k eulerian"

PYTHON ?= python3
ARGS ?=
VENV := .venv
READY := $(VENV)/.ready
BIN := $(VENV)/bin
RUN := runs/demo
# Threads that wait without spinning: spinning ones stall as soon as another process takes a core.
export OMP_WAIT_POLICY := PASSIVE
# Bytecode is kept, also where the surroundings forbid it: tests start hundreds of processes that import the package.
export PYTHONDONTWRITEBYTECODE :=

.DEFAULT_GOAL := help
.PHONY: help env demo test test-slow test-install lint format docs notebooks bench explore gpu hooks clean

help:  ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' Makefile

env: $(READY)  ## Make or refresh the environment in .venv

demo: $(READY)  ## Train a flow map on handwritten digits, sample it in one step, write a report
	$(BIN)/python examples/demo.py $(ARGS)
	@echo "Report:   $(RUN)/report.html (opens in any browser, needs no network)"
	@echo "Pictures: $(RUN)/samples/"

test: $(READY)  ## Run the tests, but for the slow ones
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m "not slow" $(ARGS)

test-slow: $(READY)  ## Run the slow tests: compiling, several processes, whole programs
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m slow $(ARGS)

test-install: $(READY)  ## Install the wheel with each extra into an environment of its own, and use it
	$(BIN)/python tests/install.py $(ARGS)

lint: $(READY)  ## Check style, formatting, types and floors
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo --no-cache

format: $(READY)  ## Format the code and apply safe fixes
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: export NO_MKDOCS_2_WARNING := 1
docs: $(READY)  ## Build the documentation into site/ (open site/index.html)
	$(BIN)/python -m mkdocs build --strict $(ARGS)

notebooks: $(READY)  ## Execute the notebooks in place and keep their outputs
	$(BIN)/python notebooks/execute.py $(ARGS)

bench: $(READY)  ## Run the benchmarks, which write the tables of the documentation
	$(BIN)/python -m pip install -qq --disable-pip-version-check -c constraints.txt --no-build-isolation -e ".[bench]"
	$(BIN)/python -m benchmarks $(ARGS)

explore: $(READY)  ## Train the small networks of the page of the post again, and write explore.html
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.explore $(ARGS)

gpu: $(READY)  ## Check and measure everything that needs a GPU, in nine minutes
	$(BIN)/python -m benchmarks.gpu $(ARGS)

hooks: $(READY)  ## Install the pre-commit hooks in this clone
	$(BIN)/pre-commit install

clean:  ## Remove the environment and the caches (never runs/)
	rm -rf $(VENV) build dist site *.egg-info .pytest_cache .mypy_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# torch comes first and alone, so that its version is the pinned one before anything that depends on it is looked at;
# it brings the setuptools that then builds this package, hence no isolated build environment (which would ignore the pins).
$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("flowmaps needs Python 3.11 or newer, found " + sys.version.split()[0] + "; name another one: make PYTHON=python3.11 ...")'
	@echo "Preparing $(VENV) from constraints.txt; once, and again only when pyproject.toml or constraints.txt change."
	rm -rf flowmaps.egg-info
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -qq --disable-pip-version-check --no-compile -c constraints.txt torch setuptools
	$(BIN)/python -m pip install -qq --disable-pip-version-check --no-compile -c constraints.txt --no-build-isolation -e ".[all,dev]"
	@touch $@
