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
            options = [name for name in ("RELU",) if launch.arguments.get(name)]
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


# Of one multiprocessor of an H100 in a cycle: instructions of single threads; bytes from its L1 cache; float64
# operations; conversions from and to float64. COPIED: bytes that it copies, if all 132 copy 3.0 TB/s at 1.755 GHz.
ISSUED, NEAR_BYTES, DOUBLES, CONVERSIONS = 128, 128, 64, 16
COPIED = 3.0e12 / 1.755e9 / 132


def _cost(compiler: Any) -> Section:
    """Lower limits of the cost: cycles per output (or pixel and box) if a multiprocessor's units are always busy."""
    target, limits = compiler.TARGETS["sm_90"]
    rows = []
    for dtype, size in ((torch.float32, 4), (torch.bfloat16, 2)):
        with compiler.recorded(limits) as launches:
            compiler._call(8, 32, 4, 64, 128, dtype)
        for launch in launches:
            name = launch.kernel.__name__
            if name not in ("box_planes", "grad_planes"):
                continue
            kernel = compiler.compiled(launch, target)
            walk = compiler.walk(kernel)
            lanes = launch.arguments["LANES"] // (32 * launch.warps)
            building = _building(compiler, kernel) / launch.arguments["E"] / (4 if name == "box_planes" else 1)
            loads = sum(8 if text.startswith("LDG.E.64") else size for text in walk if text.startswith(("LDG", "STG")))
            doubles = sum(compiler.count(walk, text) for text in ("DADD", "DMUL", "DFMA", "DSETP"))
            least = (5 if name == "box_planes" else 6) * size / 4 / COPIED
            counts = [len(walk) / lanes, building, loads / lanes, doubles / lanes, compiler.count(walk, "F2F") / lanes]
            cycles = [
                (counts[0] + building) / ISSUED, counts[2] / NEAR_BYTES, counts[3] / DOUBLES, counts[4] / CONVERSIONS
            ]  # fmt: skip
            rows.append(
                [f"{name}, {str(dtype)[6:]}", *(f"{value:.1f}" for value in counts), *(f"{c:.2f}" for c in cycles),
                 f"{least:.2f}", f"{100 * min(1, least / max(cycles)):.0f} %"]
            )  # fmt: skip
    header = [
        "per output, or pixel and box", "instructions", "to integrate", "bytes", "float64", "conversions",
        "cycles to issue", "L1 cache", "float64 unit", "conversion unit", "copy", "at most, of copy speed",
    ]  # fmt: skip
    text = (
        "Instructions were counted in the machine code for sm_90, compiled by Triton "
        f"{triton.__version__}, in the loops that do nearly all the work, for B, C, M, H, W = 8, 32, 4, 64, 128. "
        "Cycles are those that each unit of one H100 multiprocessor needs if it is always busy: a lower limit, because "
        "latency is not counted. The goals were 0.45 cycles per output (forward) and 0.6 per pixel and box (backward). "
        "Neither is met. A float64 integral image takes 8 bytes per number; 32-bit integers would take 4, but only "
        "float64 holds any range of values. We assume 16 conversions per cycle. A channels_last tensor is copied "
        "before the kernels, and its result after them; this copying is not counted here."
    )
    return Section("Cost, counted", text, Table(header, rows))


def _building(compiler: Any, kernel: Any) -> int:
    """Number of instructions, per thread and row, in the two loops that build an integral image."""
    loops = compiler.loops(kernel)
    scans = [loop for loop in loops if compiler.count(loop, "SHFL") and compiler.count(loop, "LDG.E.128")]
    sums = [loop for loop in loops if compiler.count(loop, "LDG.E.128") and loop not in scans]
    # The loop that sums columns is unrolled: the number of loads in it is the number of rows per iteration.
    return sum(map(len, scans)) + min(len(loop) // compiler.count(loop, "LDG.E.128") for loop in sums)


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
        "those of a float32 input on a GPU with 132 multiprocessors and 50 MB of L2 cache. Scratch memory has the "
        "integral images, each read while it is still in the cache, and sums for the boxes' gradients."
    )
    return Section("Bytes and launches, by count", text, Table(header, rows))


def _scratch_megabytes(launches: list[Any]) -> str:
    """Megabytes of the float64 tensors among the arguments of the launches, each counted once."""
    found = {
        id(value): 8 * value.numel()
        for launch in launches
        for value in launch.arguments.values()
        if isinstance(value, torch.Tensor) and value.dtype == torch.float64
    }
    return f"{sum(found.values()) / 1e6:.1f}"
