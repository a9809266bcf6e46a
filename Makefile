# Hilum's commands. Each one sets up .venv first, so on a fresh machine `make run` is all there is to type.
#
#   make run  PORT=7861 ARGS="--model weights/my-llava"     any flag of `python app.py serve`
#   make test ARGS="-k tiling"                              any flag of pytest
#   make bench DATA=FOLDER                                  the radiographs' NORMAL/ and PNEUMONIA/, measured too
#   make run  PYTHON=python3.12                             another Python, 3.11 or later
#   make run  PIP_ARGS="--index-url URL"                    any flag of pip: a mirror, a folder of wheels, CPU-only builds of torch

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help run test lint check bench docker clean

PYTHON ?= python3
PORT ?=
ARGS ?=
DATA ?=
PIP_ARGS ?=

VENV := .venv
PY := $(VENV)/bin/python
INSTALLED := $(VENV)/.installed
INSTALLED_DEV := $(VENV)/.installed-dev

help:
	@echo "make run      serve Hilum at http://127.0.0.1:7860 (PORT=, ARGS=)"
	@echo "make test     every test; those that need a browser skip where there is none (ARGS=)"
	@echo "make lint     format check, ruff, mypy"
	@echo "make check    lint and test: what has to pass before a commit"
	@echo "make bench    the numbers of the README (DATA=)"
	@echo "make docker   build the image 'hilum'"
	@echo "make clean    remove .venv and the caches, never weights/ or runs/"

run: $(INSTALLED)
	$(PY) app.py serve $(if $(PORT),--port $(PORT)) $(ARGS)

test: $(INSTALLED_DEV)
	$(PY) -m pytest $(ARGS)

lint: $(INSTALLED_DEV)
	$(PY) -m ruff format --check .
	$(PY) -m ruff check .
	$(PY) -m mypy

check: lint test

bench: $(INSTALLED_DEV)
	$(PY) -m benchmarks.engine
	$(PY) -m benchmarks.embedded $(if $(DATA),--data $(DATA))

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
