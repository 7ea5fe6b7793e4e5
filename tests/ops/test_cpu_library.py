"""The C++ library: loading it, errors, all instruction sets, and no access outside of its arrays."""

import _ctypes
import ctypes
import itertools
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from tolerances import assert_gradient, assert_values
from torch import Tensor

from box_convolution import ops
from box_convolution.ops import cpu_library, native, reference

needs_library = pytest.mark.skipif(cpu_library.status() is not None, reason="no C++ library")
DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]
# Few planes (rows and boxes are shared out among threads) and many (planes are); widths that are multiples of a vector
# and others.
SHAPES = [(2, 3, 4, 5, 7), (1, 2, 3, 70, 33), (2, 5, 2, 17, 16), (1, 8, 1, 1, 1), (1, 9, 3, 2, 41)]
GUARD = 64


@pytest.fixture
def loader() -> Iterator[None]:
    """Search for the library again, in this test and after it."""
    for cached in (cpu_library.library, cpu_library.status):
        cached.cache_clear()
    yield
    for cached in (cpu_library.library, cpu_library.status):
        cached.cache_clear()


@pytest.fixture(params=["torch's threads", "own threads"])
def set_threads(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, set_threads: Callable[[int], None]
) -> Callable[[int], None]:
    """A function that sets the number of threads, with PyTorch's parallel loop or the library's (before torch 2.10)."""
    if request.param == "own threads":
        monkeypatch.setattr(cpu_library, "parallel_for", lambda: 0)
    elif not cpu_library.parallel_for():
        pytest.skip("this PyTorch lends no parallel loop")
    return set_threads


def problem(
    shape: tuple[int, ...], dtype: torch.dtype, stride: int = 1, exact: bool = False
) -> tuple[Tensor, Tensor, Tensor]:
    """Image, boxes and the incoming gradient; some boxes reach out of the image, one has no area.

    Boxes in float64 (with ``exact``, or for a float64 image) are summed in float64, others in fixed point.
    """
    b, c, m, h, w = shape
    image = torch.randn(b, c, h, w, dtype=torch.float64).to(dtype)
    edges = torch.rand(c, m, 2, 2, dtype=torch.float64) * 3 - 1.5
    edges = edges.sort(-1).values * torch.tensor([h, w]).view(2, 1)
    edges[0, 0, 0, 1] = edges[0, 0, 0, 0]
    grad = torch.randn(b, c * m, -(-h // stride), -(-w // stride), dtype=torch.float64).to(dtype)
    boxes = edges.flatten(-2)
    return image, boxes if exact or dtype == torch.float64 else boxes.float(), grad


def guarded(tensor: Tensor) -> tuple[Tensor, Callable[[], bool]]:
    """A copy of ``tensor`` surrounded by NaN, and a function that tells whether the surroundings are unchanged."""
    size = tensor.numel()
    buffer = torch.full((size + 2 * GUARD,), float("nan"), dtype=tensor.dtype)
    inside = buffer[GUARD : GUARD + size].view(tensor.shape)
    inside.copy_(tensor)
    around = torch.cat((buffer[:GUARD], buffer[GUARD + size :])).view(torch.uint8)

    def intact() -> bool:
        return torch.equal(torch.cat((buffer[:GUARD], buffer[GUARD + size :])).view(torch.uint8), around)

    return inside, intact


def padded_rows(tensor: Tensor) -> Tensor:
    """A copy of ``tensor`` whose rows have NaN before and after them."""
    *outer, w = tensor.shape
    buffer = torch.full((*outer, w + 2 * GUARD), float("nan"), dtype=tensor.dtype)
    inside = buffer[..., GUARD : GUARD + w]
    inside.copy_(tensor)
    return inside


@pytest.mark.parametrize(("normalize", "stride"), [(True, 1), (True, 2), (False, 1), (False, 3)])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_every_instruction_set(
    isa: str, shape: tuple[int, ...], normalize: bool, stride: int, dtype: torch.dtype
) -> None:
    image, boxes, grad = problem(shape, dtype, stride)
    assert cpu_library.isa() == isa
    output = native.box_conv2d(image, boxes, normalize, stride)
    gradients = native.box_conv2d_backward(grad, image, boxes, normalize, stride, [True, True])
    scale = image.abs().max().item() * (1 if normalize else shape[-1] * shape[-2])
    assert_values(output, reference.box_conv2d(image.double(), boxes, normalize, stride), scale)
    expected = reference.box_conv2d_backward(grad.double(), image.double(), boxes, normalize, stride, [True, True])
    for actual, truth in zip(gradients, expected, strict=True):
        assert_gradient(actual, truth)


@needs_library
@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype(dtype: torch.dtype, exact: bool) -> None:
    for shape in SHAPES:
        image, boxes, grad = problem(shape, dtype, exact=exact)
        wide = image.double()
        output = native.box_conv2d(image, boxes, True, 1)
        assert output.dtype == dtype
        assert_values(output, reference.box_conv2d(wide, boxes, True, 1), wide.abs().max().item())
        gradients = native.box_conv2d_backward(grad, image, boxes, True, 1, [True, True])
        expected = reference.box_conv2d_backward(grad.double(), wide, boxes, True, 1, [True, True])
        assert_gradient(gradients[0], expected[0])
        assert_gradient(gradients[1], expected[1])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("stride", [1, 3])
def test_nothing_outside_is_read_or_written(shape: tuple[int, ...], stride: int, dtype: torch.dtype, isa: str) -> None:
    """All arrays are surrounded by NaN. A read outside gives a NaN, a write outside changes the surroundings."""
    image, boxes, grad = problem(shape, dtype, stride)
    checks = []

    def guard(tensor: Tensor) -> Tensor:
        inside, intact = guarded(tensor)
        checks.append(intact)
        return inside

    boxes = guard(boxes.double())
    nan = float("nan")
    for layout, exact in ((guard, False), (padded_rows, False), (guard, True)):
        image, grad = layout(image), layout(grad)
        output = guard(torch.full(grad.shape, nan, dtype=dtype))
        grad_image = guard(torch.full(image.shape, nan, dtype=dtype))
        grad_boxes = guard(torch.full(boxes.shape, nan, dtype=torch.float64))
        call = native._problem(image, boxes, exact, True, stride)
        forward = native._Forward(call, output.data_ptr(), None, None, None, 0, 0)
        assert not cpu_library.library().box_forward(ctypes.byref(forward))
        strides = native._Strides(*grad.stride())
        backward = native._Backward(call, grad.data_ptr(), strides, grad_image.data_ptr(), grad_boxes.data_ptr())
        assert not cpu_library.library().box_backward(ctypes.byref(backward))
        assert all(intact() for intact in checks)
        for result in (output, grad_image, grad_boxes):
            assert not result.isnan().any()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_pixels_of_a_row_may_lie_apart(
    shape: tuple[int, ...], dtype: torch.dtype, isa: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The package passes only rows with contiguous pixels, but the C interface accepts any strides."""
    image, boxes, grad = problem(shape, dtype)
    image, grad = (tensor.transpose(2, 3).contiguous().transpose(2, 3) for tensor in (image, grad))
    dense = image.contiguous()
    expected = native.box_conv2d(dense, boxes, True, 1)
    expected_grads = native.box_conv2d_backward(grad.contiguous(), dense, boxes, True, 1, [True, True])
    monkeypatch.setattr(native, "_by_rows", lambda tensor: tensor)
    actual = native.box_conv2d(image, boxes, True, 1, out=torch.empty_like(expected))
    grads = native.box_conv2d_backward(grad, image, boxes, True, 1, [True, True])
    assert_values(actual, expected.double(), dense.abs().max().item())
    for gradient, truth in zip(grads, expected_grads, strict=True):
        assert_gradient(gradient, truth.double())


def test_number_of_threads_changes_no_bit(isa: str, set_threads: Callable[[int], None]) -> None:
    for shape, exact in itertools.product((*SHAPES, (1, 2, 5, 300, 40), (3, 7, 2, 20, 30)), (False, True)):
        image, boxes, grad = problem(shape, torch.float32, exact=exact)
        results = []
        for count in (1, 2, 4, 8):
            set_threads(count)
            output = native.box_conv2d(image, boxes, True, 1)
            results.append((output, *native.box_conv2d_backward(grad, image, boxes, True, 1, [True, True])))
        for other in results[1:]:
            assert all(map(torch.equal, results[0], other))


@needs_library
@pytest.mark.parametrize("count", [1, 2, 3, 8, 1000])
@pytest.mark.parametrize("planes", [1, 2, 7, 64, 1000])
def test_own_threads_cover_every_plane(count: int, planes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """More threads than rows, boxes or planes, and far more than any machine has."""
    monkeypatch.setattr(cpu_library, "parallel_for", lambda: 0)
    monkeypatch.setattr(torch, "get_num_threads", lambda: count)
    image, boxes, _ = problem((1, planes, 1, 3, 4), torch.float32)
    output = native.box_conv2d(image, boxes, True, 1)
    assert_values(output, reference.box_conv2d(image, boxes, True, 1), 5.0)


@needs_library
def test_python_threads(set_threads: Callable[[int], None]) -> None:
    set_threads(2)
    image, boxes, grad = problem((2, 5, 3, 40, 50), torch.float32)
    expected = (
        native.box_conv2d(image, boxes, True, 1),
        *native.box_conv2d_backward(grad, image, boxes, True, 1, [True, True]),
    )
    failures = []

    def work() -> None:
        for _ in range(20):
            output = native.box_conv2d(image, boxes, True, 1)
            gradients = native.box_conv2d_backward(grad, image, boxes, True, 1, [True, True])
            if not all(map(torch.equal, expected, (output, *gradients))):
                failures.append(True)

    workers = [threading.Thread(target=work) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not failures


def run(script: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run ``script`` in a new Python with the library of this one; fails if it hangs."""
    start = (
        "import os, sys, torch\n"
        "from box_convolution import ops\n"
        "from box_convolution.ops import cpu_library, native\n"
        f"ops.__path__[:] = {list(ops.__path__)!r}\n"
    )
    command = [sys.executable, "-c", start + script]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, env=os.environ | environment)


@pytest.mark.skipif(tuple(map(int, torch.__version__.split(".")[:2])) < (2, 10), reason="it lends no threads yet")
def test_pytorch_lends_its_threads() -> None:
    """Threads of our own beside waiting ones of PyTorch's would take up to twice as long."""
    assert cpu_library.parallel_for()


@needs_library
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_after_a_fork() -> None:
    """The library's own threads work in a forked child. PyTorch's work with one thread, as in a DataLoader."""
    done = run(
        """
import signal
image, boxes = torch.randn(2, 8, 30, 40), torch.rand(8, 3, 4)
lent, own = cpu_library.parallel_for, lambda: 0
torch.set_num_threads(4)
expected = native.box_conv2d(image, boxes, True, 1)
child = os.fork()
signal.alarm(60)
torch.set_num_threads(1)
assert torch.equal(expected, native.box_conv2d(image, boxes, True, 1))
torch.get_num_threads, cpu_library.parallel_for = lambda: 4, own
assert torch.equal(expected, native.box_conv2d(image, boxes, True, 1))
assert not child or os.waitpid(child, 0)[1] == 0
"""
    )
    assert done.returncode == 0, done.stderr


def test_instruction_set_by_environment(isa: str) -> None:
    done = run("print(cpu_library.isa())", BOX_CONVOLUTION_ISA=isa)
    assert (done.returncode, done.stdout.strip()) == (0, isa), done.stderr


@needs_library
def test_a_forced_instruction_set_is_undone() -> None:
    before = cpu_library.isa()
    for name in cpu_library.isas():
        with cpu_library.use_isa(name):
            assert cpu_library.isa() == name
        assert cpu_library.isa() == before


@needs_library
def test_unknown_instruction_set() -> None:
    before = cpu_library.isa()
    message = r"name must be one of \[.*'\] with this library .*, got 'sse9'"
    with pytest.raises(ValueError, match=message), cpu_library.use_isa("sse9"):
        pass
    assert cpu_library.isa() == before
    done = run("print(cpu_library.status())", BOX_CONVOLUTION_ISA="sse9")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith(
        "ValueError: environment variable BOX_CONVOLUTION_ISA must be one of"
    )


def reason(monkeypatch: pytest.MonkeyPatch, folder: Path) -> str:
    """Why the library in ``folder`` cannot be used."""
    monkeypatch.setattr(ops, "__path__", [str(folder)])
    monkeypatch.delenv("BOX_CONVOLUTION_ISA", raising=False)  # with it, the same is an error
    status = cpu_library.status()
    assert "\n" not in status
    assert str(folder) in status
    assert "Reinstall box-convolution with a C++ compiler" in status
    with pytest.raises(OSError):
        cpu_library.library()
    return status


def test_no_library(loader: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert "it was not built" in reason(monkeypatch, tmp_path)


def test_no_library_where_one_is_asked_for(loader: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(ops, "__path__", [str(tmp_path)])
    monkeypatch.setenv("BOX_CONVOLUTION_ISA", "baseline")
    with pytest.raises(OSError, match="it was not built"):
        cpu_library.status()


def test_no_library_but_a_file(loader: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """This happens if a wheel for another platform was unpacked."""
    (tmp_path / cpu_library.FILE).write_text("not a library")
    assert f"{tmp_path / cpu_library.FILE} cannot be used: " in reason(monkeypatch, tmp_path)


def test_another_library(loader: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    shutil.copy(_ctypes.__file__, tmp_path / cpu_library.FILE)
    assert "box_abi_version" in reason(monkeypatch, tmp_path)


@needs_library
def test_library_of_another_version(loader: None, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = Path(cpu_library.library()._name).parent
    cpu_library.library.cache_clear()
    monkeypatch.setattr(cpu_library, "_ABI_VERSION", 99)
    assert "of the interface, this package needs 99" in reason(monkeypatch, folder)


@needs_library
@pytest.mark.skipif(sys.platform != "linux", reason="reads an ELF file's dependencies with ldd")
def test_the_library_needs_the_c_library_alone() -> None:
    """glibc 2.28 (2018) is enough, as for PyTorch, on whatever system it was built."""
    listed = subprocess.run(["ldd", cpu_library.library()._name], capture_output=True, text=True, check=True).stdout
    if "libasan" in listed:
        pytest.skip("a library for `make sanitize`")
    names = {line.split()[0].split("/")[-1].split(".so")[0] for line in listed.splitlines()}
    assert {name for name in names if not name.startswith(("linux-vdso", "ld-linux"))} <= {"libc", "libm"}
    versions = re.findall(rb"GLIBC_2\.(\d+)", Path(cpu_library.library()._name).read_bytes())
    assert max(map(int, versions)) <= 28
