# CI uses the same targets. They need only Python 3.10 or later and a package index:
# every target makes what it needs. pip's configuration (PIP_* variables, pip.conf) is honoured.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules

# Images of containers often set this; every process of the tests would compile all of envpack again.
unexport PYTHONDONTWRITEBYTECODE

PYTHON ?= python3
PYTHON310 ?= python3.10
JOBS ?= 2
DEMO := envspecs/demo.yml
SPEC ?= $(DEMO)

# An environment that has envpack and its tools in it is used as it stands: make ENVPACK_VENV=/path ...
ifdef ENVPACK_VENV
BIN := $(ENVPACK_VENV)/bin
READY :=
else
BIN := .venv/bin
READY := .venv/.installed
endif

# The versions that the tests are run with; make CONSTRAINTS= takes the newest that pyproject.toml allows.
CONSTRAINTS ?= constraints.txt

# Some tests compile C: where there is no compiler, zig's comes as a wheel.
COMPILER := $(shell command -v "$${CC:-cc}" >/dev/null || command -v gcc >/dev/null || echo --group compiler)

# Debian's names of the programs that tests use where they are installed.
SHELLS := bash busybox dash fish ksh mksh tcsh zsh \
	expect gawk guile-3.0 lua5.4 perl r-base-core ruby tcl \
	binutils btrfs-progs bzip2 cmake libarchive-tools nodejs pkgconf squashfs-tools strace systemd unzip xfsprogs xz-utils zip
SHELL_TESTS := $(addprefix tests/component/, activation/test_activation.py activation/test_activation_check.py \
	activation/test_activation_first.py activation/test_aliases_and_functions.py \
	deployment/test_transactions.py extract/test_previous.py \
	interop/test_conda_pack.py prefix/test_needs_elf.py release/test_registry.py \
	release/test_registry_faults.py relocation/test_first_lines.py \
	relocation/test_relocated_files.py service/test_run.py store/test_shared_store.py)

# The demo needs no public channel: it has one of its own.
LOCAL := build/channel
LOCAL_READY := $(LOCAL)/.made
ifeq ($(origin CHANNEL),undefined)
ifeq ($(SPEC),$(DEMO))
CHANNEL := $(LOCAL)
CHANNEL_READY := $(LOCAL_READY)
endif
endif

# A small /tmp (a tmpfs of some cloud machines) does not hold what pip and the tests write there: 4 GB.
ROOMY = $(shell df -Pk "$(1)" | awk 'NR == 2 { print ($$4 > 4000000) }')
ifeq ($(call ROOMY,$(or $(TMPDIR),/tmp)),0)
ifeq ($(call ROOMY,/var/tmp),1)
export TMPDIR := /var/tmp
else
export TMPDIR := $(CURDIR)/build/tmp
$(shell mkdir -p build/tmp)
endif
endif

REGISTRY := build/registry

.PHONY: help install constraints channel demo test test-long test-shells test-pythons fresh test-large test-property test-wheels test-faults test-planted bench bench-scaling fuzz cases check-tables lint type release package systems clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(READY) ## set up .venv with envpack and the development tools

.venv/.installed: pyproject.toml $(CONSTRAINTS)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' \
	  || { echo "error: $(PYTHON) is older than Python 3.10; use a newer one: make PYTHON=python3.12" >&2; exit 2; }
	@echo "Setting up .venv (once, half a minute; again when pyproject.toml or constraints.txt changes) ..." >&2
	@.venv/bin/python -c '' 2>/dev/null || $(PYTHON) -m venv --clear .venv
	@.venv/bin/python -m pip install -qq --disable-pip-version-check --upgrade 'pip>=25.1' # knows --group
	@.venv/bin/python -m pip install -qq --disable-pip-version-check --group dev $(COMPILER) $(CONSTRAINTS:%=-c %) -e .
	@touch $@

constraints: $(READY) ## write constraints.txt: the newest versions that pyproject.toml allows
	@"$(BIN)/uv" pip compile --quiet --upgrade --universal --python-version 3.10 --group dev --group bench --group compiler \
	  --no-annotate --custom-compile-command 'make constraints' --output-file constraints.txt pyproject.toml

channel: $(LOCAL_READY) ## create the local channel for the demo

$(LOCAL_READY): $(READY) $(DEMO) scripts/make_channel.py $(wildcard scripts/channel_maker/*.py)
	@echo "Creating a local channel in $(LOCAL) ..." >&2
	@"$(BIN)/python" scripts/make_channel.py $(LOCAL) numpy rich click pip
	@touch $@

demo: $(READY) $(LOCAL_READY) ## build, inspect, deploy and run the demo environment
	@PATH="$$(cd "$(BIN)" && pwd):$$PATH" scripts/demo.sh $(LOCAL)

test: lint type $(REGISTRY) ## run lint, type checks and the default test suite
	@"$(BIN)/python" -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder

$(REGISTRY): scripts/get_registry.sh
	@scripts/get_registry.sh $(REGISTRY) >/dev/null 2>&1 || { rm -rf $(REGISTRY)/packages; mkdir -p $(REGISTRY); } # tests say what is missing
	@touch $(REGISTRY)

test-long: $(READY) $(REGISTRY) ## run the tests that 'make test' leaves out because they take long (minutes)
	@"$(BIN)/python" -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder -m long

test-shells: $(READY) ## install shells, languages and tools from Debian (root), and run the tests that need them
	@test "$$(id -u)" = 0 || { echo "error: only root can install packages: sudo make test-shells" >&2; exit 2; }
	@apt-get update -qq && apt-get install -y -qq --no-install-recommends $(SHELLS) >/dev/null
	@scripts/get_registry.sh $(REGISTRY)
	@"$(BIN)/python" -m pytest -n $(JOBS) --dist loadfile $(SHELL_TESTS)

test-pythons: ## run 'make test' with each Python 3.10 or later on this machine (PYTHONS="/path/python3.12 ...")
	@scripts/test-pythons.sh $(PYTHONS)

fresh: ## run the README's two commands in a minimal Debian, as root and as an ordinary user (root; SUITE=...)
	@scripts/fresh.sh build/fresh $(WAYS)

test-large: $(READY) ## test an environment of 40,000 files (minutes, 20 GB of disk)
	@"$(BIN)/python" -m pytest tests/large -s

cases: $(READY) build/cases-channel/.made ## run scripts that reproduce bug reports (CASES=directory NAMES="...")
	@test -n "$(CASES)" || { echo "error: give the directory of the scripts: make cases CASES=..." >&2; exit 2; }
	@ENVPACK="$(abspath $(BIN))/envpack" CHANNEL="$(CURDIR)/build/cases-channel" scripts/cases.sh "$(CASES)" $(NAMES)

build/cases-channel/.made: $(READY) scripts/make_channel.py $(wildcard scripts/channel_maker/*.py)
	@"$(BIN)/python" scripts/make_channel.py build/cases-channel numpy pillow requests idna six pip setuptools wheel
	@touch $@

bench: $(READY) ## compare envpack with conda-pack, tar and cp (ENVIRONMENT=A, B, synthetic or a path; ROUNDS=3)
	@"$(BIN)/python" benchmarks/compare.py $(or $(ENVIRONMENT),A) --rounds $(or $(ROUNDS),3) --json build/bench/$(notdir $(or $(ENVIRONMENT),A)).json

bench-scaling: $(READY) ## measure time and memory by number of files and bytes (OPTIONS="--files 1000 200000 ...")
	@"$(BIN)/python" -m pip install -qq --disable-pip-version-check --group bench $(CONSTRAINTS:%=-c %)
	@"$(BIN)/python" benchmarks/scaling.py $(OPTIONS) --json build/bench/scaling.json --plot build/bench/scaling.svg

test-property: $(READY) ## pack, deploy and move random environments (minutes; EXAMPLES=...)
	@ENVPACK_EXAMPLES=$(or $(EXAMPLES),3000) "$(BIN)/python" -m pytest tests/property/test_pack_property.py -o timeout=0

test-faults: $(READY) ## inject faults at every system call that changes deployments (half an hour; SCENARIO=...)
	@"$(BIN)/python" tests/faults/harness.py $(if $(SCENARIO),--only "$(SCENARIO)")

test-planted: $(READY) ## plant links, pipes and folders under every name that a command creates (root, minutes; SCENARIO=...)
	@"$(BIN)/python" tests/faults/planted.py $(if $(SCENARIO),--only "$(SCENARIO)")

test-wheels: $(READY) ## test host requirements and SBOMs of published wheels (minutes, 6 GB of downloads, once)
	@"$(BIN)/python" -m pytest tests/wheels -s

fuzz: $(READY) ## deploy 20,000 randomly damaged bundles (minutes; COUNT=..., FIRST=...)
	@PYTHONPATH=tests "$(BIN)/python" tests/support/bundle_fuzzer.py --count $(or $(COUNT),20000) --first $(or $(FIRST),0) --jobs $(JOBS)

check-tables: $(READY) ## list the rows of the host tables that were not checked for half a year
	@"$(BIN)/python" scripts/check_tables.py

lint: $(READY) ## run ruff (rules and formatting), and check the workflows of GitHub
	@"$(BIN)/ruff" check .
	@"$(BIN)/ruff" format --check .
	@PATH="$$(cd "$(BIN)" && pwd):$$PATH" jactionlint --strict-exit --no-hints $(wildcard .github/workflows/*.yml) .github/dependabot.yml examples/ci/github.yml

type: $(READY) ## run mypy --strict
	@"$(BIN)/mypy"

release: $(READY) $(CHANNEL_READY) ## build the files to publish into dist/ (SPEC=..., CHANNEL=..., NO_TEST=1)
	@"$(BIN)/envpack" release $(SPEC) $(foreach channel,$(CHANNEL),-c $(channel)) $(if $(NO_TEST),--no-test)

systems: $(READY) ## take the systems of envspecs/ from spec to running service (NAME="...", PYTHON310=...; 100 GB)
	@"$(BIN)/python" scripts/systems.py build/systems $(NAME) --python "$(PYTHON310)" --jobs $(JOBS)

package: $(READY) ## build envpack's own wheel and source archive into dist/
	@"$(BIN)/uv" build --quiet --no-create-gitignore --out-dir dist .
	@version="$$("$(BIN)/python" -c 'from envpack.runtime.version import __version__; print(__version__)')"; cd dist; \
	  name="conda_envpack-$$version"; sha256sum "$$name.tar.gz" "$$name-py3-none-any.whl" > "$$name.sha256"

clean: ## remove build outputs and caches, but not .venv
	rm -rf build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find src tests scripts -name __pycache__ -prune -exec rm -rf {} +
