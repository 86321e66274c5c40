# The commands of this project. `make train` and `make test` need nothing but Python >= 3.11.
#
#   make train [ARGS='optim.epochs=1 …']   train on the bundled example and generate samples
#   make check                             format, lint, types, fast tests: before a push
#   make test  [ARGS='tests/models …']     what a change can break
#   make test-slow                         browser, SLURM, notebook, benchmarks, every kill moment
#   make nightly                           models of the released size: gigabytes
#   make slurm                             a grid on a real SLURM of one machine; needs root

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
SOLVER ?= musicgen/musicgen_style_tiny
ARGS ?=

# Two tests at a time, of one thread each. `worksteal` keeps the tests of a file together, where
# they share fixtures, and still keeps both processes busy to the end.
PYTEST = OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal

.PHONY: install train test test-slow nightly check format integration slurm clean

install: $(VENV)/.installed

$(VENV)/.installed: requirements.lock setup.py
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.11 …")'
	$(PYTHON) -m venv $(VENV) || (apt-get update && apt-get install -y python3-venv && $(PYTHON) -m venv $(VENV))
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch $@

train: install
	$(BIN)/dora run solver=$(SOLVER) $(ARGS)

test: install
	$(PYTEST) -m "not slow and not nightly" $(ARGS)

test-slow: install
	$(PYTEST) -m "slow and not nightly" $(ARGS)

nightly: install
	OMP_NUM_THREADS=2 $(BIN)/python -m pytest -m nightly $(ARGS)

check: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright
	$(PYTEST) -q -m "not integration and not slow and not nightly" $(ARGS)

format: install
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

integration: install
	$(PYTEST) -m "integration and not slow and not nightly" $(ARGS)

slurm: install
	dpkg -s slurm-wlm munge >/dev/null 2>&1 || (apt-get update -qq && \
		DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends slurm-wlm munge)
	AUDIOCRAFT_SLURM=required OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/integration/test_slurm.py $(ARGS)

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .ruff_cache
