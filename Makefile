# Every target sets itself up: a machine with Python 3.11, 3.12 or 3.13 and make is enough.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
NOTEBOOKS := $(sort $(wildcard notebooks/0*.ipynb))
export NLPBOOK_PROFILE ?= quick

.PHONY: demo test lint notebooks bench screenshots set-repo clean

## serve the classifiers that ship here, reviews and sentence pairs, until Ctrl-C
demo: $(READY)
	$(BIN)/python -m nlpbook_helpers serve --checkpoint checkpoints/doccls checkpoints/paircls

## unit, web, browser and notebook tests
test: $(READY)
	$(BIN)/python -m pytest --nbval-lax tests $(NOTEBOOKS)

lint: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright

## run every notebook top to bottom in the quick profile and store its outputs
notebooks: $(READY)
	$(BIN)/python notebooks/execute.py --store $(NOTEBOOKS)

## the table of tests/benchmarks, printed and written as JSON
bench: $(READY)
	$(BIN)/python tests/benchmarks/run.py

## take the README's pictures, docs/*.png, from the running page
screenshots: $(READY)
	PYTHONPATH=tests/web $(BIN)/python tests/browser/screenshots.py

## make set-repo REPO=owner/name: write the repository's address into setup.py and the notebooks
set-repo: $(READY)
	$(BIN)/python notebooks/set_repo.py $(REPO)

clean:
	rm -rf $(VENV) build *.egg-info notebooks/nlpbook .pytest_cache .ruff_cache .hypothesis

$(READY): requirements.txt setup.py
	@$(PYTHON) -c "import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))" || \
	  { echo "expected Python 3.11, 3.12 or 3.13, got $$($(PYTHON) --version): run make PYTHON=/path/to/python3.13"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	@touch $(READY)
