# Thin on purpose: the set-up itself is scripts/setup (python3 -m scripts.setup --dry-run tells what it would do).
SHELL := /bin/bash
PYTHON ?= python3
IN_ENV = source env.bash &&

.DEFAULT_GOAL := help
.PHONY: help setup build demo test test-slow test-kill bench bench-gpu lint shell clean clean-all

help:  ## this list
	@echo "VLA models on dual-arm ROS 2 robots. Every target sets the workspace up first, if that has not been done."
	@sed -nE 's/^([a-z-]+):.*## (.*)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20
	@echo "Another Python (3.10 to 3.13): make PYTHON=python3.12 ...    In your own shell: source env.bash"

setup:  ## system packages, .venv, pinned wheels, colcon build; quick when nothing changed
	@$(PYTHON) -m scripts.setup

build: setup  ## the same: a changed message, setup.py or package.xml is built anew

demo: setup  ## the whole way in simulation: demonstrate, record, train, run the policy
	@$(IN_ENV) python -m demo $(DEMO)

test: setup  ## the test suite, without the slow tests
	@$(IN_ENV) python -m pytest -m "not slow"

test-slow: setup  ## the slow tests alone
	@$(IN_ENV) python -m pytest -m slow

test-kill: setup  ## 100 recorders killed at random moments: is every file whole, how much is lost
	@$(IN_ENV) python vla_recorder/test/recorder_kills.py --kills 100

bench: setup  ## speed and latency figures of this machine
	@$(IN_ENV) python -m bench

bench-gpu: setup  ## inference at full size on a CUDA GPU, with its roofline; a table in build/bench-gpu.md
	@$(IN_ENV) python -m bench.gpu $(BENCH_GPU)

lint: setup  ## ruff: rules and format
	@$(IN_ENV) ruff check . && ruff format --check .

shell: setup  ## how to work in your own shell
	@echo "Run:  source $(CURDIR)/env.bash"
	@echo "then: vla up --help, python -m pytest vla_rig, colcon build --symlink-install ..."

clean:  ## remove what was built (build, install, log, caches); .venv stays
	rm -rf build install log .pytest_cache .ruff_cache .hypothesis
	find . -path ./.venv -prune -o -name __pycache__ -type d -exec rm -rf {} +

clean-all: clean  ## .venv as well
	rm -rf .venv
