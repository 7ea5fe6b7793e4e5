"""Peak memory of one training step, measured in a separate process.

Run as a script, this file is that process. It reads the peak of its resident memory (Linux: VmHWM, reset before the
step). This includes everything: tensors, what autograd saves, and scratch memory of kernels that PyTorch does not know
of. `getrusage` cannot be used: on Linux, a child process starts with the peak of its parent.
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
    """Peak memory in bytes of a training step of contender ``name``, without its inputs and results."""
    command = [sys.executable, __file__, name, *map(str, shape)]
    command += ["--implementation", implementation, "--threads", str(threads)]
    if authors is not None:
        command += ["--authors", str(authors)]
    # Return freed blocks to the system at once, so that the step cannot re-use memory that its preparation has freed.
    environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        raise RuntimeError(f"measuring the memory of {name} failed:\n{done.stderr}")
    return int(json.loads(done.stdout))


def resident(field: str) -> int:
    """Resident memory of this process in bytes: ``field`` is VmRSS (now) or VmHWM (peak)."""
    line = next(line for line in _STATUS.read_text().splitlines() if line.startswith(field))
    return 1024 * int(line.split()[1])


def _measure(name: str, shape: Shape, implementation: str, authors: Path | None) -> int:
    build = contenders(implementation, authors)[name]
    # The first step of a process loads code and starts threads, so a tiny one runs first.
    small = build(Problem.draw(shape._replace(h=8, w=8))).train
    train = build(Problem.draw(shape)).train
    if small is None or train is None:
        raise ValueError(f"{name} has no training step")
    small()
    gc.collect()
    before = resident("VmRSS")
    _RESET.write_text("5")  # resets VmHWM
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
