# make demo: a divided network on digits, in minutes.
# make test: every promise.   make test-all: everything else (test-slow is its old name).
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python

# The tests start many processes; with Python's cache of compiled modules each starts sooner.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: demo test test-all test-slow promises coverage lint bench goldens messages clean

demo: $(VENV)/runtime
	$(RUN) train.py --flagfile=configs/quickstart.flags

test: $(VENV)/development
	$(RUN) -m pytest -n 2 --dist worksteal -m "not slow and not gpu"

test-all test-slow: $(VENV)/development
	$(RUN) -m pytest -n 2 --dist worksteal -m "slow and not gpu"

# Breaks each promise of tests/promises in a copy of the tree; the tests that guard it must fail.
promises: $(VENV)/development
	$(RUN) -m tests.promises.run

# Lines that each tier runs, compared with tests/coverage_baseline.json.
coverage: $(VENV)/development
	$(RUN) -m tests.coverage_of_tiers

lint: $(VENV)/development
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .

bench: $(VENV)/runtime
	$(RUN) -m benchmarks.views
	$(RUN) -m benchmarks.input_pipeline
	$(RUN) -m benchmarks.latency
	$(RUN) -m benchmarks.stochastic_depth
	$(RUN) -m benchmarks.train_step --model=wrn_16_8 --splits=1,2,4 --batch_size=64

goldens: $(VENV)/development
	$(RUN) -m tests.models.write_goldens

# With the oldest compiler that has a wheel for Python 3.11: newer runtimes accept what it writes, older ones would not.
messages:
	$(PYTHON) -m venv $(VENV)-messages
	$(VENV)-messages/bin/python -m pip install --disable-pip-version-check -q "setuptools<80" grpcio-tools==1.49.1
	$(VENV)-messages/bin/python -m grpc_tools.protoc -I. --python_out=. dico_tf/wire/*.proto

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; v = sys.version_info; (3, 11) <= v < (3, 14) or sys.exit("dico_tf needs Python 3.11 to 3.13 (Keras 3.15 does), this is %d.%d: run make with PYTHON=python3.11" % v[:2])'
	$(PYTHON) -m venv $(VENV)

# A stamp appears only after pip has finished, so that an interrupted set-up is done again.
$(VENV)/runtime: requirements.txt constraints.txt | $(VENV)/bin/python
	$(RUN) -m pip install --disable-pip-version-check -q -r requirements.txt
	touch $@

$(VENV)/development: requirements-dev.txt $(VENV)/runtime
	$(RUN) -m pip install --disable-pip-version-check -q -r requirements-dev.txt
	touch $@

clean:
	rm -rf $(VENV) $(VENV)-messages
