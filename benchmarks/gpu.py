"""Speed of the box convolution on a GPU, side by side with its peers and with a copy of as many bytes.

Outputs and gradients are checked first; if any is wrong, nothing is timed. Without a GPU, the report has only what
compiling and counting shows, and says that the rest is not yet measured.
"""

import argparse
import datetime
import functools
import importlib.util
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import gpu_kernels
import torch
import triton
from contenders import Calls, Problem, Shape, average_pool, convolution, ours, reference
from correctness import disagreements
from gpu_kernels import minimal_bytes
from gpu_timing import Call, captured, interleaved
from report import Document

import box_convolution
from box_convolution import BoxBottleneck
from box_convolution.networks.enet import Bottleneck
from boxconv.reports.tables import Section, Table, number

OURS, COPY, CONV, REFERENCE = "box_conv2d", "copy of the least bytes", "conv 3x3", "plain PyTorch reference"
PEERS: dict[str, Callable[[Problem], Calls]] = {
    OURS: ours,
    CONV: convolution(3),
    "conv 3x3, dilation 4": convolution(3, dilation=4),
    "conv 7x7": convolution(7),
    "avg_pool2d 31x31": average_pool,
    REFERENCE: reference,
}
SHAPES = [Shape(*shape) for shape in gpu_kernels.SHAPES]
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
MODES = ("forward", "forward + backward")
BACKWARD = "backward"
BLOCKS = (8, 128, 64, 128)  # input of the blocks: ENet's and ERFNet's middle stages on 512 x 1024 images


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", type=Path, metavar="FILE", help="also write the report, as Markdown")
    parser.add_argument("--rounds", type=int, default=50, help="how often each call is timed; default: %(default)s")
    args = parser.parse_args()
    if args.rounds < 1:
        parser.error(f"--rounds must be at least 1, got {args.rounds}")
    if args.write is not None and not args.write.parent.is_dir():
        parser.error(f"--write: there is no folder {args.write.parent}")
    sections = []
    for section in _measured(args.rounds) if torch.cuda.is_available() else [_not_measured()]:
        print(section.plain(), flush=True)  # what comes later may fail
        sections.append(section)
    document = Document(
        "Performance on GPUs",
        "The Triton kernels of `box_conv2d`, compared with other layers and with a plain copy. The kernels sum in "
        "float64, for every dtype. GPUs for data centres (A100, H100, MI300) are fast at float64; others are slow.",
        [*sections, _about(), *gpu_kernels.sections()],
    )
    print(document.plain())
    if args.write is not None:
        args.write.write_text(document.markdown(), encoding="utf-8")


def _about() -> Section:
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    rows = [
        ["date", datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC")],
        ["command", "`python benchmarks/gpu.py --write docs/performance_gpu.md`"],
        ["GPU", device],
        ["box_convolution", box_convolution.__version__],
        ["torch, Triton", f"{torch.__version__}, {triton.__version__}"],
    ]
    text = (
        "Times are medians over calls that run as CUDA graphs, with cold caches. All contenders take turns in one "
        "process, after their results were checked. Ratios are to box_conv2d."
    )
    return Section("How it was measured", text, Table(["", ""], rows, text=True))


def _not_measured() -> Section:
    goals = [
        ["forward: bandwidth as a share of a plain copy's, batch 8", "at least 45 %"],
        ["backward: bandwidth as a share of a plain copy's, batch 8", "at least 35 %"],
        ["forward, and forward + backward: time against depthwise conv 3x3", "less"],
        ["time of box block / ENet's dilated bottleneck, training and inference", "at most 0.5"],
        ["time of box block / ERFNet's non-bottleneck-1D, training and inference", "at most 0.25"],
        ["slowest / fastest box size", "at most 1.1"],
    ]
    text = "This page was written on a machine without a GPU. These are the goals, for an H200."
    return Section("Speed: not yet measured", text, Table(["", "goal"], goals, text=True))


def _measured(rounds: int) -> Iterator[Section]:
    torch.set_default_device("cuda")
    for shape in SHAPES:
        for dtype in DTYPES.values():
            wrong = list(disagreements(Problem.draw(shape, dtype=dtype), {}))
            if wrong:
                sys.exit("\n".join([f"Nothing was timed, because results are wrong at {tuple(shape)}:", *wrong]))
    for name, dtype in DTYPES.items():
        times = {shape: _operator_times(shape, dtype, rounds) for shape in SHAPES}
        for mode in (MODES[0], BACKWARD, MODES[1]):
            yield _speed_section(f"{mode.capitalize()}, {name}", {s: t[mode] for s, t in times.items()})
    yield _box_sizes(rounds)
    yield _block_section(rounds)


def _operator_times(shape: Shape, dtype: torch.dtype, rounds: int) -> dict[str, dict[str, float]]:
    """Mode -> contender -> microseconds."""
    problem = Problem.draw(shape, dtype=dtype)
    forward_bytes, backward_bytes = minimal_bytes(tuple(shape), dtype.itemsize)
    peers = {name: build(problem) for name, build in PEERS.items()}
    calls: dict[str, dict[str, Call]] = {
        mode: {name: call for name, both in peers.items() if (call := both[index]) is not None}
        for index, mode in enumerate(MODES)
    }
    operator = torch.ops.box_convolution.box_conv2d_backward
    calls[BACKWARD] = {OURS: functools.partial(operator, problem.grad_output, problem.input, problem.boxes)}
    counts = dict(zip(calls, (forward_bytes, forward_bytes + backward_bytes, backward_bytes), strict=True))
    times = {}
    for mode, group in calls.items():
        source = torch.empty(counts[mode] // 2, dtype=torch.uint8)  # read once and written once
        group[COPY] = functools.partial(torch.empty_like(source).copy_, source)
        times[mode] = interleaved({name: captured(call) for name, call in group.items()}, rounds)
        torch.cuda.empty_cache()
    return times


def _speed_section(title: str, times: dict[Shape, dict[str, float]]) -> Section:
    names = list(next(iter(times.values())))
    rows = []
    for name in names:
        row = [name]
        for column in times.values():
            row += [number(column[name]), number(column[name] / column[OURS], digits=2)]
        rows.append(row)
    rows.append(["bandwidth as a share of a plain copy's"])
    for column in times.values():
        rows[-1] += ["", f"{100 * column[COPY] / column[OURS]:.0f} %"]
    header = [""]
    for shape in times:
        header += [f"{tuple(shape)} us", "ratio"]
    return Section(title, "Microseconds; shapes are (B, C, M, H, W).", Table(header, rows))


def _box_sizes(rounds: int) -> Section:
    """All boxes have the same size, from one pixel to nearly twice the image's height."""
    shape = SHAPES[1]
    calls = {}
    sizes = [1, 3, 9, 31, 127, 255]
    for size in sizes:
        edges = torch.tensor([0.25 - size / 2, 0.25 + size / 2, -0.375 - size / 2, -0.375 + size / 2])
        built = ours(Problem.draw(shape, edges))
        for mode, call in zip(MODES, built, strict=True):
            assert call is not None
            calls[size, mode] = captured(call)
    times = interleaved(calls, rounds)
    rows = [[f"{size} x {size}", *(number(times[size, mode]) for mode in MODES)] for size in sizes]
    spread = [max(times[s, m] for s in sizes) / min(times[s, m] for s in sizes) for m in MODES]
    rows.append(["max / min", *(f"{value:.2f}" for value in spread)])
    return Section("Size of the boxes", f"Microseconds at {tuple(shape)}, float32.", Table(["box", *MODES], rows))


def _block_section(rounds: int) -> Section:
    """The box block and the blocks that it replaces, each run in three ways."""
    b, c, h, w = BLOCKS
    blocks = {
        "box block": BoxBottleneck(c, max_input_h=h, max_input_w=w),
        "ENet bottleneck, dilation 4": Bottleneck(c, dilation=4),
    }
    if importlib.util.find_spec("box_convolution.networks.erfnet"):
        blocks["ERFNet non-bottleneck-1D, dilation 4"] = importlib.import_module(
            "box_convolution.networks.erfnet"
        ).NonBottleneck1d(c, dilation=4)
    image, grad = torch.randn(b, c, h, w, requires_grad=True), torch.randn(b, c, h, w)
    times: dict[tuple[str, str, str], float] = {}
    for mode in MODES:
        calls = {}
        for name, block in blocks.items():
            block = block.train(mode == MODES[1])
            step = functools.partial(_block_step, mode, grad)
            calls[name, mode, "eager"] = functools.partial(step, block, image)
            calls[name, mode, "compiled"] = functools.partial(step, torch.compile(block), image)
            calls[name, mode, "CUDA graph"] = captured(functools.partial(step, block, image))
        times |= interleaved(calls, rounds)
    ways = ("eager", "compiled", "CUDA graph")
    rows = []
    for name in blocks:
        row = [name]
        for mode in MODES:
            for way in ways:
                mine, theirs = times["box block", mode, way], times[name, mode, way]
                row += [number(theirs), number(mine / theirs, digits=2)]
        rows.append(row)
    header = [""]
    for mode in MODES:
        for way in ways:
            header += [f"{mode}, {way}, us", "box block / this"]
    return Section(
        "Blocks", f"float32, input {BLOCKS}; inference, and training with all gradients.", Table(header, rows)
    )


def _block_step(mode: str, grad: torch.Tensor, block: torch.nn.Module, image: torch.Tensor) -> object:
    if mode == MODES[0]:
        with torch.no_grad():
            return block(image)
    return torch.autograd.grad(block(image), [image, *block.parameters()], grad)


if __name__ == "__main__":
    main()
