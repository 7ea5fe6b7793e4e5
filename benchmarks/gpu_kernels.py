"""What is known of the Triton kernels without a GPU: registers and shared memory, launches, bytes to be moved."""

from typing import Any

import torch
import triton
from correctness import from_tests
from report import Section, Table

from box_convolution.ops import gpu

SHAPES = [(8, 32, 4, 64, 128), (8, 16, 4, 128, 256), (8, 8, 2, 256, 512), (1, 32, 4, 64, 128), (32, 64, 4, 128, 128)]
DTYPE_SIZES = {"fp32": 4, "bf16": 2}


def minimal_bytes(shape: tuple[int, ...], size: int) -> tuple[int, int]:
    """Forward: read the input, write the output. Backward: read both again as gradient and input, write a gradient."""
    b, c, m, h, w = shape
    plane = b * c * h * w * size
    return (1 + m) * plane, (m + 2) * plane


def sections() -> list[Section]:
    compiler = from_tests("triton_compile")
    return [_resources(compiler), _traffic(compiler)]


def _resources(compiler: Any) -> Section:
    rows: dict[str, list[str]] = {}
    for column, target in enumerate(compiler.TARGETS):
        for launch, needs in compiler.compile_all(target, torch.float32):
            options = [name for name in ("BANDED", "RELU") if launch.arguments.get(name)]
            if launch.arguments.get("DENSE") is False:
                options.append("stride 2")
            if launch.arguments.get("NORMALIZE") is False:
                options.append("sums")
            options += [f"no {name}" for name in ("BY_INPUT", "BY_BOXES") if launch.arguments.get(name) is False]
            name = ", ".join([launch.kernel.__name__, *options])
            cells = rows.setdefault(name, [""] * len(compiler.TARGETS))
            cells[column] = f"{needs.registers} / {needs.spilled} / {needs.shared}"
    text = (
        f"float32, compiled by Triton {triton.__version__} with the tiles and warps that a launch would take: "
        "registers of a thread / bytes of them that are spilled / bytes of shared memory of a program. `walk_bands` is "
        "held to 128 registers on NVIDIA GPUs, so that two programs of 8 warps run on a processor."
    )
    table = Table(["kernel", *compiler.TARGETS], [[name, *cells] for name, cells in rows.items()])
    return Section("Kernels, compiled", text, table)


def _traffic(compiler: Any) -> Section:
    _, limits = compiler.TARGETS["sm_90"]
    rows = []
    for shape in SHAPES:
        b, c, m, h, w = shape
        image, boxes = torch.empty(b, c, h, w, device="meta"), torch.empty(c, m, 4, device="meta")
        with compiler.recorded(limits) as forward:
            output = gpu.box_conv2d(image, boxes, True, 1)
        with compiler.recorded(limits) as backward:
            gpu.box_conv2d_backward(output, image, boxes, True, 1, [True, True])
        cells = [f"{value / 1e6:.1f}" for size in DTYPE_SIZES.values() for value in minimal_bytes(shape, size)]
        scratch = [_scratch_megabytes(launches) for launches in (forward, backward)]
        rows.append([str(shape), *cells, str(len(forward)), scratch[0], str(len(backward)), scratch[1]])
    header = ["B, C, M, H, W"]
    header += [f"{way} {name} MB" for name in DTYPE_SIZES for way in ("fwd", "bwd")]
    header += ["fwd launches", "fwd scratch MB", "bwd launches", "bwd scratch MB"]
    text = (
        "The least that must go through memory: forward reads P and writes M*P bytes, backward reads M*P and P and "
        "writes P. Launches and scratch memory (float32 input; tables of running sums, each read while it is in a near "
        "cache; partial sums) are those on a GPU with 132 processors and 50 MB of L2 cache."
    )
    return Section("Bytes and launches, by count", text, Table(header, rows))


def _scratch_megabytes(launches: list[Any]) -> str:
    """Of float64 tensors; each is counted once."""
    found = {
        id(value): 8 * value.numel()
        for launch in launches
        for value in launch.arguments.values()
        if isinstance(value, torch.Tensor) and value.dtype == torch.float64
    }
    return f"{sum(found.values()) / 1e6:.1f}"
