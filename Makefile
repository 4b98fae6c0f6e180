# Every target sets itself up: make and Python 3.11 or newer are enough; where uv is installed, it is faster.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALL := $(PYTHON) notebooks/install.py
# Three steps in one environment, each with what the one before it has.
PAGES := $(VENV)/.ready-pages
READY := $(VENV)/.ready-notebooks
READY_TESTS := $(VENV)/.ready-tests
PINS := requirements.txt requirements.lock setup.py
NOTEBOOKS := $(sort $(wildcard notebooks/0*.ipynb))
# one process a core, each with one thread: two that spin for the same core take ten times as long
PYTEST := -m pytest --durations=30 -n auto --maxprocesses 4 --dist loadscope --nbval-lax
# what is run headlessly is the small size; `lab` leaves the choice to the hardware
test test-floors test-newest test-tpu test-colab notebooks measure: export NLPBOOK_PROFILE ?= quick
export TORCH_CPU_INDEX ?= https://download.pytorch.org/whl/cpu

.PHONY: demo lab test test-floors test-newest test-tpu test-colab lint lock docs notebooks measure bench screenshots release set-repo clean

## open the pages of the classifiers that ship here, reviews and sentence pairs, until Ctrl-C
demo: $(PAGES)
	$(BIN)/nlpbook serve --checkpoint doccls paircls

## open the notebooks
lab: $(READY)
	$(BIN)/jupyter lab notebooks

## unit, web, browser and notebook tests
test test-floors test-newest: export OMP_NUM_THREADS := 1
test: $(READY_TESTS)
	$(BIN)/python $(PYTEST) tests $(NOTEBOOKS)

## the same with the oldest and with the newest versions that setup.py allows (make test-newest PYTHON=python3.14)
test-floors: .venv-floors/.ready
	.venv-floors/bin/python $(PYTEST) tests $(NOTEBOOKS)

test-newest: .venv-newest/.ready
	.venv-newest/bin/python $(PYTEST) tests $(NOTEBOOKS)

## training through XLA on its CPU backend, with the torch and torch_xla of Colab's TPU runtime; 7 GB
test-tpu: .venv-tpu/.ready
	PJRT_DEVICE=CPU TPU_SKIP_MDS_QUERY=1 .venv-tpu/bin/python -m pytest -s tests/tpu

## every notebook with its install cell, as Colab would run it, under a stand-in for Colab's package (PYTHON=python3.13)
test-colab: .venv-colab/.ready
	.venv-colab/bin/python tests/colab/run.py $(NOTEBOOKS)

lint: $(READY_TESTS)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright
	$(BIN)/python notebooks/spell.py

## the reference of all public names, from their docstrings, as pages in build/docs
docs: $(READY_TESTS)
	$(BIN)/pdoc --docformat google --no-include-undocumented --output-directory build/docs nlpbook_helpers '!nlpbook_helpers[.]'

## renew requirements.lock: the newest of what the pinned packages bring along, for every system and Python
lock: $(READY_TESTS)
	$(BIN)/uv pip compile --quiet --upgrade --universal --strip-extras --python-version 3.11 \
	  --custom-compile-command "make lock" --output-file requirements.lock tests/requirements.txt

## run every notebook top to bottom in the quick profile and store its outputs
notebooks: $(READY_TESTS)
	$(BIN)/python notebooks/execute.py --store $(NOTEBOOKS) notebooks/solutions.ipynb

## measure over five seeds what notebooks 01 and 03 claim, and write it into them; an hour and a half of one core
measure: $(READY_TESTS)
	$(BIN)/python notebooks/measure.py

## the table of tests/benchmarks, printed, written as JSON and added to the history
bench: $(READY_TESTS)
	$(BIN)/python tests/benchmarks/run.py

## take the README's pictures, docs/*.png, from the running page
screenshots: $(READY_TESTS)
	PYTHONPATH=tests/web $(BIN)/python tests/browser/screenshots.py

## build what is published, dist/, and try it: both wheels in an empty environment, the pages without a network
release: $(READY_TESTS)
	$(BIN)/python notebooks/release.py

## make set-repo REPO=owner/name: write the repository's address into setup.py, READMEs and notebooks
set-repo:
	$(PYTHON) notebooks/set_repo.py $(REPO)

clean:
	rm -rf $(VENV) .venv-* build dist *.egg-info notebooks/nlpbook .pytest_cache .ruff_cache .hypothesis

$(PAGES): $(PINS) notebooks/install.py
	@$(INSTALL) pages --folder $(VENV)
	@touch $@

$(READY): $(PINS) notebooks/install.py
	@$(INSTALL) notebooks --folder $(VENV)
	@touch $(PAGES) $@

$(READY_TESTS): $(PINS) notebooks/install.py tests/requirements.txt
	@$(INSTALL) tests --folder $(VENV)
	@touch $(PAGES) $(READY) $@

# uv resolves these anew, without the pins
.venv-floors/.ready: RESOLUTION := lowest-direct
.venv-newest/.ready: RESOLUTION := highest
.venv-floors/.ready .venv-newest/.ready: setup.py
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/python -m pip install --quiet uv
	$(@D)/bin/uv pip install --quiet --python $(@D)/bin/python --resolution $(RESOLUTION) --editable ".[test,notebooks]"
	@touch $@

# asked for PyTorch alone, and once: as an extra index pip would try it five times for every package where it is not reached
.venv-colab/.ready: tests/colab/requirements.txt
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/python -m pip install --quiet --no-compile --no-deps --retries 0 --index-url $(TORCH_CPU_INDEX) \
	  "$$(grep ^torch $<)" || echo "taking PyPI's build of PyTorch, with 3 GB of CUDA libraries"
	$(@D)/bin/python -m pip install --quiet --no-compile -r $<
	@touch $@

.venv-tpu/.ready: requirements.txt tests/requirements.txt setup.py
	$(PYTHON) -m venv $(@D)
	cat requirements.txt tests/requirements.txt | grep -v -e "^torch==" -e "^-r" -e "^ray" > $(@D)/constraints.txt
	$(@D)/bin/python -m pip install --quiet --no-compile -c $(@D)/constraints.txt --editable ".[tpu,test]"
	@touch $@
