# `make train` and `make test` need only Python >= 3.11, make and a package index.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin

.DEFAULT_GOAL := help
.PHONY: help train test lint guarantees fuzz test-cuda-compile test-peers test-arm64 package gpu gpu-wheels sanitize

help:
	@echo "make train              set up, then train (MNIST where it can be had, else the bundled digits)"
	@echo "make test               set up, then run the tests"
	@echo "make lint               ruff, mypy, and what pyright sees of the public names"
	@echo "make guarantees         repeat at length what docs/guarantees.md promises (kills, runs of one seed): minutes"
	@echo "make fuzz               the part of it that reads 20,000 hostile files"
	@echo "make test-cuda-compile  every CUDA test that needs no GPU (installs about 1 GB); TESTS=folder chooses"
	@echo "make test-peers         compare with PyTorch and Keras, in an environment of its own"
	@echo "make test-arm64         the tests of operations, layers and CPU kernels on an emulated arm64 (needs qemu-user-static)"
	@echo "make gpu                on a CUDA GPU: its tests and benchmarks, to the folder OUT; installs nothing;"
	@echo "                        PARTS=first,kernels,... and SECONDS=540 choose what is run"
	@echo "make gpu-wheels         fetch what such a machine may lack, to the folder wheels/, which make gpu then uses"
	@echo "make sanitize           on a CUDA GPU: its kernels' tests under compute-sanitizer's memcheck and racecheck"
	@echo "make package            sdist, wheel, and a smoke test of the installed wheel"

# A stamp per set of extras: pip runs again only when pyproject.toml changes.
$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "xpnet needs Python 3.11 or newer; this is " + sys.version.split()[0] + ". Name another one: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.run: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@

$(VENV)/.dev: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@ $(VENV)/.run

$(VENV)/.cuda-compile: pyproject.toml $(VENV)/.dev
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev,cuda-compile]'
	@touch $@

train: $(VENV)/.run
	$(BIN)/xpnet train

test: $(VENV)/.dev
	$(BIN)/python -m pytest

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	XPNET_REQUIRE_PYRIGHT=1 $(BIN)/python -m pytest --quiet tests/typing

guarantees: $(VENV)/.dev
	$(BIN)/python -m pytest -m guarantees -s

fuzz: $(VENV)/.dev
	$(BIN)/python -m pytest -m guarantees -s tests/fuzz

test-cuda-compile: $(VENV)/.cuda-compile
	XPNET_REQUIRE_CUDA_COMPILE=1 $(BIN)/python -m pytest -m cuda_compile $(TESTS)

PEERS := .venv-peers

$(PEERS)/.peers: pyproject.toml
	$(PYTHON) -m venv $(PEERS)
	$(PEERS)/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]' 'torch==2.13.0' 'keras==3.15.1'
	@touch $@

test-peers: $(PEERS)/.peers
	$(PEERS)/bin/python -m pytest -m torch

test-arm64: $(VENV)/.dev
	PYTHON=$(BIN)/python tests/arm64/run.sh

package: $(VENV)/.dev
	rm -rf dist $(VENV)-wheel
	$(BIN)/python -m build --outdir dist .
	$(PYTHON) -m venv $(VENV)-wheel
	$(VENV)-wheel/bin/python -m pip install --quiet --disable-pip-version-check dist/*.whl
	ls $(VENV)-wheel/lib/python*/site-packages/xpnet/py.typed
	xpnet=$$(pwd)/$(VENV)-wheel/bin/xpnet && cd $$(mktemp -d) && $$xpnet recipes && $$xpnet doctor \
		&& $$xpnet train --recipe digits --epochs 3 && $$xpnet evaluate runs/digits-1

gpu:
	@$(PYTHON) bench/gpu.py $(if $(SECONDS),--seconds $(SECONDS)) $(PARTS)

GPU_PYTHON ?= 3.12
PLATFORMS := manylinux_2_28_x86_64 manylinux_2_17_x86_64 manylinux2014_x86_64

gpu-wheels: $(BIN)/python
	rm -rf wheels
	$(BIN)/python -m pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: --implementation cp \
		--python-version $(GPU_PYTHON) $(PLATFORMS:%=--platform %) --dest wheels --requirement bench/gpu_wheels.txt
	if [ -d "$$XPNET_DATA_DIR/mnist" ]; then mkdir wheels/mnist && cp "$$XPNET_DATA_DIR"/mnist/*-ubyte* wheels/mnist; fi

# Takes minutes. Without CuPy's memory pool, so that the neighbour of an array is not another array's memory.
sanitize:
	@command -v compute-sanitizer > /dev/null \
		|| { echo "make sanitize needs compute-sanitizer, a part of NVIDIA's CUDA toolkit" >&2; exit 3; }
	@PYTHONPATH=.:kernels $(PYTHON) -c 'import sys; from xpnet.backends import cuda_problem; \
		problem = cuda_problem(); problem and print("make sanitize needs a GPU that xpnet can use:", problem); \
		sys.exit(3 if problem else 0)' >&2
	@for tool in memcheck racecheck; do \
		PYTHONPATH=.:kernels XPNET_TEST_POOL=none compute-sanitizer --tool $$tool --error-exitcode 1 \
			$(PYTHON) -m pytest -q -m gpu tests/kernels/cuda -k 'not 2_to_the_31' || exit 1; done
