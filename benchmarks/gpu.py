"""Speed of the box convolution on a GPU, side by side with its peers and with a copy of as many bytes.

Outputs and gradients are checked first; if any is wrong, nothing is timed. With --write FILE.md, what was measured is
also in FILE.json: without a GPU, the report repeats it, and only the instructions are counted anew.
"""

import argparse
import datetime
import functools
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gpu_kernels
import torch
import triton
from contenders import Calls, Problem, Shape, average_pool, convolution, ours, reference
from correctness import centred, disagreements
from gpu_kernels import minimal_bytes
from gpu_timing import Call, back_to_back, captured, interleaved
from report import Document

import box_convolution
from box_convolution import BoxBottleneck
from box_convolution.deploy import deploy
from box_convolution.networks import create
from box_convolution.networks.enet import Bottleneck
from box_convolution.networks.erfnet import NonBottleneck1d
from boxconv.reports.tables import Section, Table, number

SHARE = "bandwidth as a share of a plain copy's"
ENET_BLOCK, ERFNET_BLOCK = "ENet bottleneck, dilation 4", "ERFNet non-bottleneck-1D, dilation 4"
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
DEPLOYED = "Deployed"
FASTER = "the faster CUDA graph of each"
EAGER = f"eager, {FASTER}"
NETWORKS, IMAGE = ("boxenet", "boxonlyenet", "enet", "boxerfnet", "erfnet"), (512, 1024)
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
    kept = None if args.write is None else args.write.with_suffix(".json")
    if torch.cuda.is_available():
        measured = []
        for section in (_about(), *_measured(args.rounds)):
            print(section.plain(), flush=True)
            measured.append(section)
            if kept is not None:  # at once: what comes later may fail
                kept.write_text(json.dumps(measured, indent=1) + "\n", encoding="utf-8")
    elif kept is not None and kept.exists():
        sections = json.loads(kept.read_text(encoding="utf-8"))
        measured = [Section(title, text, Table(*table) if table else None) for title, text, table, _ in sections]
    else:
        measured = []
    document = Document(
        "Performance on GPUs",
        "The Triton kernels of `box_conv2d`, compared with other layers and with a plain copy. The kernels sum in "
        "float64, for every dtype. GPUs for data centres (A100, H100, MI300) are fast at float64; others are slow.",
        [_goals(measured), *measured, *gpu_kernels.sections()],
    )
    print(document.plain())
    if args.write is not None:
        args.write.write_text(document.markdown(), encoding="utf-8")


def _about() -> Section:
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    rows = [
        ["date", datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC")],
        ["command", f"`python benchmarks/gpu.py {' '.join(sys.argv[1:])}`"],
        ["GPU", device],
        ["box_convolution", box_convolution.__version__],
        ["torch, Triton", f"{torch.__version__}, {triton.__version__}"],
    ]
    text = (
        "Times are medians over calls that run as CUDA graphs, with cold caches. All contenders take turns in one "
        "process, after their results were checked (not those of blocks and networks). Ratios are to box_conv2d. "
        f"`{COPY}` is a plain copy that moves only the bytes that the operator must read and write."
    )
    return Section("How it was measured", text, Table(["", ""], rows, text=True))


def _goals(measured: list[Section]) -> Section:
    rows = {section.title: {row[0]: row for row in section.table.rows} for section in measured if section.table}

    def found(title: str, row: str, columns: list[int], worst: Callable[[list[float]], float], unit: str = "") -> str:
        values = [float(rows[title][row][column].removesuffix(" %")) for column in columns] if title in rows else []
        return f"{worst(values):g}{unit}" if values else "not yet measured"

    batch_8 = [2 * column + 2 for column, shape in enumerate(SHAPES) if shape.batch == 8]
    every = [2 * column + 2 for column in range(len(SHAPES))]
    forward, backward, both = (f"{mode.capitalize()}, float32" for mode in (MODES[0], BACKWARD, MODES[1]))

    def block(peer: str, ratio: int) -> str:
        """Of inference and of training; ``ratio`` is the column of the latter."""
        training = f"Blocks, {MODES[1]}"
        if not {DEPLOYED, training} <= set(rows):
            return "not yet measured"
        return f"{rows[DEPLOYED][f'box block / {peer}'][1]}; training {rows[training][EAGER][ratio]}"

    networks_at_8 = {
        pair: found(DEPLOYED, f"{pair}, batch 8", [1], max) for pair in ("boxenet / enet", "boxerfnet / erfnet")
    }
    share = {title: found(title, SHARE, batch_8, min, " %") for title in (forward, backward)}
    goals = [
        ["forward: bandwidth as a share of a plain copy's, batch 8", "at least 45 %", share[forward]],
        ["backward: bandwidth as a share of a plain copy's, batch 8", "at least 35 %", share[backward]],
        ["forward: time of depthwise conv 3x3 / box_conv2d", "more than 1", found(forward, CONV, every, min)],
        ["forward + backward: time of depthwise conv 3x3 / box_conv2d", "more than 1", found(both, CONV, every, min)],
        ["time of box block / ENet's dilated bottleneck", "at most 0.5", block(ENET_BLOCK, 3)],
        ["time of box block / ERFNet's non-bottleneck-1D", "at most 0.25", block(ERFNET_BLOCK, 5)],
        ["slowest / fastest box size", "at most 1.1", found("Size of the boxes", "max / min", [1, 2], max)],
        ["time of BoxENet / ENet, batch 8", "at most 0.85", networks_at_8["boxenet / enet"]],
        ["time of BoxERFNet / ERFNet, batch 8", "at most 0.5", networks_at_8["boxerfnet / erfnet"]],
    ]
    text = (
        "Each figure is the worst over the shapes below, in float32. Times are those of the GPU alone (CUDA graphs). "
        "Figures of blocks and networks are those of inference, deployed; each block and network in the memory format "
        "that is faster for it. Those of training are eager. For box sizes, the figure is the worse of forward and "
        "forward + backward."
    )
    return Section("Goals", text, Table(["", "goal", "measured"], goals, text=True))


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
    for mode in MODES:
        yield _block_section(mode, rounds)
    yield _deployed_section(rounds)


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
    rows.append([SHARE])
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
        built = ours(Problem.draw(shape, centred(size, size)))
        for mode, call in zip(MODES, built, strict=True):
            assert call is not None
            calls[size, mode] = captured(call)
    times = interleaved(calls, rounds)
    rows = [[f"{size} x {size}", *(number(times[size, mode]) for mode in MODES)] for size in sizes]
    spread = [max(times[s, m] for s in sizes) / min(times[s, m] for s in sizes) for m in MODES]
    rows.append(["max / min", *(f"{value:.2f}" for value in spread)])
    return Section("Size of the boxes", f"Microseconds at {tuple(shape)}, float32.", Table(["box", *MODES], rows))


def _blocks() -> dict[str, torch.nn.Module]:
    _, c, h, w = BLOCKS
    return {
        "box block": BoxBottleneck(c, max_input_h=h, max_input_w=w),
        ENET_BLOCK: Bottleneck(c, dilation=4),
        ERFNET_BLOCK: NonBottleneck1d(c, dilation=4),
    }


def _block_section(mode: str, rounds: int) -> Section:
    """The box block and the blocks that it replaces, each run in several ways."""
    times: dict[tuple[str, str], float] = {}
    for last in (False, True):
        calls = block_calls(mode, last)
        torch.set_default_device(None)  # a default device makes each call of PyTorch take the CPU longer
        if not last:
            for (name, way), microseconds in back_to_back(calls, rounds).items():
                times[name, f"{way}, one after the other"] = microseconds
        graphs = {key: captured(call) for key, call in calls.items()}
        for (name, way), microseconds in interleaved(graphs, rounds).items():
            times[name, f"{way}, CUDA graph{', channels_last' if last else ''}"] = microseconds
        torch.set_default_device("cuda")
    return Section(
        f"Blocks, {mode}",
        f"Microseconds; float32, input {BLOCKS}, {'inference' if mode == MODES[0] else 'training with all gradients'}. "
        "`one after the other` is the time of a call where many follow each other; most of it is Python's and "
        "PyTorch's.",
        block_table(times),
    )


def block_calls(mode: str, last: bool) -> dict[tuple[str, str], Call]:
    """By name of the block and the way in which it is called."""
    b, c, h, w = BLOCKS
    memory_format = torch.channels_last if last else torch.contiguous_format
    image, grad = (torch.randn(b, c, h, w).contiguous(memory_format=memory_format) for _ in range(2))
    image.requires_grad_(mode == MODES[1])
    calls: dict[tuple[str, str], Call] = {}
    for name, block in _blocks().items():
        block = block.train(mode == MODES[1])
        block.to(memory_format=memory_format)  # type: ignore[call-overload]
        step = functools.partial(_block_step, mode, grad, [image, *block.parameters()])
        calls[name, "eager"] = functools.partial(step, block)
        calls[name, "compiled"] = functools.partial(step, torch.compile(block))
    return calls


def block_table(times: dict[tuple[str, str], float]) -> Table:
    rows = []
    ways = list(dict.fromkeys(way for _, way in times))
    peers = (ENET_BLOCK, ERFNET_BLOCK)
    for way in ways:
        row = [way, number(times["box block", way])]
        for peer in peers:
            row += [number(times[peer, way]), number(times["box block", way] / times[peer, way], digits=2)]
        rows.append(row)
    for start in ("eager", "compiled"):
        fastest = {
            name: min(times[name, way] for way in ways if way.startswith(f"{start}, CUDA graph"))
            for name in ("box block", *peers)
        }
        row = [f"{start}, {FASTER}", ""]
        for peer in peers:
            row += ["", number(fastest["box block"] / fastest[peer], digits=2)]
        rows.append(row)
    return Table(["", "box block", *(cell for peer in peers for cell in (peer, "box block / this"))], rows)


@torch.no_grad()
def _deployed_section(rounds: int) -> Section:
    """Blocks, and networks on one image and on eight, deployed in both memory formats."""
    b, c, h, w = BLOCKS
    rows: dict[str, list[float]] = {}
    for dtype in DTYPES.values():
        made: dict[str, tuple[torch.nn.Module, torch.Tensor]] = {
            name: (block, torch.randn(b, c, h, w)) for name, block in _blocks().items()
        }
        for batch in (1, 8):
            image = torch.randn(batch, 3, *IMAGE)
            for name in NETWORKS:
                made[f"{name}, batch {batch}"] = create(name, 19, input_size=IMAGE), image
        calls = {}
        for name, (module, image) in made.items():
            for last in (False, True):
                deployed = deploy(module, channels_last=last).to(dtype)
                memory_format = torch.channels_last if last else torch.contiguous_format
                argument = image.to(dtype).contiguous(memory_format=memory_format)
                calls[name, last] = captured(functools.partial(deployed, argument))
        times = interleaved(calls, rounds)
        for name in made:
            rows.setdefault(name, []).extend(times[name, last] for last in (False, True))
    return deployed_table(rows)


def deployed_table(rows: dict[str, list[float]]) -> Section:
    """rows: microseconds in float32, contiguous and channels_last, and in bfloat16, by name."""
    cells = [[name, *map(number, times)] for name, times in rows.items()]
    ratios = [("box block", peer) for peer in (ENET_BLOCK, ERFNET_BLOCK)]
    ratios += [
        (f"{mine}, batch {batch}", f"{peer}, batch {batch}")
        for batch in (1, 8)
        for mine, peer in (("boxenet", "enet"), ("boxonlyenet", "enet"), ("boxerfnet", "erfnet"))
    ]
    for mine, peer in ratios:
        fastest = [[min(rows[name][start : start + 2]) for start in (0, 2)] for name in (mine, peer)]
        values = [f"{one / other:.2f}" for one, other in zip(*fastest, strict=True)]
        cells.append([f"{mine.split(',')[0]} / {peer}", values[0], "", values[1], ""])
    header = ["", "float32", "float32, channels_last", "bfloat16", "bfloat16, channels_last"]
    text = (
        f"Microseconds of inference as CUDA graphs, after `box_convolution.deploy`: blocks with input {BLOCKS}, "
        f"networks on {IMAGE[0]} x {IMAGE[1]} pixels. Ratios are those of the faster memory format of each."
    )
    return Section(DEPLOYED, text, Table(header, cells))


def _block_step(mode: str, grad: torch.Tensor, leaves: list[torch.Tensor], block: Callable[..., Any]) -> object:
    """``leaves``: the image, and the parameters of ``block``."""
    if mode == MODES[0]:
        with torch.no_grad():
            return block(leaves[0])
    return torch.autograd.grad(block(leaves[0]), leaves, grad)


if __name__ == "__main__":
    main()
