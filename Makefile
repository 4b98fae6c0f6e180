# Every target sets itself up: a machine with Python 3.11, 3.12 or 3.13 and make is enough.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
NOTEBOOKS := $(sort $(wildcard notebooks/0*.ipynb))
export NLPBOOK_PROFILE ?= quick

.PHONY: demo test test-floors test-newest test-tpu lint notebooks bench screenshots set-repo clean

## serve the classifiers that ship here, reviews and sentence pairs, until Ctrl-C
demo: $(READY)
	$(BIN)/python -m nlpbook_helpers serve --checkpoint checkpoints/doccls checkpoints/paircls

## unit, web, browser and notebook tests
test: $(READY)
	$(BIN)/python -m pytest --nbval-lax tests $(NOTEBOOKS)

## the same with the oldest and with the newest versions that setup.py allows (make test-newest PYTHON=python3.13)
test-floors: .venv-floors/.ready
	.venv-floors/bin/python -m pytest --nbval-lax tests $(NOTEBOOKS)

test-newest: .venv-newest/.ready
	.venv-newest/bin/python -m pytest --nbval-lax tests $(NOTEBOOKS)

## training through XLA on its CPU backend, with the torch and torch_xla of Colab's TPU runtime; 7 GB
test-tpu: .venv-tpu/.ready
	PJRT_DEVICE=CPU TPU_SKIP_MDS_QUERY=1 .venv-tpu/bin/python -m pytest -s tests/tpu

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
	rm -rf $(VENV) .venv-floors .venv-newest .venv-tpu build *.egg-info notebooks/nlpbook .pytest_cache .ruff_cache .hypothesis

$(READY): requirements.txt setup.py
	@$(PYTHON) -c "import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))" || \
	  { echo "expected Python 3.11, 3.12 or 3.13, got $$($(PYTHON) --version): run make PYTHON=/path/to/python3.13"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	@touch $(READY)

.venv-floors/.ready: RESOLUTION := lowest-direct
.venv-newest/.ready: RESOLUTION := highest
.venv-floors/.ready .venv-newest/.ready: setup.py
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/python -m pip install --quiet --disable-pip-version-check uv
	$(@D)/bin/uv pip install --quiet --python $(@D)/bin/python --resolution $(RESOLUTION) --editable ".[test,notebooks]"
	@touch $@

.venv-tpu/.ready: requirements.txt setup.py
	$(PYTHON) -m venv $(@D)
	grep -v "^torch==" requirements.txt > $(@D)/constraints.txt
	$(@D)/bin/python -m pip install --quiet --disable-pip-version-check -c $(@D)/constraints.txt --editable ".[tpu,test]"
	@touch $@
