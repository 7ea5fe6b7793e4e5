"""Compile the Triton kernels of a call for a GPU, which need not be present, and examine the machine code.

The launch code of the operator runs on tensors without data, and its launches are recorded instead of executed. So the
kernels are compiled with exactly the arguments, tiles and warps of a real launch.
`PYTHONPATH=FOLDER:. python tests/triton_compile.py sm_90 float32` prints the faults as JSON, with the Triton in FOLDER.
"""

import functools
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
import triton
from torch import Tensor
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from box_convolution.ops.epilogue import Epilogue
from box_convolution.ops.triton import launch as launcher

# Compute capability or architecture, with the limits of a GPU of that kind.
TARGETS = {
    "sm_80": (GPUTarget("cuda", 80, 32), launcher.Limits(processors=108)),
    "sm_90": (GPUTarget("cuda", 90, 32), launcher.Limits(processors=132)),
    "gfx942": (GPUTarget("hip", "gfx942", 64), launcher.Limits(processors=304, warp=64)),
}
# Barriers in a turn of the loop that walks down the rows: two each time that rows are moved through shared memory.
WAITS = {"box_rows": 2, "grad_rows": 3, "box_short_rows": 2, "grad_short_rows": 6}
# The same for rows that several warps share, whose sums go through shared memory, too; on sm_80, which is not measured.
WAITS_OF_WARPS = {"box_short_rows": 7, "grad_short_rows": 18}
WAITS_ON_80 = {"grad_short_rows": 42}
_NAMES = {torch.float64: "fp64", torch.float32: "fp32", torch.float16: "fp16", torch.bfloat16: "bf16"}


class Launch(NamedTuple):
    """A kernel, its grid, its arguments by name, and the number of warps per program."""

    kernel: Any
    grid: tuple[int, ...]
    arguments: dict[str, Any]
    warps: int


class Resources(NamedTuple):
    """``registers`` and ``spilled`` bytes per thread, ``shared`` bytes per program."""

    registers: int
    spilled: int
    shared: int


@contextmanager
def recorded(limits: launcher.Limits) -> Iterator[list[Launch]]:
    """A list of the launches inside the block, which are recorded but not executed."""
    launches: list[Launch] = []

    class Recorder:
        def __init__(self, module: Any) -> None:
            self.module = module

        def __getattr__(self, name: str) -> Any:
            return _Kernel(getattr(self.module, name))

    class _Kernel:
        def __init__(self, kernel: Any) -> None:
            self.kernel = kernel

        def __getitem__(self, grid: tuple[int, ...]) -> Callable[..., None]:
            def launch(*args: Any, num_warps: int = 4, **kwargs: Any) -> None:
                arguments = dict(zip(self.kernel.arg_names, args, strict=False)) | kwargs
                launches.append(Launch(self.kernel, grid, arguments, num_warps))

            return launch

    originals = launcher._kernels, launcher.limits
    modules = tuple(Recorder(module) for module in launcher._kernels())
    launcher._kernels, launcher.limits = (lambda: modules), (lambda device: limits)  # type: ignore[assignment]
    try:
        yield launches
    finally:
        launcher._kernels, launcher.limits = originals  # type: ignore[assignment]


def launches(limits: launcher.Limits, dtype: torch.dtype) -> list[Launch]:
    """Every kernel there is for ``dtype``; and of wider rows, unaligned and long ones and other options for float32."""
    with recorded(limits) as found:
        _call(8, 32, 4, 64, 128, dtype, fused=True)
        _call(8, 32, 1, 64, 128, dtype)  # a single warp shares no memory
        image = torch.empty(8, 32, 64, 128, dtype=dtype, device="meta")
        launcher._contiguous(image.to(memory_format=torch.channels_last))
        launcher._transposed(torch.empty(8, 31, 63, 125, dtype=dtype, device="meta"), torch.channels_last)  # unaligned
        launcher.projected_boxes(torch.empty(32, 4, 4, dtype=dtype, device="meta"), 64, 128)
        if dtype == torch.float32:
            _call(8, 16, 4, 128, 256, dtype, fused=True)
            _call(8, 8, 2, 256, 512, dtype, fused=True)
            _call(1, 2, 2, 8, 45, dtype)
            _call(1, 1, 1, 8, 5000, dtype)
            _call(8, 32, 4, 64, 128, dtype, stride=2, fused=True, output_mask=[True, False])
            _call(8, 32, 4, 64, 128, dtype, normalize=False, output_mask=[False, True])
    return found


def _call(
    b: int, c: int, m: int, h: int, w: int, dtype: torch.dtype,
    *, normalize: bool = True, stride: int = 1, fused: bool = False, output_mask: list[bool] | None = None,
) -> None:  # fmt: skip
    image = torch.empty(b, c, h, w, dtype=dtype, device="meta")
    boxes = torch.empty(c, m, 4, device="meta")
    output = launcher.box_conv2d(image, boxes, normalize, stride)
    if fused:
        scale = torch.empty(c * m, device="meta")
        launcher.box_conv2d_fused(image, boxes, Epilogue(scale, scale, output, True), normalize, stride)
    launcher.box_conv2d_backward(output, image, boxes, normalize, stride, output_mask or [True, True])


def compile_all(target_name: str, dtype: torch.dtype) -> list[tuple[Launch, Any]]:
    """All kernels, compiled, each with one of its launches. Launches that differ only in numbers share a kernel."""
    target, limits = TARGETS[target_name]
    found = {source(launch).hash(): launch for launch in launches(limits, dtype)}
    return [(launch, compiled(launch, target)) for launch in found.values()]


def source(launch: Launch) -> ASTSource:
    constants = {parameter.name for parameter in launch.kernel.params if parameter.is_constexpr}
    signature, values, attributes = {}, {}, {}
    for position, name in enumerate(launch.kernel.arg_names):
        value = launch.arguments[name]
        if name in constants or value is None:
            signature[name], values[(position,)] = "constexpr", value
        elif isinstance(value, Tensor):
            signature[name], attributes[(position,)] = f"*{_NAMES[value.dtype]}", [["tt.divisibility", 16]]
        else:
            signature[name] = "i32" if -(2**31) <= value < 2**31 else "i64"
    return ASTSource(launch.kernel, signature, values, attributes)


def compiled(launch: Launch, target: GPUTarget) -> Any:
    """Compile the kernel of a launch. For AMD without NVIDIA's options, like `launcher` in a PyTorch for AMD."""
    names = ("enable_fp_fusion", "maxnreg") if target.backend == "cuda" else ("enable_fp_fusion",)
    options = {name: launch.arguments[name] for name in names if name in launch.arguments} | {"num_warps": launch.warps}
    return triton.compile(source(launch), target=target, options=options)


def resources(kernel: Any, target: GPUTarget) -> Resources:
    """Resources that a kernel needs, found by tools that come with Triton."""
    shared = kernel.metadata.shared
    if target.backend == "hip":
        text = kernel.asm["amdgcn"]
        # Accumulators are counted among the vector registers: the two share a file.
        names = ("vgpr_count", "private_segment_fixed_size")
        registers, spilled = (int(re.search(rf"\.{name}:\s*(\d+)", text)[1]) for name in names)
        return Resources(registers, spilled, shared)
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "kernel.ptx").write_text(kernel.asm["ptx"])
        said = "no assembler found"
        # Triton comes with several assemblers; which one accepts its PTX depends on the version of Triton.
        for tool in sorted((Path(triton.__file__).parent / "backends" / "nvidia" / "bin").glob("ptxas*"), reverse=True):
            architecture = f"--gpu-name=sm_{target.arch}{'a' if target.arch == 90 else ''}"
            run = subprocess.run([tool, "-v", architecture, "kernel.ptx"], cwd=folder, capture_output=True, text=True)
            said = run.stderr
            if run.returncode == 0:
                break
    found = re.search(r"(\d+) bytes spill stores.*Used (\d+) registers", said, re.DOTALL)
    assert found, said
    return Resources(int(found[2]), int(found[1]), shared)


@functools.lru_cache(64)
def loops(kernel: Any) -> list[list[str]]:
    """Instructions of every innermost loop in the machine code (NVIDIA), without their predicates."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(kernel.asm["cubin"])
        file.flush()
        tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
        said = subprocess.run([tool, "-sass", file.name], capture_output=True, text=True, check=True).stdout
    found = re.findall(r"/\*([0-9a-f]{4,5})\*/ +(?:@!?U?P\w+ )?([^;]*?) *;", said)
    code = [(int(address, 16), text) for address, text in found]
    spans = []
    for address, text in code:
        jump = re.match(r"BRA.*0x([0-9a-f]+)", text)
        if jump and int(jump[1], 16) < address:
            spans.append((int(jump[1], 16), address))
    inner = [s for s in spans if not any(o != s and s[0] <= o[0] and o[1] <= s[1] for o in spans)]
    return [[text for address, text in code if first <= address <= last] for first, last in inner]


def walk(kernel: Any) -> list[str]:
    """The loop that walks down the rows: the shortest with about as many loads of 8 bytes as any, from scratch or from
    shared memory. What comes after it for each box may be laid out as a part of it.
    """
    found = [(count(loop, "LDG.E.64") + count(loop, "LDS.64"), loop) for loop in loops(kernel)]
    most = max(loads for loads, _ in found)
    return min((loop for loads, loop in found if loads >= 0.9 * most), key=len)


def count(loop: list[str], name: str) -> int:
    return sum(instruction.startswith(name) for instruction in loop)


def faults(launch: Launch, kernel: Any, target: GPUTarget) -> Iterator[str]:
    """Faults in the machine code that would make a kernel slow."""
    name = launch.kernel.__name__
    needs = resources(kernel, target)
    whole = name in WAITS and not launch.arguments.get("LONG")
    if needs.spilled > 256:  # a few numbers that are needed once a plane may be kept elsewhere
        yield f"{needs.spilled} bytes of registers are spilled"
    if target.backend != "cuda":
        return
    # A thread knows much of a box beside four rows: reading up to 3 % again cost no time on an H200.
    most = 0.03 if name == "grad_short_rows" else 0.02
    for loop in loops(kernel):
        spills = count(loop, "LDL") + count(loop, "STL")
        if spills > most * len(loop):
            yield f"{spills} of the {len(loop)} instructions of a loop are for registers that are spilled"
    if whole:
        # Rows go from layout to layout where the code says so, and wait for each other no more than that needs.
        if not name.endswith("short_rows") and (
            moved := [text for text in walk(kernel) if text.startswith(("LDS", "STS"))]
        ):
            yield f"the walk down the rows goes through shared memory: {moved[:2]}"
        most_waits = WAITS
        if launch.arguments["K"] > target.warp_size:
            most_waits = WAITS | WAITS_OF_WARPS | (WAITS_ON_80 if target.arch == 80 else {})
        if (waits := count(walk(kernel), "BAR")) > most_waits[name]:
            yield f"the walk down the rows waits {waits} times"
    aligned = whole and launch.arguments["STEP"] > 1 and launch.arguments["p_image"].element_size() == 4
    if aligned and not any(count(loop, "LDG.E.128") for loop in loops(kernel)):
        yield "rows that are aligned are not read 16 bytes at a time"


if __name__ == "__main__":
    chosen, _ = TARGETS[sys.argv[1]]
    for launch, kernel in compile_all(sys.argv[1], getattr(torch, sys.argv[2])):
        found = [triton.__version__, launch.kernel.__name__, *faults(launch, kernel, chosen)]
        print(json.dumps(found), flush=True)
