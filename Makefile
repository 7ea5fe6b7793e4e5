# make test | demo | lint make their own environment in .venv; nothing else is needed but python3 (3.10+), pip and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: test demo lint clean

test: $(VENV)/.ready
	$(BIN)/python -m pytest

demo: $(VENV)/.ready
	$(BIN)/python examples/demo.py --out demo

lint: $(VENV)/.ready
	$(BIN)/ruff check .
	$(BIN)/mypy

$(VENV)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[train,dev]'
	touch $@

clean:
	rm -rf $(VENV) demo build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
