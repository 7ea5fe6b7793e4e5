"""Run the CPU kernels for arm64 under emulation, against the oracle and AVX2's kernels: `make test-arm64`.

Needs Linux, CMake, a cross compiler and QEMU's user emulation; it installs none of them.
"""

import os
import shutil
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import oracle
import torch
from cases import Case, cases, tensors
from compatibility_table import record
from hypothesis import HealthCheck, Phase, given, settings
from tolerances import assert_gradient, assert_values
from torch import Tensor

from box_convolution import box_conv2d, ops
from box_convolution.ops import cpu_library, native

ROOT = Path(__file__).parents[1]
BUILD = ROOT / "build" / "arm64"
# Commands, and the Debian packages that contain them.
NEEDED = {
    "cmake": "cmake",
    "aarch64-linux-gnu-g++": "g++-aarch64-linux-gnu",
    "qemu-aarch64": "qemu-user",
}
CASES = int(os.environ.get("BOX_CONVOLUTION_TEST_CASES", "250"))
DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16]


class Job(NamedTuple):
    """A case with its tensors. ``exact``: sums in float64. ``pixels``: the output is channels_last."""

    case: Case
    image: Tensor
    boxes: Tensor
    grad: Tensor
    exact: bool
    pixels: bool


def build() -> Path:
    """Build the library for arm64 and a driver that calls it; returns the driver's path."""
    compiler = "aarch64-linux-gnu-g++"
    target = ["-DCMAKE_SYSTEM_NAME=Linux", "-DCMAKE_SYSTEM_PROCESSOR=aarch64", f"-DCMAKE_CXX_COMPILER={compiler}"]
    for arguments in (
        ["-S", str(ROOT), "-B", str(BUILD), "-DCMAKE_BUILD_TYPE=None", *target],
        ["--build", str(BUILD), "--parallel", "2"],
    ):
        subprocess.run(["cmake", *arguments], check=True, stdout=subprocess.DEVNULL)
    driver = BUILD / "driver"
    sources = [str(ROOT / "tests" / "arm64_driver.cpp"), f"-L{BUILD}", "-lbox_conv2d", f"-Wl,-rpath,{BUILD}"]
    subprocess.run([compiler, "-std=c++17", "-O1", "-o", str(driver), *sources], check=True)
    return driver


def drawn() -> list[Case]:
    """Cases as in the operator's own tests, always the same ones."""
    found: list[Case] = []

    @settings(
        max_examples=CASES,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(cases())
    def collect(case: Case) -> None:
        if case.batch:
            found.append(case)

    collect()
    return found


def request(job: Job, grad: Tensor | None) -> bytes:
    case, image = job.case, job.image.detach()
    wide = job.boxes.detach().double().contiguous()
    pixels = job.pixels and grad is None
    head = struct.pack(
        "<16q", grad is not None, *image.shape[:2], case.per_channel, *image.shape[2:], case.stride,
        native.DTYPES[image.dtype], case.normalize, job.exact, *image.stride(), image.numel(), pixels,
    )  # fmt: skip
    parts = [wide, image] if grad is None else [wide, image, grad]
    return head + b"".join(part.contiguous().view(torch.uint8).numpy().tobytes() for part in parts)


def taken(stream: memoryview, start: int, shape: tuple[int, ...], dtype: torch.dtype) -> tuple[Tensor, int]:
    count = torch.Size(shape).numel() * dtype.itemsize
    data = torch.frombuffer(bytearray(stream[start : start + count]), dtype=dtype)
    return data.view(shape), start + count


def check(stream: memoryview, jobs: list[Job]) -> int:
    """Check every result against the table of tolerances, and float32 outputs bit for bit against AVX2's kernels.

    Returns the number of outputs that were compared bit for bit.
    """
    at = same = 0
    for job in jobs:
        case, image, boxes = job.case, job.image, job.boxes
        arrays = [tensor.detach().double().numpy() for tensor in (job.grad, image, boxes)]
        status, at = taken(stream, at, (1,), torch.int64)
        assert status.item() == 0 or (job.pixels and status.item() == cpu_library.NOT_SERVED)
        if status.item() == 0:
            truth = oracle.box_conv2d(*arrays[1:], normalize=case.normalize, stride=case.stride)
            b, c, h, w = truth.shape
            output, at = taken(stream, at, (b, h, w, c) if job.pixels else truth.shape, image.dtype)
            output = output.permute(0, 3, 1, 2) if job.pixels else output
            assert_values(output, truth, image.abs().max().item() * (1 if case.normalize else h * w * case.stride**2))
            # AVX2's kernels do the same operations as NEON's; those with AVX-512 sum in float64.
            if image.dtype == torch.float32 and not job.exact and "avx2" in cpu_library.isas():
                with ops.use("cpu"), cpu_library.use_isa("avx2"), torch.no_grad():
                    here = box_conv2d(image, boxes, normalize=case.normalize, stride=case.stride)
                assert torch.equal(output, here), case
                same += 1
        grad_image, grad_boxes = oracle.gradients(*arrays, normalize=case.normalize, stride=case.stride)
        found, at = taken(stream, at, tuple(image.shape), image.dtype)
        assert_gradient(found, grad_image)
        found, at = taken(stream, at, tuple(boxes.shape), torch.float64)
        assert_gradient(found.to(boxes.dtype), grad_boxes)
    assert at == len(stream)
    return same


def all_jobs() -> Iterator[Job]:
    """Jobs with all dtypes in turn, and with boxes in float32 or in float64; the latter ask for sums in float64."""
    for number, case in enumerate(drawn()):
        dtype = DTYPES[number % 4]
        boxes_dtype = torch.float64 if number % 8 >= 6 or dtype == torch.float64 else torch.float32
        image, boxes, grad = tensors(case, dtype, boxes_dtype, Tensor.clone)
        yield Job(case, image, boxes, grad, boxes_dtype == torch.float64, pixels=number % 3 == 2)


def main() -> int:
    missing = {command: package for command, package in NEEDED.items() if shutil.which(command) is None}
    if missing:
        packages = " ".join(missing.values())
        print(f"test-arm64: not run, for want of {', '.join(missing)}; on Debian: apt-get install {packages}")
        return 2
    driver, todo = build(), list(all_jobs())
    requests = b"".join(request(job, grad) for job in todo for grad in (None, job.grad))
    done = subprocess.run(
        ["qemu-aarch64", "-L", "/usr/aarch64-linux-gnu", str(driver)],
        input=requests,
        stdout=subprocess.PIPE,
        check=True,
    )
    isa, _, results = done.stdout.partition(b"\n")
    assert isa == b"neon", isa
    same = check(memoryview(results), todo)
    version = subprocess.run(["aarch64-linux-gnu-g++", "-dumpfullversion"], capture_output=True, text=True, check=True)
    text = f"{len(todo)} cases of the operator and their gradients; {same} float32 ones equal to AVX2 bit for bit"
    print(f"arm64, GCC {version.stdout.strip()}, emulated: {text}")
    record("machine", f"arm64 (NEON), GCC {version.stdout.strip()}, emulated by QEMU", text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
