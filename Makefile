# make demo         from nothing: environment, installation, a trained network, a table and a picture   (first time: + 6 GB of PyTorch)
# make test         from nothing: environment, installation, then `make check`, `make docs` and the fast tests
# make check        linter, formatter and type checker
# make docs         the documentation site in site/; a warning is an error
# make test-slow    the tests that take minutes: several processes, fresh installations, compilation, the demo
# make test-oldest  the fast tests with the oldest supported set and with the newest, in two more environments (Python 3.9 needed)
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin

.PHONY: demo test check docs test-slow test-oldest dist clean

# PyTorch first, then BasicSR without build isolation: pip would fetch a second PyTorch just to build BasicSR's one Python wheel
$(VENV)/installed: setup.py pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --upgrade pip setuptools wheel
	$(BIN)/python -m pip install -q torch torchvision
	$(BIN)/python -m pip install -q --no-build-isolation basicsr
	$(BIN)/python -m pip install -q --no-build-isolation -e ".[dev,docs]"
	touch $@

demo: $(VENV)/installed
	$(BIN)/liif demo

check: $(VENV)/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(VENV)/installed
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

test: check docs
	$(BIN)/python -m pytest -m "not slow"

test-slow: $(VENV)/installed
	$(BIN)/python -m pytest -m slow
	$(MAKE) dist

test-oldest:
	$(PYTHON) scripts/old_and_new.py

dist: $(VENV)/installed
	rm -rf dist build
	$(BIN)/python -m build --no-isolation -o dist .
	$(BIN)/python -m twine check --strict dist/*

clean:
	rm -rf $(VENV) build dist site *.egg-info .pytest_cache .ruff_cache .mypy_cache
