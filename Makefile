# Every target does the set-up that it needs: a .venv with what constraints.txt says, brought up to date only when
# that file or pyproject.toml changes. A set-up that was killed leaves .venv/unfinished and is then redone as a
# whole; one that pip gave up (no network, say) leaves what was there.

VENV  := .venv
BIN   := $(VENV)/bin
SPACE ?= search_spaces/digits.yaml

# Where somebody has put Paddle's GPU build into .venv, the CPU build must not be laid over it.
GPU_BUILD = $(wildcard $(VENV)/lib/python3*/site-packages/paddlepaddle_gpu-*)

.PHONY: help run test lint ui bench clean
.DEFAULT_GOAL := help
.NOTPARALLEL:
# A trial's `python` is that of an activated environment, if there is one; here it is .venv's.
unexport VIRTUAL_ENV CONDA_PREFIX

help: ## this list
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 14

run: $(VENV)/ready ## set up, then tune the digits example (another: make run SPACE=search_spaces/plain.yaml)
	@if [ -z "$(GPU_BUILD)" ] && nvidia-smi -L >/dev/null 2>&1; then \
	    echo 'There is an NVIDIA GPU here, but the Paddle in $(VENV) computes on the CPU.'; \
	    echo 'README.md, "With a GPU", says where the GPU builds are and which one fits.'; \
	fi
	$(BIN)/sweep run $(SPACE)

test: lint ## set up, then lint and run all tests, the fast ones first, one file a core at a time
	$(BIN)/pytest -n auto --maxprocesses 4 --dist loadfile

lint: $(VENV)/ready-dev ## set up, then ruff, mypy and the import rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

ui: $(VENV)/ready ## the MLflow UI on what the sweeps here have logged
	$(BIN)/sweep ui

bench: $(VENV)/ready-dev ## the benchmarks
	$(BIN)/python -m benchmarks

clean: ## remove .venv and caches; sweeps/ and mlflow.db stay
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/ready:     EXTRAS = paddle examples
$(VENV)/ready-dev: EXTRAS = paddle examples dev
PARTS = $(filter-out $(if $(GPU_BUILD),paddle),$(EXTRAS))
space := $(subst ,, )
comma := ,

# The compilation is for places where PYTHONDONTWRITEBYTECODE is set: every import there would take three times as
# long.
$(VENV)/ready $(VENV)/ready-dev: pyproject.toml constraints.txt
	@set -e; \
	if [ -e $(VENV)/unfinished ] || ! $(BIN)/python -c '' 2>/dev/null; then \
	    for python in $(PYTHON) python3 python3.13 python3.12 python3.11 python3.10 ''; do \
	        $$python -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null && break; \
	    done; \
	    if [ -z "$$python" ]; then \
	        echo 'sweep needs Python 3.10, 3.11, 3.12 or 3.13, and none was found.' >&2; \
	        echo 'Install one, or say where it is: make ... PYTHON=/path/to/python' >&2; \
	        exit 1; \
	    fi; \
	    rm -rf $(VENV); mkdir $(VENV); touch $(VENV)/unfinished; \
	    $$python -m venv $(VENV) >/dev/null 2>&1 || { \
	        $$python -m venv --without-pip $(VENV) && \
	        $$python -m pip --python $(BIN)/python install --quiet pip; \
	    } || { \
	        echo "$$python cannot make a virtual environment. On Debian and Ubuntu: apt install python3-venv" >&2; \
	        exit 1; \
	    }; \
	fi; \
	touch $(VENV)/unfinished; \
	echo 'Setting up $(VENV): 1.7 GB in the end, half of it Paddle, so the first time takes some minutes.'; \
	$(BIN)/python -m pip install $(if $(CI),--quiet) --disable-pip-version-check --compile \
	    --constraint constraints.txt --editable '.[$(subst $(space),$(comma),$(PARTS))]' || { \
	    rm $(VENV)/unfinished; \
	    exit 1; \
	}; \
	$(BIN)/python -m compileall -q sweep; \
	touch $(VENV)/ready $@; \
	rm $(VENV)/unfinished
