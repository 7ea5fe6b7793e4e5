"""The Triton kernels without a GPU: in Triton's interpreter, compiled for three GPUs, launch plans, and dispatch."""

import concurrent.futures
import itertools
import json
import os
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

from box_convolution import box_conv2d, ops
from box_convolution.ops import dispatch
from box_convolution.ops.epilogue import Epilogue
from box_convolution.ops.triton import launch, work_plan
from box_convolution.ops.triton.prepared import Launch

TESTS = Path(__file__).parents[1]
needs_triton = pytest.mark.skipif(launch.status() is not None, reason=f"no Triton that serves: {launch.status()}")


@needs_triton
@pytest.mark.parametrize(
    "which",
    [
        pytest.param("test_float64", id="float64", marks=pytest.mark.slow),
        pytest.param("not test_float64", id="the rest"),
    ],
)
def test_in_the_interpreter(which: str) -> None:
    """Run triton_in_interpreter.py in a new process, because the interpreter is chosen when kernels are imported."""
    file = str(TESTS / "ops" / "triton_in_interpreter.py")
    command = [sys.executable, "-m", "pytest", "-p", "interpreter", file, "-k", which]
    run = subprocess.run(command, env=environment(""), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert run.returncode == 0, run.stdout
    assert "passed" in run.stdout or "100%" in run.stdout, run.stdout


# Triton as it is installed, and the version of torch 2.11, which the Makefile puts beside it.
OLDER = Path(sys.prefix) / "triton-3.6"
needs_older = pytest.mark.skipif(not OLDER.is_dir(), reason=f"Triton 3.6 is not in {OLDER}: `make` puts it there")
SHORT = {"box_short_rows", "grad_short_rows"}
KERNELS = {"box_rows", "grad_rows", "edge_gradients", "projected_boxes", "transpose"} | SHORT


def environment(triton: str) -> dict[str, str]:
    """Environment of a process with the Triton in the folder ``triton``, or the installed one."""
    path = [triton, str(TESTS), str(TESTS.parent), os.environ.get("PYTHONPATH", "")]
    return os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, path)), "OMP_NUM_THREADS": "1"}


@needs_triton
@pytest.mark.parametrize(
    "triton",
    [pytest.param("", id="installed"), pytest.param(str(OLDER), id="3.6", marks=[needs_older, pytest.mark.slow])],
)
def test_every_kernel_compiles_for_three_gpus(triton: str) -> None:
    """The machine code must have none of the faults that make it slow. float32 is compiled for all GPUs, each other
    dtype for one; `make test-kernels` compiles every dtype for every GPU. Triton caches kernels in ~/.triton, so the
    first run takes longest.
    """
    targets = ("sm_80", "sm_90", "gfx942")
    chosen = {(target, "float32") for target in targets}
    if not triton:
        chosen |= set(zip(targets, ("float16", "bfloat16", "float64"), strict=True))
    if os.environ.get("BOX_CONVOLUTION_TEST_ALL_KERNELS"):
        chosen = set(itertools.product(targets, ("float32", "float64", "bfloat16", "float16")))

    def compiled(which: tuple[str, str]) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(TESTS / "triton_compile.py"), *which]
        return subprocess.run(command, env=environment(triton), capture_output=True, text=True)

    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        for which, run in zip(chosen, pool.map(compiled, chosen), strict=True):
            assert run.returncode == 0, run.stderr
            found = [json.loads(line) for line in run.stdout.splitlines()]
            assert {name for _, name, *_ in found} == (KERNELS - SHORT if "float64" in which else KERNELS)
            assert not triton or {version for version, *_ in found} == {"3.6.0"}
            for version, name, *faults in found:
                assert not faults, f"{name} for {which} by Triton {version}: {faults}"


@needs_triton
@needs_older
def test_in_the_interpreter_of_triton_3_6() -> None:
    """A few cases only. They show that the interpreter works with a new NumPy, which needs a fix for this version."""
    file = str(TESTS / "ops" / "triton_in_interpreter.py")
    command = [sys.executable, "-m", "pytest", "-p", "interpreter", file, "-k", "output_mask or fused_keeps or exact"]
    run = subprocess.run(command, env=environment(str(OLDER)), capture_output=True, text=True)
    assert run.returncode == 0, run.stdout


H200 = launch.Limits(processors=132)


def registers(row: work_plan.Row, forward: bool) -> int:
    return launch.short_registers(4, row, forward, residual=False)


@pytest.mark.parametrize("planes", [1, 7, 64, 128, 256, 2048, 65_536 * 64, 2**33])
@pytest.mark.parametrize(
    "size", [(1, 1), (1, 70_001), (64, 128), (256, 512), (1024, 2048), (70_001, 1), (40_000, 40_000)]
)
@pytest.mark.parametrize("forward", [True, False])
@pytest.mark.parametrize("stride", [1, 2])
def test_work_is_shared_out_whole(planes: int, size: tuple[int, int], forward: bool, stride: int) -> None:
    h, w = size
    short = launch.short_row(4, w, 5, stride, forward, H200)
    assert (short is not None) == (stride == 1 and w in (128, 512))
    row = short or launch.share_row(w, H200)
    work = launch.share_work(planes, 5, h, row, forward, short and registers(row, forward), H200)
    assert work.strips * work.strip >= h > (work.strips - 1) * work.strip
    assert work.together * work.boxes >= 5 > (work.together - 1) * work.boxes
    assert work.items == planes * work.strips * (work.together if forward else 1)
    assert 1 <= work.programs <= min(work.items, 132 * 16), "programs go on to further items"
    assert 1 <= work.warps == max(1, work.boxes * row.threads // 32) <= 8
    assert row.long == (4 * row.pieces * row.threads < w)
    assert 4 * row.pitch >= w


@pytest.mark.parametrize("shape", [(8, 32, 4, 64, 128), (8, 16, 4, 128, 256), (32, 64, 4, 128, 128)])
def test_every_processor_has_work(shape: tuple[int, ...]) -> None:
    batch, channels, per_channel, h, w = shape
    for forward in (True, False):
        short = launch.short_row(4, w, per_channel, 1, forward, H200)
        row = short or launch.share_row(w, H200)
        work = launch.share_work(
            batch * channels, per_channel, h, row, forward, short and registers(row, forward), H200
        )
        assert work.boxes == (2 if forward else work_plan._BOXES[row.pieces]), "measured on an H200"
        rounds = -(-work.items // work.programs)
        warps = 12 if forward else 8
        # More strips forward, so that all have work all the time, were slower: each has to begin.
        assert work.items / rounds * work.warps >= (0.6 if forward else 0.9) * warps * 132


@pytest.mark.parametrize("warp", [32, 64])
@pytest.mark.parametrize("per_channel", [2, 3, 8, 100])
@pytest.mark.parametrize("w", [17, 64, 128, 200, 512, 1024])
@pytest.mark.parametrize("forward", [True, False])
def test_what_short_rows_move_fits_near_memory(w: int, per_channel: int, forward: bool, warp: int) -> None:
    limits = launch.Limits(processors=132, warp=warp)
    if row := launch.short_row(4, w, per_channel, 1, forward, limits):
        work = launch.share_work(8, per_channel, 64, row, forward, registers(row, forward), limits)
        rows = launch._SHORT_ROWS[row.pieces] if forward else work.boxes
        two_edges_of_four_columns = 2 * 4 * 8
        assert two_edges_of_four_columns * rows * row.pieces * work.boxes * row.threads <= 2**15


@needs_triton
def test_the_longest_rows() -> None:
    """The places of two arrays in scratch are counted in 32 bits."""
    from triton_compile import recorded

    boxes = torch.empty(1, 1, 4, device="meta")
    with recorded(H200) as launches:
        output = launch.box_conv2d(torch.empty(1, 1, 1, 2**29, device="meta"), boxes, True, 1)
        launch.box_conv2d_backward(output, output, boxes, True, 1, [True, True])
        with pytest.raises(ValueError, match=r"at most 2\*\*29 rows and columns .*, got 1 x 536870913"):
            launch.box_conv2d(torch.empty(1, 1, 1, 2**29 + 1, device="meta"), boxes, True, 1)
    forward, backward, _ = (launched.arguments for launched in launches)
    assert forward["LONG"]
    assert backward["LONG"]
    assert 2 * 4 * forward["PITCH"] + 16 < 2**31
    assert 2 * 4 * backward["PITCH"] + 16 < 2**31


@needs_triton
def test_arguments_are_in_the_order_of_the_kernels() -> None:
    """Machine code is launched with all arguments by their place."""
    from triton_compile import launches

    found = launches(H200, torch.float32)
    assert {launched.kernel.__name__ for launched in found} == KERNELS
    for launched in found:
        names = [name for name in launched.arguments if name not in ("enable_fp_fusion", "maxnreg")]
        assert names == launched.kernel.arg_names


class Compiler:
    """Stands for kernels, and lists their launches in ``launched``: those that Triton prepares, and the others."""

    def __init__(self) -> None:
        self.launched: list[tuple[Any, ...]] = []

    @property
    def box_rows(self) -> "Compiler":
        return self

    box_short_rows = box_rows

    def __getitem__(self, grid: tuple[int, ...]) -> Any:
        def prepare(*tensors_and_numbers: Any, **constants: Any) -> Any:
            self.launched.append(("prepared", grid, *tensors_and_numbers, *constants.items()))
            return MachineCode(self.launched)

        return prepare


class MachineCode(NamedTuple):
    launched: list[tuple[Any, ...]]

    def __getitem__(self, grid: Any) -> Any:
        return lambda *arguments: self.launched.append(("as it is", grid, *arguments))


def test_machine_code_is_looked_for_once() -> None:
    kernel = Compiler()
    launch = Launch(kernel, 7, (5, 6), {"STEP": 4}, {"num_warps": 2})
    memory = torch.zeros(16)
    other, apart = memory[4:], memory[1:]
    assert (other.data_ptr() - memory.data_ptr(), apart.data_ptr() - memory.data_ptr()) == (16, 4)
    for tensors in ((memory, None), (other, None), (apart, None), (memory, None)):
        launch(*tensors)
    prepared, as_it_is = ("prepared", (7, 1, 1)), ("as it is", (7, 1, 1))
    constants = (5, 6, ("STEP", 4), ("num_warps", 2))
    expected = [
        (*prepared, memory, None, *constants),
        (*as_it_is, other, None, 5, 6, 4),
        (*prepared, apart, None, *constants),  # Triton makes other machine code for it
        (*as_it_is, memory, None, 5, 6, 4),
    ]
    for one, another in zip(kernel.launched, expected, strict=True):
        assert all(a is b or a == b for a, b in zip(one, another, strict=True))


def test_what_is_prepared_is_for_calls_of_one_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    kernels = Compiler()
    monkeypatch.setattr(launch, "_kernels", lambda: (kernels,) * 6)
    image, boxes = torch.zeros(2, 3, 8, 8), torch.zeros(3, 4, 4)
    other_limits = launch.limits(image.device)._replace(processors=9)
    number = torch.zeros(12)

    def prepared_for(image: Tensor, boxes: Tensor, epilogue: Epilogue, stride: int) -> int:
        before = len(kernels.launched)
        launch.box_conv2d_fused(image, boxes, epilogue, True, stride)
        return sum(kind == "prepared" for kind, *_ in kernels.launched[before:])

    plain = Epilogue()
    calls = [(other, boxes, plain, 1) for other in (image, image.double(), image[:1], image[..., 4:])]
    calls += [(torch.zeros(2, 3, 8, 64), boxes, plain, 1)]  # short rows
    calls += [(image, boxes.double(), plain, 1), (image, boxes, plain, 2)]
    calls += [(image, boxes, plain._replace(**part), 1) for part in ({"scale": number}, {"shift": number})]
    calls += [(image, boxes, plain._replace(relu=True), 1)]
    assert [prepared_for(*call) for call in calls] == [1] * len(calls)
    assert [prepared_for(*call) for call in calls] == [0] * len(calls)
    monkeypatch.setattr(launch, "limits", lambda device: other_limits)
    assert [prepared_for(*call) for call in calls] == [1] * len(calls)


@needs_triton
def test_a_cpu_tensor_without_the_interpreter() -> None:
    message = "implementation 'triton' was asked for, but input is on cpu: .* by Triton's interpreter, with TRITON_INT"
    with pytest.raises(ValueError, match=message), ops.use("triton"):
        box_conv2d(torch.zeros(1, 1, 2, 2), torch.zeros(1, 1, 4))


@pytest.fixture
def looks_again() -> Iterator[None]:
    """What is known of Triton is forgotten, now and after the test."""
    known = launch.status, launch._kernels, dispatch._fastest
    for cached in known:
        cached.cache_clear()
    yield
    for cached in known:
        cached.cache_clear()


@pytest.fixture
def no_triton(monkeypatch: pytest.MonkeyPatch, looks_again: None) -> None:
    """Make Triton appear not to be installed."""
    monkeypatch.setitem(sys.modules, "triton", None)
    kernels = ("forward", "short_forward", "backward", "short_backward", "projected_boxes")
    for name in (*kernels, "shifts", "rows", "spans"):
        monkeypatch.delitem(sys.modules, f"{launch.__package__}.{name}", raising=False)


@pytest.mark.usefixtures("no_triton")
def test_forced_without_triton() -> None:
    with pytest.raises(OSError, match=r"Triton cannot be imported \(.*\)\. On Linux: pip"), ops.use("triton"):
        pass


@needs_triton
@pytest.mark.usefixtures("looks_again")
def test_an_old_triton(monkeypatch: pytest.MonkeyPatch) -> None:
    import triton

    monkeypatch.setattr(triton, "__version__", "3.2.0")
    with pytest.raises(OSError, match=r"Triton 3\.2\.0 is older than 3\.6, .* with PyTorch 2\.10"), ops.use("triton"):
        pass


class OnGpu:
    device = torch.device("cuda", 0)


@pytest.mark.usefixtures("no_triton")
def test_gpus_without_triton_warn_once_and_use_the_reference() -> None:
    with pytest.warns(UserWarning, match="box_conv2d runs on its plain-PyTorch reference.*Triton cannot be imported"):
        assert ops.backend(OnGpu()) == "reference"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert ops.backend(OnGpu()) == "reference"


@needs_triton
@pytest.mark.usefixtures("looks_again")
def test_gpus_are_served_by_triton_unless_they_are_too_old(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.version, "hip", None)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "GeForce GTX 1080")
    for capability, name in (((9, 0), "triton"), ((6, 1), "reference")):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device, found=capability: found)
        launch.status.cache_clear()
        dispatch._fastest.cache_clear()
        if name == "triton":
            assert ops.backend(OnGpu()) == name
        else:
            with pytest.warns(UserWarning, match="GeForce GTX 1080 has compute capability 6.1, and Triton needs 7.0"):
                assert ops.backend(OnGpu()) == name
