"""Try every fault many times and report what was lost: `make reliability` writes docs/reliability.md in an hour.

The test suite tries the same faults a few times each (`test_faults.py`).
"""

import argparse
import functools
import os
import platform
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path

import torch
from faults import checkpoints, processes, runs, two_processes
from faults.checkpoints import Tally

SLOWEST = " (slowest: "
HEADER = """# Reliability

This page lists which faults we tried, how often, and what was lost. `make reliability` (`tests/reliability.py`) tries
every fault and writes this page. The test suite tries the same faults a few times each.

"Right" means: there is no crash, no hang and no traceback. One message names the file, the cause and the remedy, and
the exit status is the documented one. Every earlier checkpoint is still readable. A run that was resumed ends with
weights that are **equal, bit for bit**, to those of an undisturbed run (on the same machine, with the same number of
threads and processes).

| Fault | Tried | Right | Lost or wrong |
|---|---:|---:|---|
"""

FOOTER = """
`kill -9` was sent to real processes. "Disk full" was simulated by a limit on the size of files (RLIMIT_FSIZE), "too
little memory" by a limit on the address space. `tests/faults/hostile.py` makes the hostile files: code hidden in
pickles in every way we know, tensors and lists that claim more memory than the file has, and files of other programs.

Not tried: power cuts (files are flushed in an order that is meant to survive one: first the data, then the name, then
the folder), network file systems, GPUs and NCCL, Windows and macOS. On Windows nothing stops a second process from
writing into the folder of a run.
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", type=Path, help="Markdown file for the table; with --only, its other rows are kept")
    parser.add_argument("--scale", type=float, default=1.0, help="share of the usual number of tries")
    parser.add_argument("--only", default="", help="try only faults whose name has these words, such as 'that finish'")
    parser.add_argument(
        "--ends", type=int, default=0, help="how many pairs of processes are started to see how they end"
    )
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    cores = len(os.sched_getaffinity(0))
    machine = f"{platform.machine()}, {cores} cores, {platform.system()}"
    versions = f"Python {platform.python_version()}, PyTorch {torch.__version__}"
    measured = f"Measured on {machine}; {versions}; 1 thread per process."
    attempts = faults(args.scale, args.ends)
    kept = kept_rows(args.write, attempts, measured) if args.write and args.only else {}
    rows: list[tuple[str, Tally]] = []
    for name, attempt in attempts.items():
        if args.only not in name:
            continue
        started = time.monotonic()
        with tempfile.TemporaryDirectory() as folder:
            result = attempt(Path(folder))
        tally, slowest = result if isinstance(result, tuple) else (result, None)
        rows.append((name if slowest is None else f"{name}{SLOWEST}{slowest:.0f} s)", tally))
        kept[name] = row(*rows[-1])
        print(f"{row(*rows[-1])}  {time.monotonic() - started:.0f} s", flush=True)
        for line in tally.wrong[:5]:
            print("    ", line, flush=True)

    table = HEADER + "".join(f"{kept[name]}\n" for name in attempts if name in kept) + f"\n{measured}\n{FOOTER}"
    if args.write:
        args.write.write_text(table)
    print(table)
    return 1 if any(tally.wrong or tally.right < tally.tried for _, tally in rows) else 0


def kept_rows(page: Path, names: Iterable[str], measured: str) -> dict[str, str]:
    """The rows of ``page``, by fault. Ends the program if another machine or other versions were measured."""
    lines = page.read_text().splitlines()
    if measured not in lines:
        sys.exit(f"reliability: {page} was not measured here and with these versions: run it without --only")
    found = {line.removeprefix("| ").partition(" |")[0].partition(SLOWEST)[0]: line for line in lines}
    return {name: found[name] for name in names if name in found}


def faults(scale: float, ends: int) -> dict[str, Callable[[Path], Tally | tuple[Tally, float]]]:
    """For each fault, by its name in the table, a function that tries it in a folder."""

    def times(count: int) -> int:
        return max(1, round(count * scale))

    @functools.cache
    def whole() -> str:
        with tempfile.TemporaryDirectory() as folder:
            status, errors = runs.train(Path(folder, "whole"), *runs.RUN)
            assert status == 0, errors
            return runs.digest(Path(folder, "whole"))

    @functools.cache
    def two() -> str:
        with tempfile.TemporaryDirectory() as folder:
            return two_processes.together(Path(folder))

    return {
        "`kill -9` of a process that replaces one checkpoint again and again":
            lambda f: processes.killed_saves(f, times(30)),
        "`kill -9` of a training run at a random time, resumed":
            lambda f: processes.killed_runs(f, times(20), whole()),
        "one of two ranks killed under `torchrun`: restarts, ends within 30 s":
            lambda f: two_processes.killed_ranks(f, times(10), two()),
        "one of two ranks stopped (SIGSTOP) under `torchrun`": lambda f: two_processes.hung_rank(f, two()),
        "`torchrun` itself killed: its ranks end within 10 s": lambda f: two_processes.orphans(f, times(3)),
        "two ranks that finish: status 0, no message": lambda f: two_processes.ends(f, ends or times(200)),
        "two ranks that finish beside two busy processes: status 0, no message":
            lambda f: two_processes.ends_on_a_busy_machine(f, ends or times(60)),
        "checkpoint damaged at random: refused": lambda f: checkpoints.damaged(f, times(10_000)),
        "checkpoint changed, with a correct new checksum: either refused, or loaded as plain values; never a crash":
            lambda f: tampered(f, times(10_000)),
        "hostile and foreign files as checkpoints: refused, no code run, no large memory allocated":
            checkpoints.hostile_files,
        "SIGINT, SIGTERM, and each of them twice in a row": lambda f: processes.signalled(f, whole()),
        "disk full, folder not writable, too little memory": lambda f: processes.starved(f, whole()),
        "a data-loading process killed": lambda f: processes.dead_workers(f, times(3), whole()),
        "a second process that trains in the folder of a running training: refused":
            lambda f: processes.second_writers(f, times(4)),
        "loss or weights not finite": processes.losses,
    }  # fmt: skip


def tampered(folder: Path, count: int) -> Tally:
    """Like `checkpoints.tampered`, but a file that is still loaded as plain values also counts as right."""
    tally = checkpoints.tampered(folder, count)
    return Tally(tally.tried, tally.tried - len(tally.wrong), tally.wrong)


def row(name: str, tally: Tally) -> str:
    lost = "nothing" if not tally.wrong else f"{len(tally.wrong)}: " + tally.wrong[0].splitlines()[0][:100]
    return f"| {name} | {tally.tried:,} | {tally.right:,} | {lost} |"


if __name__ == "__main__":
    sys.exit(main())
