# make test | test-long | test-gpu | test-kernels | demo | lint | bench | bench-gpu | sanitize | reliability make their own environment in .venv; nothing else is
# needed but python3 (3.10+), pip and make. With a C++ compiler (GCC 11 or later, or Clang) the CPU kernels are built into it, and tested.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Threads that wait by spinning slow each other down on a machine that others use too: hence OMP_WAIT_POLICY below.
KERNELS := CMakeLists.txt $(wildcard box_convolution/ops/cpu/*)
# An editable installation knows the modules that were there when it was made: a new file in a folder asks for another.
FOLDERS := $(shell find box_convolution -type d -not -name __pycache__)

.PHONY: test test-long test-gpu test-kernels demo lint bench bench-gpu sanitize reliability wheel clean

test: $(VENV)/.ready
	OMP_WAIT_POLICY=PASSIVE $(BIN)/python -m pytest

# 11,000 random cases of the operator for each implementation, instead of 2,200.
test-long: $(VENV)/.ready
	BOX_CONVOLUTION_TIMES_THE_CASES=5 OMP_WAIT_POLICY=PASSIVE $(BIN)/python -m pytest tests/ops/test_against_oracle.py

# The GPU kernels on a GPU.
test-gpu: $(VENV)/.ready
	OMP_WAIT_POLICY=PASSIVE $(BIN)/python -m pytest tests/ops/test_on_gpu.py

# Compiled for all dtypes and three kinds of GPU, and interpreted: needs no GPU, but many minutes.
test-kernels: $(VENV)/.ready
	BOX_CONVOLUTION_TEST_ALL_KERNELS=1 OMP_WAIT_POLICY=PASSIVE $(BIN)/python -m pytest tests/ops/test_triton.py

demo: $(VENV)/.ready
	OMP_WAIT_POLICY=PASSIVE $(BIN)/python examples/demo.py --out demo

lint: $(VENV)/.ready
	$(BIN)/ruff check .
	$(BIN)/mypy

# Speed, memory and accuracy beside peers, into docs/performance.md: a quarter of an hour on an idle machine.
bench: $(VENV)/.ready
	OMP_WAIT_POLICY=PASSIVE $(BIN)/python benchmarks/cpu.py --write docs/performance.md

# The same on a GPU, into docs/performance_gpu.md. Without one: what is known by compiling and counting.
bench-gpu: $(VENV)/.ready
	$(BIN)/python benchmarks/gpu.py --write docs/performance_gpu.md

# The CPU kernels' tests under AddressSanitizer and UndefinedBehaviorSanitizer. Needs Linux, GCC and CMake; some minutes.
sanitize: $(VENV)/.ready
	$(BIN)/python tests/sanitize.py

# Every fault of docs/reliability.md, tried many times, and the page written anew. About half an hour.
reliability: $(VENV)/.ready
	OMP_NUM_THREADS=1 PYTHONPATH=tests $(BIN)/python tests/reliability.py --write docs/reliability.md

# dist/box_convolution-*-py3-none-*.whl for this platform, every Python and every PyTorch; an error without a C++ compiler.
wheel:
	BOX_CONVOLUTION_REQUIRE_LIBRARY=1 $(PYTHON) -m pip wheel --quiet --disable-pip-version-check --no-deps -w dist .

$(VENV)/.ready: pyproject.toml constraints.txt $(KERNELS) $(FOLDERS)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[train,export,dev]'
	$(BIN)/python -m compileall -q box_convolution
	# The GPU kernels are compiled with the Triton of torch 2.11, too; without it, that test is skipped.
	-$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --upgrade --target $(VENV)/triton-3.6 triton==3.6.0
	touch $@

clean:
	rm -rf $(VENV) demo build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
