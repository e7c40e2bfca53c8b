# Two commands: `make quickstart` shows embedcache at work, `make test` proves this checkout.
# `make PYTHON=/path/to/python3.12 …` chooses the interpreter.

PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3; do \
	command -v $$p >/dev/null 2>&1 && $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	&& echo $$p && break; done)
BIN := .venv/bin
# A compute thread a test worker: more would only wait for each other. One heap: encoders/memory.py.
TEST_ENV := OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 MALLOC_ARENA_MAX=1
# What is imported is compiled once, whatever the machine says: tests start many processes.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: quickstart test check format benchmarks clean

quickstart: .venv/.demo
	@$(BIN)/embedcache quickstart

# The system's packages arrive beside Python's. By file: what a module's tests share is made once.
test:
	@$(MAKE) --no-print-directory -j 2 check .venv/.system
	$(TEST_ENV) $(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder -q

check: .venv/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy --num-workers 2
	$(BIN)/lint-imports --no-logo

format: .venv/.dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# Minutes each, coverage and probe half an hour; results lie in benchmarks/results/ as JSON.
BENCHMARKS := quickstart reference memory extract paced kill durability damage near_duplicates pixels_near_duplicates \
	reidentification share store bootstrap probe efficiency coverage

benchmarks: .venv/.dev
	@for name in $(BENCHMARKS); do MALLOC_ARENA_MAX=1 $(BIN)/python benchmarks/$$name.py || exit 1; done

clean:
	rm -rf .venv quickstart

.venv/.venv:
	@test -n "$(PYTHON)" || { echo "embedcache needs Python 3.11 or newer: install one, or make PYTHON=/path/to/python"; exit 1; }
	$(PYTHON) -m venv .venv
	@touch $@

# Constraints pin the CPU build of torch where one is offered; without them pip takes gigabytes.
.venv/.demo: .venv/.venv pyproject.toml constraints.txt
	@echo "installing into .venv (a few minutes the first time)"
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[demo]'
	@touch $@

# Of 18,000 files tests import a third: these are compiled then, the others never.
.venv/.dev: .venv/.venv pyproject.toml constraints.txt
	$(BIN)/pip install --quiet --no-compile --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch .venv/.demo $@

# Tests look at the report in Chromium and fetch a store from nginx: installed where we may, else they
# say why they skip.
.venv/.system: .venv/.venv
	@for tool in chromium nginx-light; do \
	if ! command -v $${tool%-light} >/dev/null && [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		{ apt-get update -qq && RUNLEVEL=1 apt-get install -y -qq --no-install-recommends $$tool; } >/dev/null 2>&1 \
		|| echo "$$tool could not be installed; its tests will be skipped"; fi; done
	@touch $@
