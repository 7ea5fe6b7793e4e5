"""The Triton kernels without a GPU: run by Triton's interpreter, compiled for three GPUs, shared out, and chosen."""

import concurrent.futures
import itertools
import multiprocessing
import os
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch

from box_convolution import box_conv2d, ops
from box_convolution.ops import dispatch, gpu

TESTS = Path(__file__).parents[1]
needs_triton = pytest.mark.skipif(gpu.status() is not None, reason=f"no Triton that serves: {gpu.status()}")


@needs_triton
def test_in_the_interpreter() -> None:
    """triton_in_interpreter.py, in two processes: the interpreter is chosen as Triton's kernels are first imported."""
    path = os.pathsep.join([str(TESTS), str(TESTS.parent), *filter(None, [os.environ.get("PYTHONPATH")])])
    file = str(TESTS / "ops" / "triton_in_interpreter.py")
    command = [sys.executable, "-m", "pytest", "-p", "interpreter", file, "-k"]
    environment = os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    half = "test_float64 or test_half"
    runs = [
        subprocess.Popen(
            [*command, which], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        for which in (half, f"not ({half})")
    ]
    for run in runs:
        said, _ = run.communicate()
        assert run.returncode == 0, said
        assert "passed" in said or "100%" in said, said


def _compile(target: str, dtype: torch.dtype) -> list[tuple[str, int]]:
    """Name and spilled bytes of each kernel, in a process of a pool."""
    import triton_compile

    return [(launch.kernel.__name__, needs.spilled) for launch, needs in triton_compile.compile_all(target, dtype)]


@needs_triton
def test_every_kernel_compiles_for_three_gpus() -> None:
    """float32 for all of them, other dtypes for one each; `make test-gpu` compiles every dtype for every GPU.

    Triton keeps what it has compiled, in ~/.triton: the first time takes longest.
    """
    targets = ("sm_80", "sm_90", "gfx942")
    chosen = {(target, torch.float32) for target in targets}
    chosen |= set(zip(targets, (torch.float16, torch.bfloat16, torch.float64), strict=True))
    if os.environ.get("BOX_CONVOLUTION_TEST_ALL_KERNELS"):
        chosen = set(itertools.product(targets, (torch.float32, torch.float64, torch.bfloat16, torch.float16)))
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(2, mp_context=context) as pool:
        jobs = {which: pool.submit(_compile, *which) for which in chosen}
        for which, job in jobs.items():
            kernels = job.result()
            assert {name for name, _ in kernels} == KERNELS
            for name, spilled in kernels:
                # A few numbers that are needed once a tile may be kept elsewhere; how many, compilers disagree.
                assert spilled <= 256, f"{name} for {which} spills {spilled} bytes"


KERNELS = {"box_planes", "walk_bands", "edge_gradients", "sum_bands", "build_bands", "box_bands", "add_bands"}
H200 = gpu.Limits(processors=132, near_memory=37 * 2**20)


def table_bytes(h: int, w: int) -> int:
    return 8 * (h + 1) * -(-(w + 2) // 16) * 16


@pytest.mark.parametrize("planes", [1, 7, 64, 128, 256, 2048, 65_536 * 64, 2**33])
@pytest.mark.parametrize(
    "size", [(1, 1), (1, 70_001), (64, 128), (256, 512), (1024, 2048), (70_001, 1), (40_000, 40_000)]
)
def test_work_is_shared_out_whole(planes: int, size: tuple[int, int]) -> None:
    h, w = size
    tile = gpu.Tile.of(h, w, H200.tile, H200.columns)
    assert tile.rows * tile.columns <= H200.tile
    for shared in (
        gpu.share_forward(planes, 4, h, table_bytes(h, w), tile.rows, H200),
        gpu.share_backward(planes, h, tile.rows, H200),
    ):
        assert shared.bands * shared.band >= h > (shared.bands - 1) * shared.band
        assert 1 <= shared.planes <= planes
        if shared.bands == 1:
            assert 1 <= shared.programs <= 2 * H200.processors, "programs go on to further planes: no grid is too large"
            assert 1 <= shared.parts <= 4
        else:
            assert shared.band % tile.rows == 0
            assert shared.planes * shared.bands < 2**31


@pytest.mark.parametrize("shape", [(8, 32, 4, 64, 128), (8, 16, 4, 128, 256), (32, 64, 4, 128, 128)])
def test_one_launch_where_the_planes_allow_it(shape: tuple[int, ...]) -> None:
    batch, channels, per_channel, h, w = shape
    rows = gpu.Tile.of(h, w, H200.tile, H200.columns).rows
    forward = gpu.share_forward(batch * channels, per_channel, h, table_bytes(h, w), rows, H200)
    assert forward.bands == 1
    assert forward.programs >= 128
    assert forward.programs * table_bytes(h, w) <= H200.near_memory
    assert gpu.share_backward(batch * channels, h, rows, H200).bands == 1


@needs_triton
def test_a_cpu_tensor_without_the_interpreter() -> None:
    message = "implementation 'triton' was asked for, but input is on cpu: .* by Triton's interpreter, with TRITON_INT"
    with pytest.raises(ValueError, match=message), ops.use("triton"):
        box_conv2d(torch.zeros(1, 1, 2, 2), torch.zeros(1, 1, 4))


@pytest.fixture
def no_triton(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if Triton were not installed."""
    monkeypatch.setitem(sys.modules, "triton", None)
    for name in ("triton_kernels", "triton_backward", "triton_corners", "triton_tables"):
        monkeypatch.delitem(sys.modules, f"{gpu.__package__}.{name}", raising=False)
    for cached in (gpu.status, gpu._kernels, dispatch._kernels_are_there):
        cached.cache_clear()
    yield
    for cached in (gpu.status, gpu._kernels, dispatch._kernels_are_there):
        cached.cache_clear()


@pytest.mark.usefixtures("no_triton")
def test_forced_without_triton() -> None:
    with pytest.raises(OSError, match=r"Triton cannot be imported \(.*\)\. On Linux: pip"), ops.use("triton"):
        pass


@needs_triton
def test_an_old_triton(monkeypatch: pytest.MonkeyPatch) -> None:
    import triton

    monkeypatch.setattr(triton, "__version__", "3.2.0")
    gpu.status.cache_clear()
    with pytest.raises(OSError, match=r"Triton 3\.2\.0 is older than 3\.6, .* with PyTorch 2\.10"), ops.use("triton"):
        pass
    gpu.status.cache_clear()


@pytest.mark.usefixtures("no_triton")
def test_gpus_without_triton_warn_once_and_use_the_reference() -> None:
    class OnGpu:
        device = torch.device("cuda", 0)

    with pytest.warns(UserWarning, match="box_conv2d runs on its plain-PyTorch reference.*Triton cannot be imported"):
        assert ops.backend(OnGpu()) == "reference"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert ops.backend(OnGpu()) == "reference"


@needs_triton
def test_gpus_are_served_by_triton_unless_they_are_too_old(monkeypatch: pytest.MonkeyPatch) -> None:
    class OnGpu:
        device = torch.device("cuda", 0)

    monkeypatch.setattr(torch.version, "hip", None)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "GeForce GTX 1080")
    for capability, name in (((9, 0), "triton"), ((6, 1), "reference")):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device, found=capability: found)
        gpu.status.cache_clear()
        dispatch._kernels_are_there.cache_clear()
        if name == "triton":
            assert ops.backend(OnGpu()) == name
        else:
            with pytest.warns(UserWarning, match="GeForce GTX 1080 has compute capability 6.1, and Triton needs 7.0"):
                assert ops.backend(OnGpu()) == name
    gpu.status.cache_clear()
    dispatch._kernels_are_there.cache_clear()
