"""Speed, memory and rounding errors of the box convolution on the CPU, side by side with its peers.

Outputs and gradients are checked first; if any is wrong, nothing is timed. All contenders take turns in one process, so
compare the ratios; milliseconds depend on the machine. If other programs run at the same time, set
OMP_WAIT_POLICY=PASSIVE in the environment.
"""

import argparse
import shlex
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import memory
import sections
import sweeps
import torch
from contenders import AUTHORS, CONV, CONV_LAST, OPENCV, OURS, POOL, REFERENCE, Calls, Problem, Shape, contenders
from correctness import disagreements, rounding_errors
from goals import Measured, Speeds
from report import Document, facts_section
from sections import Accuracy

from box_convolution import ops
from box_convolution.deploy import keep_freed_memory
from boxconv.errors import plural
from boxconv.profiling.timing import Repeats, interleaved

_STARTED = time.perf_counter()

Contenders = dict[str, Callable[[Problem], Calls]]

SHAPES = {
    "S1": Shape(1, 32, 4, 64, 128),
    "S2": Shape(4, 32, 4, 64, 128),
    "S3": Shape(1, 16, 4, 128, 256),
    "S4": Shape(1, 8, 2, 256, 512),
}
INTRODUCTION = f"The speed of `{OURS}` compared with the usual choices, the goals that it misses, and all measurements."
SLOW = ("conv 7x7", "conv 31x31", POOL)
IN_MEMORY_TABLE = (OURS, AUTHORS, REFERENCE, CONV, CONV_LAST)


class Effort(NamedTuple):
    """How much is measured; the slow contenders run on ``slow_shapes`` only."""

    repeats: Repeats
    sweep_repeats: Repeats
    shapes: tuple[str, ...]
    slow_shapes: tuple[str, ...]
    planes: list[tuple[int, int]]
    channels: list[int]
    accuracy_planes: list[tuple[int, int]]
    memory_shape: Shape


FULL = Effort(
    repeats=Repeats(100, seconds=3),
    sweep_repeats=Repeats(300, seconds=3),
    shapes=tuple(SHAPES),
    slow_shapes=tuple(SHAPES),
    planes=[(16, 16), (32, 32), (64, 128), (128, 256), (256, 512), (512, 1024), (1080, 1920), (2160, 3840)],
    channels=[1, 4, 16, 64, 256],
    accuracy_planes=[(64, 128), (1024, 2048), (2160, 3840)],
    memory_shape=Shape(4, 32, 4, 128, 256),
)
QUICK = Effort(
    repeats=Repeats(15, seconds=0.2),
    sweep_repeats=Repeats(15, seconds=0.2),
    shapes=("S1", "S3"),
    slow_shapes=("S1",),
    planes=[(16, 16), (64, 128), (128, 256), (256, 512)],
    channels=[1, 16, 64],
    accuracy_planes=[(64, 128), (256, 512)],
    memory_shape=Shape(4, 32, 4, 64, 128),
)


def main() -> None:
    args = parse()
    keeps_memory = not args.plain_malloc and keep_freed_memory()
    effort = QUICK if args.quick else FULL
    with ops.use(args.implementation):
        found = contenders(args.implementation, args.authors)
        shapes = {name: SHAPES[name] for name in effort.shapes}
        about = facts_section(args.implementation, args.threads, keeps_memory, _command(args))
        wrong = list(_wrong(shapes, found, args.threads))
        if wrong:
            sys.exit("\n".join(["Nothing was timed, because results are wrong:", *wrong]))
        torch.set_num_threads(max(args.threads))
        accuracy = _accuracy(effort.accuracy_planes)
        peaks = dict(_peaks(effort.memory_shape, found, args))
        measured = {threads: _measure(threads, effort, shapes, found) for threads in args.threads}

    document = Document(
        "Performance on the CPU",
        INTRODUCTION + (" This is a quick run, with few repeats." if args.quick else ""),
        [
            sections.summary_section(measured),
            sections.goal_section(measured, shapes),
            about,
            sections.shape_section(shapes, _missing(found)),
            *sections.speed_sections(measured),
            *sections.sweep_sections(measured, SHAPES["S3"]),
            *([sections.memory_section(peaks, effort.memory_shape)] if peaks else []),
            sections.accuracy_section(accuracy),
        ],
    )
    print(document.plain())
    if args.write is not None:
        args.write.write_text(document.markdown(), encoding="utf-8")
        _progress(f"written to {args.write}")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one minute: fewer repeats, shapes and slow contenders")
    parser.add_argument("--write", type=Path, metavar="FILE", help="also write the report, as Markdown")
    parser.add_argument(
        "--implementation",
        help="implementation to measure, a name as in box_convolution.ops.use; default: the one for CPU tensors",
    )
    parser.add_argument(
        "--threads", type=int, nargs="+", default=sorted({1, torch.get_num_threads()}), metavar="N",
        help="measure with each of these numbers of threads; default: %(default)s",
    )  # fmt: skip
    parser.add_argument(
        "--authors", type=Path, metavar="BUILD",
        help="also measure the compiled package of the paper's authors: the folder build/lib.* that their "
        "`python setup.py build` makes",
    )  # fmt: skip
    parser.add_argument(
        "--plain-malloc", action="store_true",
        help="leave glibc's malloc as it is; by default it keeps freed memory, so that no time includes fresh pages",
    )  # fmt: skip
    args = parser.parse_args()
    if min(args.threads) < 1:
        parser.error(f"--threads must be at least 1, got {min(args.threads)}")
    args.implementation = args.implementation or ops.backend(torch.zeros(1))
    try:
        with ops.use(args.implementation):
            pass
    except ValueError as error:
        parser.error(f"--implementation: {error}")
    if args.write is not None and not args.write.parent.is_dir():
        parser.error(f"--write: there is no folder {args.write.parent}")
    if args.authors is not None and not list(args.authors.glob("box_convolution_cpp_cuda*")):
        parser.error(f"--authors: there is no box_convolution_cpp_cuda* in {args.authors}")
    return args


def _command(args: argparse.Namespace) -> str:
    """The command line, without the path of the authors' package, which differs between machines."""
    words = ["BUILD" if args.authors and word == str(args.authors) else word for word in sys.argv[1:]]
    return shlex.join(["python", "benchmarks/cpu.py", *words])


def _progress(text: str) -> None:
    print(f"[{time.perf_counter() - _STARTED:4.0f} s] {text}", file=sys.stderr, flush=True)


def _missing(found: Contenders) -> list[str]:
    reasons = {
        AUTHORS: f"{AUTHORS} (no --authors)",
        OPENCV: "OpenCV (cv2 is not installed)",
        REFERENCE: f"{REFERENCE} (it is what is measured)",
    }
    return [reason for name, reason in reasons.items() if name not in found]


def _wrong(shapes: dict[str, Shape], found: Contenders, threads: list[int]) -> Iterator[str]:
    for count in threads:
        torch.set_num_threads(count)
        for name, shape in shapes.items():
            _progress(f"checking {name}, {plural(count, 'thread')}")
            for line in disagreements(Problem.draw(shape), found):
                yield f"{name} {tuple(shape)}, {plural(count, 'thread')}: {line}"


def _accuracy(planes: list[tuple[int, int]]) -> Accuracy:
    accuracy: Accuracy = {}
    for h, w in planes:
        _progress(f"rounding errors on {h} x {w}")
        accuracy[h, w] = rounding_errors(h, w)
    return accuracy


def _peaks(shape: Shape, found: Contenders, args: argparse.Namespace) -> Iterator[tuple[str, int]]:
    if not memory.available():
        return
    for name in IN_MEMORY_TABLE:
        if name in found:
            _progress(f"memory of {name}")
            yield name, memory.step_peak(name, shape, args.implementation, args.authors, max(args.threads))


def _measure(threads: int, effort: Effort, shapes: dict[str, Shape], found: Contenders) -> Measured:
    torch.set_num_threads(threads)
    speeds: Speeds = {sweeps.FORWARD: {}, sweeps.TRAIN: {}}
    for name, shape in shapes.items():
        problem = Problem.draw(shape)
        built = {
            contender: build(problem)
            for contender, build in found.items()
            if contender not in SLOW or name in effort.slow_shapes
        }
        for index, mode in enumerate(speeds):
            _progress(f"{mode}, {name}, {plural(threads, 'thread')}")
            calls = {contender: call for contender, both in built.items() if (call := both[index]) is not None}
            speeds[mode][name] = interleaved(calls, effort.repeats)
    _progress(f"sweeps, {plural(threads, 'thread')}")
    return Measured(
        speeds,
        sweeps.box_sizes(SHAPES["S3"], effort.sweep_repeats),
        sweeps.plane_sizes(effort.planes, effort.sweep_repeats),
        sweeps.channel_counts(effort.channels, effort.sweep_repeats),
    )


if __name__ == "__main__":
    main()
