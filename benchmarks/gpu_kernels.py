"""What can be known about the Triton kernels without a GPU: registers, shared memory, launches, bytes to move."""

from typing import Any

import torch
import triton
from correctness import from_tests

from box_convolution.ops.triton import launch as launcher
from boxconv.reports.tables import Section, Table

SHAPES = [(8, 32, 4, 64, 128), (8, 16, 4, 128, 256), (8, 8, 2, 256, 512), (1, 32, 4, 64, 128), (32, 64, 4, 128, 128)]
DTYPE_SIZES = {"fp32": 4, "bf16": 2}


def minimal_bytes(shape: tuple[int, ...], size: int) -> tuple[int, int]:
    """Least number of bytes to move in forward and in backward, for elements of ``size`` bytes.

    Forward reads the input and writes the output. Backward reads the input and the gradient of the output, and writes
    the gradient of the input.
    """
    b, c, m, h, w = shape
    plane = b * c * h * w * size
    return (1 + m) * plane, (m + 2) * plane


def sections() -> list[Section]:
    compiler = from_tests("triton_compile")
    return [_cost(compiler), _resources(compiler), _traffic(compiler)]


def _resources(compiler: Any) -> Section:
    rows: dict[str, list[str]] = {}
    for column, target in enumerate(compiler.TARGETS):
        for launch, kernel in compiler.compile_all(target, torch.float32):
            needs = compiler.resources(kernel, compiler.TARGETS[target][0])
            options = [name for name in ("RELU", "LONG") if launch.arguments.get(name)]
            if "K" in launch.arguments:
                options.insert(0, f"{launch.arguments['p_image'].shape[3]} columns")
            if launch.arguments.get("DENSE") is False:
                options.append("stride 2")
            if launch.arguments.get("NORMALIZE") is False:
                options.append("sums")
            options += [f"no {name}" for name in ("BY_INPUT", "BY_BOXES") if launch.arguments.get(name) is False]
            name = ", ".join([launch.kernel.__name__, *options])
            cells = rows.setdefault(name, [""] * len(compiler.TARGETS))
            cells[column] = f"{needs.registers} / {needs.spilled} / {needs.shared}"
    text = (
        f"float32, compiled by Triton {triton.__version__} with the tiles and warps of a real launch: registers per "
        "thread / bytes spilled per thread / bytes of shared memory per program."
    )
    table = Table(["kernel", *compiler.TARGETS], [[name, *cells] for name, cells in rows.items()])
    return Section("Kernels, compiled", text, table)


# Of an H100's processor in a cycle: instructions of a thread; bytes of its near cache, and of the one that all share,
# to which everything that is written goes; float64 operations; conversions from and to float64. And what a processor
# copies in a cycle, where all of them copy 3.0 TB/s at 1.755 GHz.
ISSUED, NEAR_BYTES, FAR_BYTES, DOUBLES, CONVERSIONS = 128, 128, 5120 / 132, 64, 16
COPIED = 3.0e12 / 1.755e9 / 132


def _cost(compiler: Any) -> Section:
    """Lower limits of the cost: cycles per output (or pixel and box) if a multiprocessor's units are always busy."""
    target, limits = compiler.TARGETS["sm_90"]
    rows = []
    for shape in SHAPES[:2]:
        for dtype, size in ((torch.float32, 4), (torch.bfloat16, 2)):
            with compiler.recorded(limits) as launches:
                compiler._call(*shape, dtype)
            for launch in launches:
                if launch.kernel.__name__ == "edge_gradients":
                    continue
                kernel, made = compiler.compiled(launch, target), _made_in_a_turn(launch)
                walk = compiler.walk(kernel)
                forward = launch.kernel.__name__ in ("box_rows", "box_short_rows")
                read = (1 / shape[2] if forward else 1 + 1 / shape[2]) * size
                counts = [
                    len(walk) / made, _start(compiler, kernel), _bytes(walk, "LDG", "STG", "LDS", "STS") / made,
                    _bytes(walk, "STG") / made + read,
                    sum(compiler.count(walk, text) for text in ("DADD", "DMUL", "DFMA", "DSETP")) / made,
                    compiler.count(walk, "F2F") / made,
                ]  # fmt: skip
                per_cycle = [ISSUED, NEAR_BYTES, FAR_BYTES, DOUBLES, CONVERSIONS]
                cycles = [value / limit for value, limit in zip(counts[:1] + counts[2:], per_cycle, strict=True)]
                least = ((1 if forward else 2) / shape[2] + 1) * size / COPIED
                rows.append(
                    [f"{'forward' if forward else 'backward'}, {str(dtype)[6:]}, {shape[3]} x {shape[4]}",
                     *(f"{value:.1f}" for value in counts), *(f"{value:.2f}" for value in cycles),
                     f"{least:.2f}", f"{100 * min(1, least / max(cycles)):.0f} %"]
                )  # fmt: skip
    header = [
        "per output, or pixel and box", "instructions", "to start", "L1 bytes", "L2 bytes", "float64", "conversions",
        "cycles to issue", "L1 cache", "L2 cache", "float64 unit", "conversion unit", "copy", "at most, of copy speed",
    ]  # fmt: skip
    text = (
        "Instructions were counted in the machine code for sm_90, compiled by Triton "
        f"{triton.__version__}, in the loops that walk down the rows, for M = 4. The columns from `cycles to issue` "
        "to `copy` are the cycles that each unit of one H100 multiprocessor needs if it is always busy. This is a "
        "lower limit, because latency is not counted. The goals are 0.45 cycles per output (forward) and 0.6 per pixel "
        "and box (backward). At the start of a strip of rows, the kernel reads as many rows as the boxes are high; `to "
        "start` counts the instructions for each of these pixels. We assume 16 conversions per cycle, and an L2 cache "
        "that moves 5120 bytes per cycle for 132 multiprocessors. Each pixel is read from it once for all boxes, and "
        "all results are written to it. A channels_last tensor is moved to planes before the kernels, and its result "
        "back after them, each at the speed of a copy; this is not counted."
    )
    return Section("Cost, counted", text, Table(header, rows))


def _made_in_a_turn(launch: Any) -> float:
    """Outputs, or pixels times boxes, that a thread makes in one turn of the loop that walks down the rows."""
    of = launch.arguments
    rows = of["ROWS"] if "ROWS" in of else of["C"]
    return rows * of.get("N", 1) * of["C"] * of["K"] * 4 / (32 * launch.warps)


def _start(compiler: Any, kernel: Any) -> float:
    """Instructions per pixel of the loop that adds up the rows of boxes: the one with least for each of its loads."""
    loops = [loop for loop in compiler.loops(kernel) if loop is not compiler.walk(kernel)]
    size = 4 if any(compiler.count(loop, "LDG.E.128") for loop in loops) else 2
    return min(len(loop) / (_bytes(loop, "LDG") / size) for loop in loops if _bytes(loop, "LDG"))


def _bytes(code: list[str], *names: str) -> int:
    """That a thread reads and writes by instructions with these names."""
    widths = {"64": 8, "128": 16, "U16": 2, "U8": 1}
    found = [text.split(" ")[0].split(".") for text in code if text.startswith(names)]
    return sum(next((widths[part] for part in parts if part in widths), 4) for parts in found)


def _traffic(compiler: Any) -> Section:
    _, limits = compiler.TARGETS["sm_90"]
    rows = []
    for shape in SHAPES:
        b, c, m, h, w = shape
        image, boxes = torch.empty(b, c, h, w, device="meta"), torch.empty(c, m, 4, device="meta")
        with compiler.recorded(limits) as forward:
            output = launcher.box_conv2d(image, boxes, True, 1)
        with compiler.recorded(limits) as backward:
            launcher.box_conv2d_backward(output, image, boxes, True, 1, [True, True])
        cells = [f"{value / 1e6:.1f}" for size in DTYPE_SIZES.values() for value in minimal_bytes(shape, size)]
        scratch = [_scratch_megabytes(launches) for launches in (forward, backward)]
        rows.append([str(shape), *cells, str(len(forward)), scratch[0], str(len(backward)), scratch[1]])
    header = ["B, C, M, H, W"]
    header += [f"{way} {name} MB" for name in DTYPE_SIZES for way in ("fwd", "bwd")]
    header += ["fwd launches", "fwd scratch MB", "bwd launches", "bwd scratch MB"]
    text = (
        "fwd and bwd: the least number of bytes that must be read and written. P is the size of the input in bytes: "
        "forward reads P and writes `M*P`, backward reads `M*P` and P and writes P. Launches and scratch memory are "
        "those of a float32 input on a GPU with 132 multiprocessors. Scratch memory holds running sums of rows, each "
        "read while it is still in the cache, and sums for the boxes' gradients."
    )
    return Section("Bytes and launches, by count", text, Table(header, rows))


def _scratch_megabytes(launches: list[Any]) -> str:
    """Each tensor is counted once."""
    found = {
        id(value): value.numel() * value.element_size()
        for launch in launches
        for name, value in launch.arguments.items()
        if name in ("p_scratch", "p_by_box")
    }
    return f"{sum(found.values()) / 1e6:.1f}"
