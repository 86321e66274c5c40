# The commands of this project. `make train` and `make test` need nothing but Python >= 3.11.
#
#   make train [ARGS='optim.epochs=1 …']   train the bundled example and listen to it
#   make test  [ARGS='tests/models …']     run every test
#   make nightly                           what needs gigabytes: models of the released size
#   make check                             format, lint, types, fast tests: before you push
#   make slurm                             a grid on a real SLURM of one machine; needs root

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
SOLVER ?= musicgen/musicgen_style_tiny
ARGS ?=

.PHONY: install train test nightly check format integration slurm clean

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
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadgroup $(ARGS)

nightly: install
	OMP_NUM_THREADS=2 $(BIN)/python -m pytest -m nightly $(ARGS)

check: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 -m "not slow and not gpu" $(ARGS)

format: install
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

integration: install
	OMP_NUM_THREADS=2 $(BIN)/python -m pytest tests/integration $(ARGS)

slurm: install
	dpkg -s slurm-wlm munge >/dev/null 2>&1 || (apt-get update -qq && \
		DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends slurm-wlm munge)
	AUDIOCRAFT_SLURM=required OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/integration/test_slurm.py $(ARGS)

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .ruff_cache
