"""Conversion between NCHW and channels_last in C++, compared with PyTorch's own."""

import pytest
import torch
from torch import Tensor

from box_convolution import box_conv2d
from box_convolution.ops import cpu_library, native, reference

pytestmark = pytest.mark.skipif(cpu_library.status() is not None, reason="no C++ library")
# Tiles that are whole, half in one direction, of whole fours, and of other sizes.
SHAPES = [
    (2, 3, 5, 7), (1, 64, 40, 50), (3, 16, 4, 4), (1, 33, 1, 90), (2, 1, 4, 4), (3, 4, 1, 1), (1, 300, 3, 5),
    (2, 8, 12, 20), (1, 24, 5, 8), (2, 12, 6, 10),
]  # fmt: skip


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_there_and_back(shape: tuple[int, ...], dtype: torch.dtype, threads: None) -> None:
    image = torch.randn(shape).to(dtype)
    image.view(-1)[0] = float("nan")
    last = native._pixels(image)
    assert last.is_contiguous(memory_format=torch.channels_last)
    assert _same_bits(last, image)
    back = native._by_rows(last)
    assert back.stride(3) == 1 or back.shape[3] == 1
    assert _same_bits(back, image)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_with_residual_and_relu(shape: tuple[int, ...], dtype: torch.dtype, threads: None) -> None:
    image, residual = torch.randn(shape).to(dtype), torch.randn(shape).to(dtype)
    image.view(-1)[1] = residual.view(-1)[-1] = float("nan")
    for given in (residual, residual.contiguous(memory_format=torch.channels_last)):
        assert _same_bits(native._pixels(image, given, True), (image + residual).relu())
        assert _same_bits(native._pixels(image, given, False), image + residual)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_convolution_and_gradients(dtype: torch.dtype) -> None:
    boxes = torch.tensor([-1.5, 2.2, -0.7, 3.0]).expand(20, 2, 4)
    image = torch.randn(2, 20, 9, 18).to(dtype).contiguous(memory_format=torch.channels_last).requires_grad_()
    output = box_conv2d(image, boxes)
    grad = torch.randn(output.shape).to(dtype).contiguous(memory_format=torch.channels_last)
    output.backward(grad)
    plain = image.detach().contiguous().requires_grad_()
    box_conv2d(plain, boxes).backward(grad.contiguous())
    assert torch.equal(output, box_conv2d(plain, boxes))
    assert torch.equal(image.grad, plain.grad)
    for tensor in (output, image.grad):
        assert tensor.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(output, reference.box_conv2d(plain, boxes, True, 1))


@pytest.mark.usefixtures("threads")
# Channels that fill cache lines, do not, or fill more than one; rows of whole vectors and not; one column; strides.
@pytest.mark.parametrize(
    "shape",
    [(2, 8, 4, 9, 32), (3, 5, 3, 7, 21), (2, 9, 1, 6, 5), (1, 8, 20, 5, 17), (2, 12, 2, 5, 1), (1, 16, 4, 130, 140)],
)
@pytest.mark.parametrize("stride", [1, 2])
def test_gradients_in_channels_last_have_the_same_bits(stride: int, shape: tuple[int, ...], isa: str) -> None:
    batch, channels, per_channel, h, w = shape
    image, boxes = torch.randn(batch, channels, h, w), torch.randn(channels, per_channel, 4) * 4
    grad = torch.randn(batch, channels * per_channel, h, w)[..., ::stride, ::stride].contiguous()
    last = image.contiguous(memory_format=torch.channels_last), grad.contiguous(memory_format=torch.channels_last)
    expected = native.box_conv2d_backward(grad, image, boxes, True, stride, [True, True])
    actual = native.box_conv2d_backward(last[1], last[0], boxes, True, stride, [True, True])
    assert all(map(torch.equal, actual, expected))


def _same_bits(one: Tensor, other: Tensor) -> bool:
    return torch.equal(one.nan_to_num(nan=1e4), other.nan_to_num(nan=1e4))
