# Two commands do all the set-up on a fresh machine, each by itself:  make demo   make test
# Everything is installed into .venv here and nowhere else. Another interpreter: make PYTHON=python3.12 demo

VENV := .venv
BIN := $(VENV)/bin
# The stamps remember what is installed: a second call costs nothing until pyproject.toml changes.
STAMP_VENV := $(VENV)/.stamp-venv
STAMP_RUN := $(VENV)/.stamp-run
STAMP_DEV := $(VENV)/.stamp-dev
RUFF_PATHS := pet_pipeline tests $(wildcard benchmarks recipes docs/site)

.DEFAULT_GOAL := help
.PHONY: help install demo test test-slow ci lint types layers unit docs model figures clean
.DELETE_ON_ERROR:

help: ## what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(STAMP_RUN) ## install, then translate and score unseen simulated patients into demo/
	$(BIN)/pet-pipeline demo --output demo

test: lint types layers unit ## install with the development extras, then lint, types, layers and the quick tests

test-slow: $(STAMP_DEV) ## the tests that take minutes
	@$(BIN)/python -m pytest -m slow; status=$$?; \
	if [ $$status -eq 5 ]; then echo "no test is marked slow"; else exit $$status; fi

ci: test test-slow ## everything that CI runs

lint: $(STAMP_DEV) ## ruff: rules, docstrings, format
	$(BIN)/ruff check $(RUFF_PATHS)
	$(BIN)/ruff format --check $(RUFF_PATHS)

types: $(STAMP_DEV) ## mypy --strict on the package, the benchmarks and the recipes
	$(BIN)/mypy
	cd benchmarks && MYPYPATH=..:../tests:../tests/fuzz $(abspath $(BIN))/mypy --config-file ../pyproject.toml *.py
	cd recipes && MYPYPATH=.. $(abspath $(BIN))/mypy --config-file ../pyproject.toml *.py

layers: $(STAMP_DEV) ## import-linter: a module imports only from lower floors
	$(BIN)/lint-imports

# Two at a time, a file's tests in one process: what a module's or a session's fixture trained is not trained twice.
unit: $(STAMP_DEV) ## the quick tests alone
	$(BIN)/python -m pytest -m "not slow" -n 2 --dist loadfile

docs: $(STAMP_DEV) ## the documentation site, into build/docs; it opens from disk
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

install: $(STAMP_RUN) ## the package alone, into .venv

model: $(STAMP_RUN) ## train the built-in model again from its recipe, into build/model (hours; goes on where it stopped)
	$(BIN)/python recipes/phantom_fdg_5mm.py --output build/model

figures: $(STAMP_RUN) ## the figures of README and model card (long)
	$(BIN)/python benchmarks/quality.py --write README.md

# build/ and runs/ hold trained models, hours of work: only their owner deletes them.
clean: ## remove .venv, caches and demo/; build/ and runs/ stay
	rm -rf $(VENV) demo *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find pet_pipeline tests benchmarks recipes -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true

# A name on PATH is not yet a Python: version managers put stand-ins there, and Debian splits venv off. So each
# candidate is asked, the machine's own python3 first.
$(STAMP_VENV):
	@for candidate in $(PYTHON) python3 python3.13 python3.12 python3.11 python; do \
	  if $$candidate -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then \
	    echo "creating $(VENV) with $$($$candidate --version)"; \
	    $$candidate -m venv --clear $(VENV) && touch $@ && exit 0; \
	  fi; \
	done; \
	echo "make: no Python 3.11 or newer with venv on PATH; on Debian or Ubuntu: apt-get install python3 python3-venv" >&2; \
	exit 1

$(STAMP_RUN): pyproject.toml | $(STAMP_VENV)
	$(BIN)/python -m pip install --editable .
	@touch $@

$(STAMP_DEV): pyproject.toml | $(STAMP_VENV)
	$(BIN)/python -m pip install --editable '.[dev]'
	@touch $@ $(STAMP_RUN)
