"""Peak memory of one training step, measured in a process of its own.

As a script it is that process. It reads the high-water mark of the resident set (Linux: VmHWM, reset before the step),
which sees everything: tensors, what autograd keeps, and the scratch memory of kernels that PyTorch does not know of.
`getrusage` does not do: on Linux a child starts with its parent's mark.
"""

import argparse
import gc
import json
import os
import subprocess
import sys
from pathlib import Path

import torch
from contenders import Problem, Shape, contenders

from box_convolution import ops

_STATUS, _RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def available() -> bool:
    return _STATUS.exists() and _RESET.exists()


def step_peak(name: str, shape: Shape, implementation: str, authors: Path | None, threads: int) -> int:
    """Bytes that a training step of contender ``name`` needs at its peak, above its inputs and its results."""
    command = [sys.executable, __file__, name, *map(str, shape)]
    command += ["--implementation", implementation, "--threads", str(threads)]
    if authors is not None:
        command += ["--authors", str(authors)]
    # Every block is given back when it is freed, so that the step cannot hide in memory that its preparation left.
    environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        raise RuntimeError(f"measuring the memory of {name} failed:\n{done.stderr}")
    return int(json.loads(done.stdout))


def resident(field: str) -> int:
    """VmRSS (now) or VmHWM (peak), in bytes."""
    line = next(line for line in _STATUS.read_text().splitlines() if line.startswith(field))
    return 1024 * int(line.split()[1])


def _measure(name: str, shape: Shape, implementation: str, authors: Path | None) -> int:
    build = contenders(implementation, authors)[name]
    # The first step of a process loads code and starts threads; a tiny one does that for a few kilobytes.
    small = build(Problem.draw(shape._replace(h=8, w=8))).train
    train = build(Problem.draw(shape)).train
    if small is None or train is None:
        raise ValueError(f"{name} has no training step")
    small()
    gc.collect()
    before = resident("VmRSS")
    _RESET.write_text("5")  # forgets the high-water mark
    results = train()
    return resident("VmHWM") - before - sum(result.nbytes for result in results)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", help="contender, as the report calls it")
    parser.add_argument("shape", nargs=5, type=int, metavar=tuple("BCMHW"))
    parser.add_argument("--implementation", required=True)
    parser.add_argument("--authors", type=Path)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    with ops.use(args.implementation):
        print(json.dumps(_measure(args.name, Shape(*args.shape), args.implementation, args.authors)))


if __name__ == "__main__":
    main()
