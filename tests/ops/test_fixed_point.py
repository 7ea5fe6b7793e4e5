"""The fixed-point sums of the C++ kernels for all kinds of data: offsets, halves of opposite sign, any range.

Means are right to 1e-6 of the plane's largest |input|, gradients for edges to 1e-5 of the largest one. The truth is the
float64 path, which is used for boxes in float64, and which other tests compare with the reference. Every instruction
set is tested; with AVX-512, only boxes on borders of pixels are computed in fixed point, and only their means.
"""

import pytest
import torch
from torch import Tensor

from box_convolution.ops import cpu_library, native
from box_convolution.ops.epilogue import Epilogue

pytestmark = pytest.mark.usefixtures("isa")


def boxes_for(channels: int, per_channel: int, h: int, w: int) -> Tensor:
    """Boxes from one pixel to more than the image, off the pixel grid; half of them reach out of the image."""
    size = torch.rand(channels, per_channel, 2) ** 3 * torch.tensor([1.5 * h, 1.5 * w]) + 1
    centre = (torch.rand(channels, per_channel, 2) - 0.5) * torch.tensor([h, w])
    low, high = centre - size / 2, centre + size / 2
    return torch.stack((low[..., 0], high[..., 0], low[..., 1], high[..., 1]), -1)


def on_borders(boxes: Tensor) -> Tensor:
    """The nearest boxes with all edges on borders of pixels; some have no area."""
    return (boxes - 0.5).round() + 0.5


def halves(h: int, w: int) -> Tensor:
    return torch.where(torch.arange(w) < w // 2, 1.0, -1.0).expand(h, w)


DATA = {
    "noise": lambda h, w: torch.randn(h, w),
    "offset": lambda h, w: torch.randn(h, w) + 100,
    "halves": halves,
    "third": lambda h, w: torch.full((h, w), 1 / 3),
    "ramp": lambda h, w: torch.arange(h * w).view(h, w) / (h * w),
    "one large pixel": lambda h, w: torch.randn(h, w).index_put(
        (torch.tensor(h // 2), torch.tensor(w // 3)), torch.tensor(1e4)
    ),
    "zero": lambda h, w: torch.zeros(h, w),
}


@pytest.mark.parametrize("name", DATA)
@pytest.mark.parametrize(("h", "w"), [(64, 128), (200, 33), (512, 768)])
def test_accuracy(name: str, h: int, w: int) -> None:
    image = torch.stack([DATA[name](h, w) for _ in range(2)])[None].contiguous()
    boxes = boxes_for(2, 6, h, w)
    grad = torch.randn(1, 12, h, w)
    actual, truth = (native.box_conv2d(image, b, True, 1) for b in (boxes, boxes.double()))
    assert (actual - truth).abs().max() <= 1e-6 * image.abs().max()
    (grad_image, grad_boxes), (true_image, true_boxes) = (
        native.box_conv2d_backward(grad, image, b, True, 1, [True, True]) for b in (boxes, boxes.double())
    )
    assert (grad_image - true_image).abs().max() <= 1e-6 * grad.abs().max() * 6
    assert (grad_boxes - true_boxes).abs().max() <= 1e-5 * true_boxes.abs().max()


@pytest.mark.parametrize("name", DATA)
@pytest.mark.parametrize("smallest", [1, 4])
@pytest.mark.parametrize(("h", "w"), [(64, 128), (200, 33), (5, 3), (256, 512), (20, 300)])
def test_boxes_on_borders(h: int, w: int, smallest: int, name: str) -> None:
    """Boxes of few pixels, for which the units of the largest box may be too coarse, to the whole plane."""
    image = torch.stack([DATA[name](h, w) for _ in range(9)])[None].contiguous()
    boxes = on_borders(boxes_for(9, 4, h, w))
    boxes[:, 0] = torch.tensor([-0.5, smallest - 0.5, 0.5, 2.5])
    boxes[0, 1] = torch.tensor([-h - 0.5, h + 0.5, -w - 0.5, w + 0.5])
    boxes[1, 1] = torch.tensor([-9 * h - 0.5, h + 0.5, 0.5, 7 * w + 0.5])
    for normalize in (True, False):
        actual, truth = (native.box_conv2d(image, b, normalize, 1) for b in (boxes, boxes.double()))
        area = 1.0 if normalize else ((boxes[..., 1] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 2])).abs()
        bound = 8e-6 * area * image.pow(2).mean((2, 3)).sqrt()[..., None]
        error = (actual - truth).abs() - 3e-7 * truth.abs()
        assert (error.view(9, 4, h, w).amax((2, 3)) <= bound[0]).all()


@pytest.mark.parametrize(("h", "w"), [(64, 128), (9, 33)])
def test_boxes_on_borders_are_computed_in_fixed_point(h: int, w: int) -> None:
    """Else the tests of their accuracy would test nothing. Integers stay exact."""
    image, boxes = torch.randn(2, 9, h, w), on_borders(boxes_for(9, 4, h, w) * 0.8)
    boxes[..., 1::2] += 2
    assert not torch.equal(native.box_conv2d(image, boxes, True, 1), native.box_conv2d(image, boxes.double(), True, 1))
    image = torch.randint(-100, 100, image.shape).float()
    assert torch.equal(native.box_conv2d(image, boxes, False, 1), native.box_conv2d(image, boxes.double(), False, 1))


@pytest.mark.parametrize("channels", [4, 9])
def test_boxes_on_borders_do_not_depend_on_the_batch(channels: int) -> None:
    image, boxes = torch.randn(5, channels, 30, 50), on_borders(boxes_for(channels, 4, 30, 50))
    both = native.box_conv2d(image, boxes, True, 1)
    assert torch.equal(both[:1], native.box_conv2d(image[:1], boxes, True, 1))


@pytest.mark.parametrize("scale", [1e-37, -1e-30, 1e30])
def test_boxes_on_borders_with_a_scale(scale: float) -> None:
    if scale == 1e-37 and cpu_library.isa() != "avx512":
        pytest.skip("this instruction set multiplies in float32, where so small factors have few digits")
    image, boxes = torch.randn(1, 16, 20, 32), torch.tensor([-1.5, 2.5, -3.5, 1.5]).expand(16, 1, 4)
    scales = torch.full((16,), scale)
    actual, truth = (native.box_conv2d_fused(image, b, Epilogue(scales), True, 1) for b in (boxes, boxes.double()))
    assert (actual - truth).abs().max() <= 1e-6 * truth.abs().max()


@pytest.mark.parametrize("scale", [1e-38, 1e-30, 1e-20, 1e20, 1e30, 3e36])
def test_every_magnitude_of_float32(scale: float) -> None:
    """Beyond the range of fixed point, float64 is used."""
    image, boxes, grad = torch.randn(1, 9, 20, 70) * scale, boxes_for(9, 2, 20, 70), torch.randn(1, 18, 20, 70)
    truth = native.box_conv2d(image.double(), boxes.double(), True, 1)
    assert (native.box_conv2d(image, boxes, True, 1) - truth).abs().max() <= 1e-6 * image.abs().max()
    _, grad_boxes = native.box_conv2d_backward(grad, image, boxes, True, 1, [True, True])
    _, true_boxes = native.box_conv2d_backward(grad.double(), image.double(), boxes.double(), True, 1, [True, True])
    assert (grad_boxes - true_boxes).abs().max() <= 1e-5 * true_boxes.abs().max()
    grad_image, _ = native.box_conv2d_backward(image.repeat(1, 2, 1, 1), image, boxes, True, 1, [True, False])
    true_image, _ = native.box_conv2d_backward(
        image.double().repeat(1, 2, 1, 1), image.double(), boxes.double(), True, 1, [True, False]
    )
    assert (grad_image - true_image).abs().max() <= 1e-5 * true_image.abs().max()


def test_one_gradient_without_the_other() -> None:
    image, boxes, grad = torch.randn(2, 5, 40, 100), boxes_for(5, 3, 40, 100), torch.randn(2, 15, 40, 100)
    both = native.box_conv2d_backward(grad, image, boxes, True, 1, [True, True])
    assert torch.equal(both[0], native.box_conv2d_backward(grad, image, boxes, True, 1, [True, False])[0])
    assert torch.equal(both[1], native.box_conv2d_backward(grad, image, boxes, True, 1, [False, True])[1])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_rounded_once(dtype: torch.dtype) -> None:
    image, boxes = torch.randn(2, 5, 40, 100).to(dtype), boxes_for(5, 3, 40, 100)
    wide = native.box_conv2d(image.float(), boxes, True, 1)
    assert torch.equal(native.box_conv2d(image, boxes, True, 1), wide.to(dtype))


@pytest.mark.parametrize(
    ("c", "m", "h", "w"),
    [(32, 4, 9, 70), (16, 1, 20, 33), (2, 8, 5, 3), (8, 16, 40, 130), (16, 4, 64, 130), (6, 4, 9, 9)],
)
@pytest.mark.parametrize("borders", [False, True])
def test_channels_last_equals_planes(c: int, m: int, h: int, w: int, borders: bool) -> None:
    """Bit for bit, whether outputs are written directly, past the caches (last but one shape) or copied (last shape).

    Up to rounding, if fixed point is impossible for one of the planes that are written together: NaN, few pixels.
    """
    last = torch.channels_last
    image, boxes = torch.randn(2, c, h, w), boxes_for(c, m, h, w)
    boxes = on_borders(boxes) if borders else boxes
    scale, shift, residual = torch.randn(c * m), torch.randn(c * m), torch.randn(2, c * m, h, w)
    scale[::3] = 0
    spoilt = image.clone()
    spoilt[1, 1, 2, 1] = float("nan")
    boxes[1, 0, 0] = float("nan")
    for x in (image, spoilt):
        for parts in ((None, None, None), (scale, None, residual), (None, shift, None), (scale, shift, residual)):
            for relu in (False, True):
                expected = native.box_conv2d_fused(x, boxes, Epilogue(*parts, relu), True, 1)
                *numbers, added = parts
                other = None if added is None else added.contiguous(memory_format=last)
                epilogue = Epilogue(*numbers, other, relu)
                actual = native.box_conv2d_fused(x.contiguous(memory_format=last), boxes, epilogue, True, 1)
                assert actual.is_contiguous(memory_format=last)
                if x is image and h * w > 64:
                    assert torch.equal(actual.nan_to_num(7e7), expected.nan_to_num(7e7))
                else:
                    torch.testing.assert_close(actual, expected, equal_nan=True)
