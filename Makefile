# Everything a developer types. `make help` lists it.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

# The distribution's own: it is the one whose headers are installed, and built with optimisation.
PYTHON ?= $(firstword $(wildcard /usr/bin/python3) python3)
SRC ?= /usr/share
export PYTHON SRC

BIN := .venv/bin
LOCKS := requirements/build.lock requirements/all.lock
GENERATED := backit/v1 backit/format/v1
PROGRAMS := backitd backitctl backitfs
RESOLVE := $(BIN)/uv pip compile --quiet --no-config --universal --python-version 3.11 \
	--generate-hashes --no-emit-index-url --no-header $(UPGRADE)

.PHONY: help venv system servers torture test check fix protos demo bench lock man clean

help:  ## list the targets
	@sed -nE 's/^([a-z]+):[^#]*## (.*)/make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 14

venv: .venv/ready  ## install what is missing and make .venv, with every program in .venv/bin

test: servers check  ## set up, check and test everything
	$(BIN)/pytest

torture: servers venv  ## the system tests in full: every point to kill at, ten million files (hours)
	BACKIT_FULL=1 $(BIN)/pytest tests/system

# Cheapest first: the first failure ends it.
check: venv  ## lint, types, contracts, generated code, prose; no tests
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/lint-imports --no-logo
	$(BIN)/buf lint
	$(BIN)/codespell
	$(BIN)/proselint check --config .ci/proselint.json *.md
	grep -rlIE --exclude-dir=__pycache__ '^#!.*\b(ba)?sh$$' .ci packaging tests | xargs $(BIN)/shellcheck
	$(BIN)/mypy
	$(BIN)/pyright
	packaging/generate --check $(GENERATED)
	report=$$(systemd-analyze security --offline=true --threshold=20 --no-pager packaging/systemd/*.service) \
		|| { echo "$$report"; exit 1; }

fix: venv  ## repair what the formatters and the linter can
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

protos: venv  ## generate backit/v1 and backit/format/v1 from protos/
	packaging/generate $(GENERATED)
	rm -rf .mypy_cache  # mypy remembers which modules were missing

demo: venv  ## show a backup and a restore, start to end (SRC=/usr/share)
	packaging/demo

bench: venv  ## compare the speed with other backup programs
	$(BIN)/python tests/bench/run.py

lock: venv  ## resolve requirements/*.in again (UPGRADE=--upgrade takes newer versions)
	$(RESOLVE) requirements/build.in -o requirements/build.lock
	$(RESOLVE) requirements/run.in requirements/dev.in -c requirements/build.lock -o requirements/all.lock

man: venv  ## write the man pages into build/man
	mkdir -p build/man
	for program in $(PROGRAMS); do $(BIN)/click-man --target build/man "$$program"; done

clean:  ## remove all that make made
	rm -rf .venv build ./*.egg-info .hypothesis .*_cache
	find . -name __pycache__ -not -path './.git/*' -prune -exec rm -rf {} +

# ---------------------------------------------------------------------------------------------

system:
	@packaging/system-packages

servers: system
	@packaging/system-packages servers

# A changed lock makes .venv anew; a changed setup.py or a new program only installs ours again.
.venv/locked: $(LOCKS) packaging/make-venv | system
	packaging/make-venv .venv $(LOCKS)
	touch $@

.venv/ready: .venv/locked setup.py requirements/run.in $(wildcard backit/__init__.py */backit*/__init__.py)
	$(BIN)/pip install -qq --no-deps --no-build-isolation --no-index --editable .
	$(BIN)/pip check
	touch $@
