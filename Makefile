# Needs only make, bash and Python 3.11 or newer; every target below prepares its own environment.
# Another interpreter: make PYTHON=/path/to/python3 ...    Another place for the shared 6 GB: SUPIR_ENV_DIR=...

.DEFAULT_GOAL := help
.PHONY: help env ready demo test test-corpus test-s3 chaos lint bench quality clean distclean tidy

PYTHON ?=
export PYTHON

BIN := .venv/bin
PIP = $(shell sed -n 2p .venv/.ready)/bin/python -m pip --disable-pip-version-check
SEEDS ?= 5
SEED ?= 1
JOBS ?= 2

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

env: ## prepare .venv (the dependencies go to a cache that all checkouts share); the last line is its path
	@infra/env.sh

ready: # env, without the last line
	@infra/env.sh >/dev/null

demo: ready ## restore the photos in examples/photos into demo-output
	@SUPIR_BIN=$(BIN) examples/demo.sh

test: ready ## run the tests, two files at a time (JOBS=2); pytest's options go into ARGS="..."
	@$(BIN)/python -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder $(ARGS)

test-s3: ready ## run the tests that need an S3 store; installs one first (Debian packages)
	@infra/test-tools.sh store
	@$(BIN)/python -m pytest tests/s3 $(ARGS)

test-corpus: ready ## decode Pillow's own test images (45 MB, fetched by pip into build/corpus): each a photo, or a reason
	@ls build/corpus/pillow-*.tar.gz >/dev/null 2>&1 || \
	  $(PIP) download -q --no-deps --no-binary :all: --dest build/corpus pillow==13.0.0
	@SUPIR_CORPUS=build/corpus $(BIN)/python -m pytest tests/pipeline/test_corpus.py -m slow -s $(ARGS)

chaos: ready ## kill workers, drivers and nodes of runs while the store fails, then check; SEEDS=5 SEED=1 ARGS="..."
	@infra/test-tools.sh store
	@$(BIN)/python -m tests.faults.chaos --seeds $(SEEDS) --seed $(SEED) $(ARGS)

lint: ready ## check format, style and types
	@$(BIN)/python -m ruff format --check .
	@$(BIN)/python -m ruff check .
	@$(BIN)/python -m mypy --strict

bench: ready ## time the demo run; prints a table and, last, one JSON line
	@$(BIN)/python -m tests.bench.demo $(ARGS)

quality: ready ## measure how well the demo model restores photos (15 minutes); ARGS="--write" puts the tables into README
	@$(BIN)/python -m tests.quality $(ARGS)

clean: tidy ## remove .venv, caches and demo-output (not the shared dependencies: make distclean)
	@echo "The shared dependencies are kept; make distclean removes them too."

distclean: tidy ## remove the shared dependencies too; every checkout must then install them again
	@infra/env.sh distclean

tidy: # what clean and distclean have in common
	@rm -rf .venv demo-output build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
