# Every target sets itself up: a machine with Python 3.11, 3.12 or 3.13 and make is enough.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
READY_TESTS := $(VENV)/.ready-tests
# without --no-compile pip compiles all modules at once, most of which are never imported: a minute and 400 MB
PIP := -m pip install --quiet --disable-pip-version-check --no-compile
NOTEBOOKS := $(sort $(wildcard notebooks/0*.ipynb))
export NLPBOOK_PROFILE ?= quick

.PHONY: demo test test-floors test-newest test-tpu lint notebooks measure bench screenshots set-repo clean

## open the pages of the classifiers that ship here, reviews and sentence pairs, until Ctrl-C
demo: $(READY)
	$(BIN)/nlpbook serve --checkpoint doccls paircls

## unit, web, browser and notebook tests
test: $(READY_TESTS)
	$(BIN)/python -m pytest --nbval-lax tests $(NOTEBOOKS)

## the same with the oldest and with the newest versions that setup.py allows (make test-newest PYTHON=python3.13)
test-floors: .venv-floors/.ready
	.venv-floors/bin/python -m pytest --nbval-lax tests $(NOTEBOOKS)

test-newest: .venv-newest/.ready
	.venv-newest/bin/python -m pytest --nbval-lax tests $(NOTEBOOKS)

## training through XLA on its CPU backend, with the torch and torch_xla of Colab's TPU runtime; 7 GB
test-tpu: .venv-tpu/.ready
	PJRT_DEVICE=CPU TPU_SKIP_MDS_QUERY=1 .venv-tpu/bin/python -m pytest -s tests/tpu

lint: $(READY_TESTS)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright

## run every notebook top to bottom in the quick profile and store its outputs
notebooks: $(READY_TESTS)
	$(BIN)/python notebooks/execute.py --store $(NOTEBOOKS) notebooks/solutions.ipynb

## measure over three seeds what notebooks 01 and 03 claim, and write it into them; half an hour on two cores
measure: $(READY_TESTS)
	$(BIN)/python notebooks/measure.py

## the table of tests/benchmarks, printed and written as JSON
bench: $(READY_TESTS)
	$(BIN)/python tests/benchmarks/run.py

## take the README's pictures, docs/*.png, from the running page
screenshots: $(READY_TESTS)
	PYTHONPATH=tests/web $(BIN)/python tests/browser/screenshots.py

## make set-repo REPO=owner/name: write the repository's address into setup.py and the notebooks
set-repo: $(READY)
	$(BIN)/python notebooks/set_repo.py $(REPO)

clean:
	rm -rf $(VENV) .venv-floors .venv-newest .venv-tpu build *.egg-info notebooks/nlpbook .pytest_cache .ruff_cache .hypothesis

# Two steps in one environment: what the pages and notebooks need, and, for all else, what tests and tools need besides.
$(READY): requirements.txt setup.py
	@$(PYTHON) -c "import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))" || \
	  { echo "expected Python 3.11, 3.12 or 3.13, got $$($(PYTHON) --version): run make PYTHON=/path/to/python3.13"; exit 1; }
	@echo "1/3 making the environment $(VENV)"
	@$(PYTHON) -m venv $(VENV)
	@echo "2/3 installing PyTorch and what the notebooks need: some minutes, the first time"
	@$(BIN)/python $(PIP) -r requirements.txt
	@echo "3/3 installing nlpbook_helpers from this folder"
	@$(BIN)/python $(PIP) --no-deps --editable .
	@touch $(READY)

$(READY_TESTS): $(READY) tests/requirements.txt
	@echo "installing what tests, benchmarks and pictures need besides"
	@$(BIN)/python $(PIP) -r tests/requirements.txt
	@touch $(READY_TESTS)

.venv-floors/.ready: RESOLUTION := lowest-direct
.venv-newest/.ready: RESOLUTION := highest
.venv-floors/.ready .venv-newest/.ready: setup.py
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/python $(PIP) uv
	$(@D)/bin/uv pip install --quiet --python $(@D)/bin/python --resolution $(RESOLUTION) --editable ".[test,notebooks]"
	@touch $@

.venv-tpu/.ready: requirements.txt tests/requirements.txt setup.py
	$(PYTHON) -m venv $(@D)
	cat requirements.txt tests/requirements.txt | grep -v -e "^torch==" -e "^-r" -e "^ray" > $(@D)/constraints.txt
	$(@D)/bin/python $(PIP) -c $(@D)/constraints.txt --editable ".[tpu,test]"
	@touch $@
