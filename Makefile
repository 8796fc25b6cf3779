# make demo    try it: a service of your own on http://127.0.0.1:8080, Ctrl-C ends it
# make test    the whole test suite, on the newest PostgreSQL found
# make lint    ruff, mypy --strict, the import contracts
# make faults  break it and what it stands on FAULTS=100 times under load (1000: long)
# make bench   how fast it is, compared with an empty Flask route and pgbench; JOBS=10000000: long
# make help    this list, and the rest

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
ARGS   ?=
FAULTS ?= 100
MINUTES ?= 30
JOBS   ?= 1000000
BEFORE ?= var/bench/before.json
AFTER  ?= var/bench/bench.json

.PHONY: help demo test model fuzz test-metrics test-postgresql test-slurm test-deploy \
    test-replica faults bench bench-compare lint format wheel lock audit clean

help:
	@sed -n 's/^# make /make /p' Makefile

$(STAMP): requirements.lock setup.cfg setup.py
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

demo: $(STAMP)
	@exec $(BIN)/ccapi demo $(ARGS)

test: $(STAMP)
	$(BIN)/python -m pytest --numprocesses=2 --cov --cov-report=term-missing:skip-covered $(ARGS)

# make model   random lives of jobs, one by one and at once, beside a model of the service
model: $(STAMP)
	PROPERTIES_MINUTES=$(MINUTES) $(BIN)/python -m pytest -s $(ARGS) \
	    tests/properties/test_model.py tests/properties/test_concurrent.py

# make fuzz    hostile and random requests; with `make model` it takes MINUTES (30) in all
fuzz: $(STAMP)
	PROPERTIES_MINUTES=$(MINUTES) $(BIN)/python -m pytest -s $(ARGS) \
	    tests/properties/test_hostile.py tests/properties/long_contract_fuzz.py

# make test-metrics       alert rules, dashboard and a scrape, on a real Prometheus and promtool
test-metrics: $(STAMP)
	$(BIN)/python -m pytest -o python_files='e2e_*.py' tests/monitoring $(ARGS)

# make test-postgresql    the tests that touch the database, on PostgreSQL 15 and on 18
test-postgresql: $(STAMP)
	$(BIN)/python tests/versions.py 15 18

# make test-slurm         hooks, sender and reconcile with a real Slurm, which it installs on Debian
# It needs root; without, it says so and succeeds, unless SLURM_REQUIRED=1 is set.
test-slurm: $(STAMP)
	$(BIN)/python -m pytest -o python_files='e2e_*.py' tests/slurm $(ARGS)

# make test-replica       a real streaming standby that answers readers, and takes over
test-replica: $(STAMP)
	$(BIN)/python -m pytest -o python_files='e2e_*.py' tests/replica $(ARGS)

# Archive disks are mounted as root only; without it these rows are skipped.
faults: $(STAMP)
	$(BIN)/python -m tests.faults --faults $(FAULTS) $(ARGS)

# make test-deploy    the operating guide, on a machine with systemd, nginx and PostgreSQL (root)
test-deploy: $(STAMP)
	$(BIN)/python -m pytest -o python_files='e2e_*.py' tests/deploy $(ARGS)

# The data stays in var/bench, on whose disk PostgreSQL writes: about 1 KB a job.
bench: $(STAMP)
	$(BIN)/python -m bench --jobs $(JOBS) $(ARGS)

# make bench-compare   two runs' figures side by side: BEFORE=old.json AFTER=new.json
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

# make wheel   dist/*.whl, which works outside this checkout
wheel: $(STAMP)
	$(BIN)/python -m pip wheel --quiet --no-deps --no-build-isolation --wheel-dir dist .

# make lock    requirements.lock anew, from setup.cfg, with the newest versions that fit
lock:
	rm -rf build/lock && $(PYTHON) -m venv build/lock
	build/lock/bin/python -m pip install --quiet --upgrade pip setuptools wheel
	build/lock/bin/python -m pip install --quiet -e '.[embedded,lint,test]'
	build/lock/bin/python -m pip freeze --all --exclude-editable --exclude ccapi \
	    | grep -v '^pip==' > requirements.lock

# make audit   known vulnerabilities of the locked versions (asks the package index about them)
audit:
	test -x build/audit/bin/pip-audit || { $(PYTHON) -m venv build/audit && \
	    build/audit/bin/python -m pip install --quiet pip-audit; }
	build/audit/bin/pip-audit --requirement requirements.lock --no-deps --disable-pip --strict

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
