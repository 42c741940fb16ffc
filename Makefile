# Every target does its own set-up. `make demo` needs Python 3.11 alone; `make test` needs Java 17 and Maven besides.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV   := .venv
BIN    := $(VENV)/bin
PACKAGES := alerts billing collector console kernel metering provisioner

FAST := not acceptance and not slow and not services
# Tests start processes by the hundred, each of which would compile all that it imports.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help demo focus test test-fast durations chaos check style types house collect sanitize bench docs up lock clean

help:
	@echo "make demo   the whole product in three minutes: a real Milvus, metered, billed, paged; see demo-out/"
	@echo "make focus  three months of usage, invoiced, exported as FOCUS and checked; see focus-out/"
	@echo "make test   every test, against real Kafka, S3, PostgreSQL and Milvus"
	@echo "make chaos  an hour of kills, cuts, loss and full disks; CHAOS_SEED=N draws other moments"
	@echo "make check  style, types, import contracts, documentation of settings"
	@echo "make sanitize  tests of the compiled kernels, their memory watched (AddressSanitizer, UBSan)"
	@echo "make bench  benchmarks, each against a peer where there is one"
	@echo "make docs   docs/settings.md, written from the settings models"
	@echo "make up     the vendor side in one process, in ./byoc-data"

demo: $(VENV)/.vendor
	$(BIN)/python -m provisioner.local.install 2.3.5
	$(BIN)/byoc demo --out demo-out

focus: $(VENV)/.dev
	rm -rf focus-out
	$(BIN)/python -m console.demo.quarter --out focus-out

up: $(VENV)/.vendor
	$(BIN)/byoc --dir byoc-data up

test: $(VENV)/.dev
	$(BIN)/python -m pytest -q -n 2 -m "$(FAST)" tests
	EFFORT=deep $(BIN)/python -m pytest -q -n 3 --dist loadfile -m "not ($(FAST)) or deep" tests

test-fast: $(VENV)/.dev
	$(BIN)/python -m pytest -q -n 2 -m "$(FAST)" tests

# Which of the fast tests take long, on a quiet machine: they are slow ones from then on.
durations: $(VENV)/.dev
	$(BIN)/python -m pytest -q -n 2 -m "$(FAST)" --write-durations tests

chaos: $(VENV)/.dev
	CHAOS=long $(BIN)/python -m pytest -q tests/chaos

check: style types house

style: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

types: $(VENV)/.dev
	$(BIN)/mypy

house: $(VENV)/.dev
	$(BIN)/python -m pytest -q -m "not slow" tests/house

# Imports every test, and leaves their bytecode, which takes half a minute in each worker of the tests else.
collect: $(VENV)/.dev
	@said=$$($(BIN)/python -m pytest -qq --collect-only tests) || { echo "$$said"; exit 1; }

# Out of bounds, after free, overflow: whatever the tests of the collector's kernel make it do is watched.
ASAN = $(shell $(CC) -print-file-name=libasan.so)
sanitize: $(VENV)/.dev
	$(BIN)/python hatch_build.py -O1 -g -fsanitize=address,undefined -fno-sanitize-recover=all
	LD_PRELOAD=$(ASAN) ASAN_OPTIONS=detect_leaks=0 PYTHONMALLOC=malloc $(BIN)/python -m pytest -q -p no:cacheprovider \
	  tests/collector/test_native.py tests/collector/test_columnar.py tests/wire/frames/test_cells.py \
	  tests/gateway/test_compiled.py tests/lake/test_native.py tests/lake/test_steady.py \
	  tests/gateway/test_foreign_decode.py; found=$$?; $(BIN)/python hatch_build.py; exit $$found

bench: $(VENV)/.dev
	$(BIN)/python -m bench all

docs: $(VENV)/.vendor
	$(BIN)/python -m console.settings_page

# uv and the build back end come by their hashes; uv then installs the rest by theirs, in seconds.
$(VENV)/.bootstrap: locks/bootstrap.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "byoc needs Python 3.11 or newer")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r locks/bootstrap.txt
	@touch $@

$(VENV)/.vendor: $(VENV)/.bootstrap locks/vendor.txt pyproject.toml hatch_build.py $(wildcard collector/native/*.[ch] metering/gateway/native/*.[ch] metering/lake/native/*.[ch])
	$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes -r locks/vendor.txt
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/.dev: $(VENV)/.vendor locks/dev.txt
	$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes -r locks/dev.txt
	@touch $@

# Newest versions within the ranges of pyproject.toml, with hashes and without addresses of registries.
COMPILE := $(BIN)/uv pip compile --quiet --python $(BIN)/python --generate-hashes --no-emit-index-url \
           --no-emit-find-links --no-header --no-annotate
lock: $(VENV)/.bootstrap
	$(COMPILE) locks/bootstrap.in -o locks/bootstrap.txt
	$(COMPILE) --extra vendor --extra dev pyproject.toml -o locks/dev.txt
	$(COMPILE) --extra vendor -c locks/dev.txt pyproject.toml -o locks/vendor.txt
	$(COMPILE) -c locks/dev.txt pyproject.toml -o locks/base.txt

clean:
	rm -rf $(VENV) demo-out focus-out dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis
