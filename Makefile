# Every verb of the project. Each one does its own set-up: a fresh clone needs git, make and Python 3.11 or newer.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
UV := $(BIN)/uv
READY := $(VENV)/.installed
UV_VERSION := 0.13.9
TORCH := torch==2.13.0
TORCHDATA := torchdata==0.11.0
LIGHTNING := pytorch-lightning==2.6.6 lightning-utilities==0.15.3 torchmetrics==1.9.0 tqdm==4.70.1

.DEFAULT_GOAL := help
.PHONY: help install fmt docs lint test test-torch check audit bench demo lock clean

help: ## Say what each verb does
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

install: $(READY) ## Make .venv and install the locked dependencies and chipmill into it

$(READY): requirements.lock pyproject.toml
	@echo "==> installing the locked dependencies into $(VENV)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	@$(UV) pip sync --quiet --python $(BIN)/python requirements.lock
	@$(UV) pip install --quiet --python $(BIN)/python --no-deps --editable .
	@touch $@

fmt: install ## Format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix-only --quiet .

docs: install ## Write the page of the sensors from their tables
	$(BIN)/chipmill sensors --markdown > docs/sensor-tables.md

lint: install ## Style, types and the architecture
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright
	$(BIN)/lint-imports

test: install ## Pass the tests, with the real components that they start
	$(BIN)/python -m pytest -n 2 --dist loadgroup

test-torch: install ## The same laws with PyTorch there: tensors and DataLoaders
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(TORCH)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps $(TORCHDATA) $(LIGHTNING)
	$(BIN)/python -m pytest -m torch

check: lint test ## What CI runs

audit: install ## Ask a vulnerability service about the locked dependencies
	$(BIN)/python .ci/audit.py

bench: install ## Measure against the physical floor and peers (benchmarks/README.md)
	$(BIN)/python -m benchmarks

demo: install ## The whole way on real scenes (KEEP=1 keeps the Prefect UI up)
	@$(BIN)/python demo/run.py $(if $(KEEP),--keep)

lock: ## Resolve the dependencies anew into requirements.lock
	$(UV) pip compile --quiet --universal --python-version 3.11 --no-emit-index-url \
	  --extra pipeline --extra serve --group dev pyproject.toml -o requirements.lock

clean: ## Remove what the other verbs made
	rm -rf $(VENV) .demo .pytest_cache .ruff_cache .hypothesis .coverage dist
