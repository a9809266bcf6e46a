# Hilum's commands. Each one sets up .venv first, so on a fresh machine `make run` is all there is to type.
#
#   make run  PORT=7861 ARGS="--model weights/my-llava"     any flag of `python app.py serve`
#   make test ARGS="-k tiling"                              any flag of pytest
#   make bench DATA=FOLDER                                  the radiographs' NORMAL/ and PNEUMONIA/, measured too
#   make model FROM=DIR                                     LLaVA-1.5-7B from a folder, not from the hub
#   make bundle OUT=DIR                                     where the tar is put
#   make run  PYTHON=python3.12                             another Python, 3.11 or later
#   make run  PIP_ARGS="--index-url URL"                    any flag of pip: a mirror, a folder of wheels, CPU-only builds of torch

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help run model test lint check bench bench-gpu prove teach smoke-7b docker bundle clean

PYTHON ?= python3
PORT ?=
ARGS ?=
DATA ?=
FROM ?=
OUT ?= .
PIP_ARGS ?=

VENV := .venv
PY := $(VENV)/bin/python
LLAVA := weights/llava-1.5-7b-nf4
INSTALLED := $(VENV)/.installed
INSTALLED_DEV := $(VENV)/.installed-dev

help:
	@echo "make run      serve Hilum at http://127.0.0.1:7860 (PORT=, ARGS=)"
	@echo "make model    fetch LLaVA-1.5-7B, quantise it to 4 bits, check it (FROM=)"
	@echo "make test     the tests; those that need a browser skip where there is none (ARGS='-m slow': the slow ones)"
	@echo "make lint     format check, ruff, mypy"
	@echo "make check    lint and test: what has to pass before a commit"
	@echo "make bench    the numbers of the README (DATA=)"
	@echo "make bench-gpu the engine's numbers on a random 7B in 4 bits, within 8 GB of a GPU (ARGS=)"
	@echo "make prove    what is promised about privacy and faults, measured; Linux (ARGS=--quick, ARGS=--resume)"
	@echo "make teach    reports and films to an adapter, a comparison and grades (DATA=, ARGS=)"
	@echo "make smoke-7b the 7B model's way through this machine, with random weights (ARGS=)"
	@echo "make docker   build the image 'hilum'"
	@echo "make bundle   everything in one tar, for a machine without a network (OUT=)"
	@echo "make clean    remove .venv and the caches, never weights/ or runs/"

run: $(INSTALLED)
	$(PY) app.py serve $(if $(PORT),--port $(PORT)) $(ARGS)

model: $(INSTALLED) | $(LLAVA)
	$(PY) -m chat.engine.checkpoint verify $(LLAVA)

# The folder is there when it is whole; what was interrupted goes on the next time.
$(LLAVA): | $(INSTALLED)
	$(PY) -m chat.engine.checkpoint fetch $(if $(FROM),--from "$(FROM)")
	$(PY) -m chat.engine.checkpoint quantize

test: $(INSTALLED_DEV)
	$(PY) -m pytest -n 2 --dist loadfile $(ARGS)

lint: $(INSTALLED_DEV)
	$(PY) -m ruff format --check .
	$(PY) -m ruff check .
	$(PY) -m mypy

check: lint test

bench: $(INSTALLED_DEV)
	$(PY) -m benchmarks.engine
	$(PY) -m benchmarks.embedded $(if $(DATA),--data $(DATA))

bench-gpu: $(INSTALLED_DEV)
	$(PY) -m benchmarks.engine_7b $(ARGS)

prove: $(INSTALLED_DEV)
	$(PY) -m benchmarks.prove $(ARGS)

teach: $(INSTALLED_DEV)
	$(PY) -m finetune.teach $(if $(DATA),--data $(DATA)) $(ARGS)

smoke-7b: $(INSTALLED)
	$(PY) -m benchmarks.smoke_7b $(ARGS)

bundle: $(INSTALLED)
	deploy/bundle.sh $(PY) "$(OUT)" $(PIP_ARGS)

# The image installs its own packages, so this is the one target that needs no .venv.
docker:
	docker build --tag hilum --build-arg PIP_ARGS="$(PIP_ARGS)" .

clean:
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# pip is the last thing that venv puts in place, so a set-up that broke off is finished the next time.
$(VENV)/bin/pip:
	@$(PYTHON) -c 'import sys; sys.exit(None if sys.version_info >= (3, 11) else "Hilum needs Python 3.11 or later; this is %s. Name another: make run PYTHON=python3.12" % sys.version.split()[0])'
	$(PYTHON) -m venv $(VENV)

$(INSTALLED): requirements.txt | $(VENV)/bin/pip
	$(PY) -m pip install $(PIP_ARGS) --requirement requirements.txt
	@touch $@

$(INSTALLED_DEV): requirements-dev.txt requirements.txt | $(VENV)/bin/pip
	$(PY) -m pip install $(PIP_ARGS) --requirement requirements-dev.txt
	@touch $(INSTALLED) $@
