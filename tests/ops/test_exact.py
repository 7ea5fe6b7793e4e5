"""Exact results, and results that stay accurate beside huge numbers, for all implementations and instruction sets.

If a few outliers lie elsewhere in the plane, the error of a mean is at most 1e-5 of the root mean square of the *other*
pixels, plus the rounding of its dtype. The same holds for gradients if there are outliers in grad_output.
"""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import pytest
import torch
from torch import Tensor

from box_convolution import box_conv2d, ops
from box_convolution.ops import cpu_library

ROUNDING = 2.0**-22  # of a result itself, in float32: factors and the result are rounded


@contextmanager
def forced(implementation: str, isa: str | None) -> Iterator[None]:
    with ops.use(implementation), nullcontext() if isa is None else cpu_library.use_isa(isa):
        yield


def ways(implementation: str) -> list[str | None]:
    """The instruction sets to test."""
    return [*cpu_library.isas()] if implementation == "cpu" else [None]


def planes(h: int, w: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(2, 8, h, w).to(dtype)


WHOLE = torch.tensor([[-0.5, 0.5, -0.5, 0.5], [1.5, 2.5, -3.5, -2.5]])  # the pixel itself, and one elsewhere


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_a_box_of_one_pixel_copies_it(
    dtype: torch.dtype, stride: int, normalize: bool, last: bool, implementation: str
) -> None:
    """Bit for bit, for any other values in the plane."""
    image = planes(9, 37, dtype)
    image[0, 0, 4, 4] = 3e4
    padded = torch.nn.functional.pad(image, (3, 0, 0, 2))
    moved = padded[:, :, 2:, :37]
    expected = torch.stack((image, moved), 2).flatten(1, 2)[:, :, ::stride, ::stride]
    boxes = WHOLE.expand(8, 2, 4).to(dtype if dtype == torch.float64 else torch.float32)
    image = image.contiguous(memory_format=torch.channels_last if last else torch.contiguous_format)
    for isa in ways(implementation):
        with forced(implementation, isa):
            assert torch.equal(box_conv2d(image, boxes, normalize=normalize, stride=stride), expected), isa


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize(("h", "w"), [(5, 7), (33, 70), (64, 256)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_sums_of_integers_are_exact(
    dtype: torch.dtype, h: int, w: int, signed: bool, last: bool, implementation: str
) -> None:
    """Sums of 8-bit pixels are exact as far as float32 can represent them; in half precision they are rounded once."""
    image = torch.randint(-255 if signed else 0, 256, (2, 8, h, w)).double()
    edges = torch.tensor([[-1, 2, -1, 2], [-h, h, -w, w], [-3, 1, 2, 6], [0, h // 2, -w // 2, 1], [-8, 8, -8, 8]]) - 0.5
    boxes = edges.expand(8, 5, 4)[:, :4].contiguous()
    with ops.use("reference"):
        truth = box_conv2d(image, boxes.double(), normalize=False)
    assert truth.abs().max() < 2**24
    assert torch.equal(truth, truth.round())
    given = image.to(dtype).contiguous(memory_format=torch.channels_last if last else torch.contiguous_format)
    for isa in ways(implementation):
        with forced(implementation, isa):
            assert torch.equal(box_conv2d(given, boxes, normalize=False), truth.to(dtype)), isa


@pytest.mark.parametrize("last", [False, True])
def test_boxes_over_zeros_alone_average_to_zero(isa: str, last: bool) -> None:
    """The other numbers have sums that are exact in float64; boxes may cover any parts of pixels."""
    image = torch.rand(2, 8, 48, 70)
    image[..., 10:35, 20:60] = 0
    boxes = torch.rand(8, 2, 4) * torch.tensor([-4.0, 4, -4, 4])
    boxes[0, 0], boxes[1, 1] = torch.tensor([-0.3, -0.2, -4, 4]), torch.tensor([-4, 4, 0.4, 0.6])  # thin ones
    given = image.contiguous(memory_format=torch.channels_last if last else torch.contiguous_format)
    inside = box_conv2d(given, boxes)[..., 15:30, 25:55]
    assert torch.equal(inside, torch.zeros_like(inside))


def outlier(size: float, h: int, w: int) -> tuple[Tensor, Tensor]:
    """Noise with one pixel of ``size``, and the noise alone."""
    noise = planes(h, w)
    image = noise.clone()
    image[:, :, h // 2, w // 3] = size
    return image, noise


def heavy_tails(h: int, w: int) -> tuple[Tensor, Tensor]:
    """Noise divided by uniform numbers, some of them small; and the noise, whose root mean square is smaller."""
    noise = planes(h, w)
    return noise / torch.rand_like(noise).clamp(min=1e-6), noise


def faint_half(h: int, w: int) -> tuple[Tensor, Tensor]:
    noise = planes(h, w)
    image = noise.clone()
    image[..., w // 2 :] *= 1e-6
    return image, noise


PLANES = {
    "1e4": lambda h, w: outlier(1e4, h, w),
    "1e6": lambda h, w: outlier(1e6, h, w),
    "1e8": lambda h, w: outlier(1e8, h, w),
    "1e28": lambda h, w: tuple(plane * 1e20 for plane in outlier(1e8, h, w)),
    "heavy tails": heavy_tails,
    "faint half": faint_half,
}


def off_grid(h: int, w: int) -> Tensor:
    """Small and large boxes, off the pixel grid, for 8 channels."""
    size = torch.rand(8, 2, 2) ** 2 * torch.tensor([h, w]) + 1
    low = (torch.rand(8, 2, 2) - 0.5) * torch.tensor([h, w]) / 2 - size / 2
    return torch.stack((low, low + size), -1).flatten(-2)


@pytest.mark.parametrize("name", PLANES)
@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize(("h", "w"), [(8, 8), (20, 33), (64, 128)])
def test_values_beside_outliers(name: str, h: int, w: int, last: bool, implementation: str) -> None:
    image, noise = PLANES[name](h, w)
    boxes = off_grid(h, w)
    with ops.use("reference"):
        truth = box_conv2d(image.double(), boxes.double())
    given = image.contiguous(memory_format=torch.channels_last if last else torch.contiguous_format)
    limit = 1e-5 * noise.double().square().mean().sqrt() + ROUNDING * truth.abs()
    for isa in ways(implementation):
        with forced(implementation, isa):
            error = (box_conv2d(given, boxes) - truth).abs()
        assert (error <= limit).all(), f"{isa}: {(error / limit).max():.3g} times the limit"


@pytest.mark.parametrize("name", PLANES)
@pytest.mark.parametrize("of", ["grad_output", "input"])
@pytest.mark.parametrize(("h", "w"), [(8, 8), (20, 33), (64, 128)])
def test_gradients_beside_outliers(name: str, of: str, h: int, w: int, implementation: str) -> None:
    """Gradients for the input are right to 1e-5 of the ordinary numbers, those for edges to 1e-5 of the largest one."""
    spiky, noise = PLANES[name](h, w)
    boxes = off_grid(h, w)
    ordinary = torch.randn(2, 16, h, w)
    if of == "input":
        image, grad, scale = spiky, ordinary, 1.0
    else:
        image, grad = planes(h, w), spiky.repeat_interleave(2, 1)
        scale = noise.double().square().mean().sqrt().item()
    backward = torch.ops.box_convolution.box_conv2d_backward
    with ops.use("reference"):
        truth, true_edges = backward(grad.double(), image.double(), boxes.double())
    limit = 1e-5 * scale + ROUNDING * truth.abs()
    for isa in ways(implementation):
        with forced(implementation, isa):
            by_image, by_edges = backward(grad, image, boxes)
        error = (by_image - truth).abs()
        assert (error <= limit).all(), f"{isa}: {(error / limit).max():.3g} times the limit"
        assert (by_edges - true_edges).abs().max() <= 1e-5 * true_edges.abs().max(), isa
