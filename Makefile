# make test | test-long | test-gpu | test-kernels | test-arm64 | test-compilers | demo | results | results-quick | docs | tutorial | lint | bench | bench-gpu |
# sanitize | reliability | compatibility make their own environment in .venv, test-oldest another; nothing else is
# needed but python3 (3.10+), pip and make. With a C++ compiler (GCC 11 or later, or Clang 14 or later) the CPU kernels are built into it, and tested.
PYTHON ?= python3
# Its interpreter and compilers test the GPU kernels without a GPU. No extra asks for it: beside PyTorch's CUDA builds it
# would replace PyTorch by another.
TRITON := "triton; platform_system == 'Linux'"
# Processes that run the tests, one thread each.
WORKERS ?= 2
VENV := .venv
BIN := $(VENV)/bin
# Threads that wait by spinning slow each other down on a machine that others use too: hence OMP_WAIT_POLICY below.
KERNELS := CMakeLists.txt $(wildcard box_convolution/ops/csrc/*)
# An editable installation knows the modules that were there when it was made: a new file in a folder asks for another.
FOLDERS := $(shell find box_convolution boxconv -type d -not -name __pycache__)

.PHONY: test test-long test-gpu test-kernels test-arm64 test-compilers test-oldest compatibility compatibility-table demo results \
	results-quick docs tutorial lint bench bench-gpu sanitize reliability wheel clean

test: $(VENV)/.ready
	OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE $(BIN)/python -m pytest -n $(WORKERS) -m "not slow"

# What the tests above leave out because it is slow: every command of README and docs, ONNX of any network, the example in C; and 11,000
# random cases of the operator for each implementation, instead of 2,200.
test-long: $(VENV)/.ready
	OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE $(BIN)/python -m pytest -n $(WORKERS) -m slow
	BOX_CONVOLUTION_TIMES_THE_CASES=5 OMP_WAIT_POLICY=PASSIVE $(BIN)/python -m pytest tests/ops/test_against_oracle.py

# The GPU kernels on a GPU.
test-gpu: $(VENV)/.ready
	OMP_WAIT_POLICY=PASSIVE $(BIN)/python -m pytest -n 8 tests/ops/test_on_gpu.py

# Compiled for all dtypes and three kinds of GPU, and interpreted: needs no GPU, but many minutes.
test-kernels: $(VENV)/.ready
	BOX_CONVOLUTION_TEST_ALL_KERNELS=1 OMP_WAIT_POLICY=PASSIVE $(BIN)/python -m pytest tests/ops/test_triton.py

# The kernels for arm64 under emulation. Needs Linux, CMake, g++-aarch64-linux-gnu and qemu-user; says so where they are missing.
test-arm64: $(VENV)/.ready
	OMP_NUM_THREADS=1 $(BIN)/python tests/arm64.py
	$(BIN)/python tests/compatibility_table.py

# The tests with the lowest versions that pyproject.toml declares, on the oldest Python, in an environment of their own.
# PyTorch 2.6 brings several GB of CUDA libraries. OLDEST_PYTHON names the interpreter.
OLDEST_PYTHON ?= python3.10
OLDEST := build/oldest
test-oldest:
	$(OLDEST_PYTHON) -m venv $(OLDEST)
	$(OLDEST)/bin/pip install --quiet --disable-pip-version-check -c constraints-oldest.txt -e '.[train,export,dev]'
	OMP_WAIT_POLICY=PASSIVE $(OLDEST)/bin/python tests/versions.py tests
	$(OLDEST)/bin/python tests/compatibility_table.py

# docs/compatibility.md from what the targets above wrote down in docs/compatibility.json.
compatibility-table:
	$(PYTHON) tests/compatibility_table.py

# The CPU kernels built with every compiler that we know and this machine has, and tested; the outcome goes into
# docs/compatibility.json. Needs CMake; installs nothing; a few minutes a compiler.
test-compilers: $(VENV)/.ready
	OMP_WAIT_POLICY=PASSIVE $(BIN)/python tests/compilers.py --write docs/compatibility.json

demo: $(VENV)/.ready
	OMP_WAIT_POLICY=PASSIVE $(BIN)/python examples/demo.py --out demo

# Every network on the drawn scenes, two runs at a time, one thread each, into docs/results.md and docs/scenes/; then more
# for ENet, and other sizes of images. A day or two. Stopped, it goes on where it was.
RESULTS := $(BIN)/python benchmarks/results.py
MORE := --write docs/results_more.md --seeds 2 --only enet boxenet boxenet-symmetric boxenet-frozen enet-minus
results: $(VENV)/.ready
	$(RESULTS) --runs runs --out docs/scenes --write docs/results.md
	$(RESULTS) --runs runs --out docs/scenes/enet --part enet --write docs/results_more.md --only enet enet-long enet-wide
	$(RESULTS) --runs runs/64 --out docs/scenes/64 --part 64 $(MORE) -- --size 64 128
	$(RESULTS) --runs runs/256 --out docs/scenes/256 --part 256 $(MORE) -- --size 256 512

# ENet against BoxENet, one seed, into results-quick/: four minutes on two cores.
results-quick: $(VENV)/.ready
	$(BIN)/python benchmarks/results.py --quick --runs results-quick/runs --out results-quick

# The documentation as a site, from README, docs/ and the docstrings: open site/index.html. Links are checked, nothing is fetched.
# The variable silences the theme's notice about its successor (pyproject.toml has it).
docs: $(VENV)/.docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

$(VENV)/.docs: $(VENV)/.ready pyproject.toml constraints.txt
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[docs]'
	touch $@

# The outputs in examples/tutorial.ipynb: about five minutes.
tutorial: $(VENV)/.ready
	OMP_WAIT_POLICY=PASSIVE $(BIN)/python tests/notebook.py examples/tutorial.ipynb

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

# Every fault of docs/reliability.md, tried many times, and the page written anew. About an hour.
reliability: $(VENV)/.ready
	OMP_NUM_THREADS=1 PYTHONPATH=tests $(BIN)/python tests/reliability.py --write docs/reliability.md

# The layer and all networks under every facility of PyTorch in tests/facilities, into docs/compatibility.md. Some ten minutes.
compatibility: $(VENV)/.ready
	OMP_NUM_THREADS=1 PYTHONPATH=tests $(BIN)/python tests/compatibility.py --write docs/compatibility.md

# dist/box_convolution-*-py3-none-*.whl for this platform, every Python and every PyTorch; an error without a C++ compiler.
wheel:
	BOX_CONVOLUTION_REQUIRE_LIBRARY=1 $(PYTHON) -m pip wheel --quiet --disable-pip-version-check --no-deps -w dist .

$(VENV)/.ready: pyproject.toml constraints.txt $(KERNELS) $(FOLDERS)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[train,export,dev]' $(TRITON)
	$(BIN)/python -m compileall -q box_convolution boxconv
	# The GPU kernels are compiled with the Triton of torch 2.11, too; without it, that test is skipped.
	-$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --upgrade --target $(VENV)/triton-3.6 triton==3.6.0
	touch $@

clean:
	rm -rf $(VENV) demo site build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
