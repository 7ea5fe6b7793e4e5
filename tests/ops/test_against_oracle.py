"""Every implementation against the brute-force oracle: values and all gradients, for random and difficult boxes."""

import functools

import hypothesis.strategies as st
import oracle
import pytest
import torch
from cases import INF, TIMES, Case, cases, check
from hypothesis import given, settings
from tolerances import assert_gradient, assert_values
from torch import Tensor

from box_convolution import box_conv2d, ops


@settings(max_examples=int(1200 * TIMES))
@given(case=cases())
def test_float64(case: Case, implementation: str) -> None:
    check(case, implementation, torch.float64, torch.float64)


@settings(max_examples=int(700 * TIMES))
@given(case=cases())
def test_float32(case: Case, implementation: str) -> None:
    check(case, implementation, torch.float32, torch.float32)


@settings(max_examples=int(300 * TIMES))
@given(case=cases(), dtype=st.sampled_from([torch.float16, torch.bfloat16]))
def test_half_precision_beside_float32_boxes(case: Case, dtype: torch.dtype, implementation: str) -> None:
    check(case, implementation, dtype, torch.float32)


@pytest.mark.parametrize("width", [1e-3, 1e-6, 1e-9, 1e-12])
def test_average_of_a_sliver_is_its_pixel(width: float, implementation: str) -> None:
    """The average stays accurate while its numerator and denominator approach 0."""
    image = torch.randn(1, 1, 5, 7, dtype=torch.float64)
    for start in (0.0, 0.3, -0.5, 1.5):
        boxes = torch.tensor([[[start, start + width, start, start + width]]], dtype=torch.float64)
        with ops.use(implementation):
            output = box_conv2d(image, boxes)
        assert_values(output, oracle.box_conv2d(image.numpy(), boxes.numpy()), image.abs().max().item())


def test_average_of_the_whole_plane_and_of_nothing(implementation: str) -> None:
    image = torch.randn(2, 1, 5, 7)
    boxes = torch.tensor([[[-5.0, 5, -7, 7], [10, 20, -7, 7], [0, 0, -7, 7], [-INF, INF, -INF, INF]]])
    with ops.use(implementation):
        total = box_conv2d(image, boxes, normalize=False)
        mean = box_conv2d(image, boxes)
    whole = image.double().sum((-2, -1))[:, :1, None, None].expand(2, 1, 5, 7)
    assert_values(total[:, [0, 3]], whole.expand(2, 2, 5, 7), 35 * image.abs().max().item())
    assert_values(mean[:, :1], whole / 140, image.abs().max().item())
    assert torch.equal(total[:, 1:3], torch.zeros(2, 2, 5, 7))
    assert torch.equal(mean[:, 1:], torch.zeros(2, 3, 5, 7))


BIG_BOXES = torch.tensor([[[-0.3, 1.9, -2.2, 0.7], [-40.25, 3.5, 7.1, 90.6], [-1024.0, 900.3, -511.5, 511.5]]])


@pytest.mark.parametrize("plane", ["mean 1", "halves"])
def test_float32_keeps_its_digits_on_a_big_plane(plane: str, implementation: str) -> None:
    """A float32 integral image of these planes has lost three to five digits by the far corner."""
    image, grad = _big_plane(plane)
    image.requires_grad_()
    boxes = BIG_BOXES.clone().requires_grad_()
    with ops.use(implementation):
        output = box_conv2d(image, boxes)
        output.backward(grad)
    values, grad_image, grad_boxes = _big_truth(plane)
    assert_values(output[0], values, image.abs().max().item())
    assert_gradient(image.grad[0, 0], grad_image)
    assert_gradient(boxes.grad[0], grad_boxes)


def _big_plane(plane: str) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    image = torch.randn(1, 1, 1024, 2048, generator=generator)
    if plane == "mean 1":
        image += 1
    else:
        image[..., :1024], image[..., 1024:] = -1, 1
    return image, torch.randn(1, BIG_BOXES.shape[1], 1024, 2048, generator=generator)


@functools.cache
def _big_truth(plane: str) -> tuple[Tensor, Tensor, Tensor]:
    """Values (M, H, W) and gradients for the image (H, W) and the boxes (M, 4), float64.

    The oracle itself would take far too long here. Its overlaps along both axes are used as matrices instead; the other
    tests show that products of these overlaps are the areas.
    """
    image, grad = (tensor[0].double() for tensor in _big_plane(plane))
    pixels = image[0]
    height, width = pixels.shape
    values, grad_image, grad_boxes = [], torch.zeros_like(pixels), []
    for (top, bottom, left, right), g in zip(BIG_BOXES[0].double().tolist(), grad, strict=True):
        tall, wide = bottom - top, right - left
        rows = torch.from_numpy(oracle.overlaps(top, bottom, height, height, 1) / tall)
        columns = torch.from_numpy(oracle.overlaps(left, right, width, width, 1) / wide)
        down, across = rows @ pixels, pixels @ columns.T
        values.append(down @ columns.T)
        grad_image += rows.T @ (g @ columns)
        total = (g * values[-1]).sum()
        row_slopes = [torch.from_numpy(oracle.edge_slopes(edge, height, height, 1)) for edge in (top, bottom)]
        column_slopes = [torch.from_numpy(oracle.edge_slopes(edge, width, width, 1)) for edge in (left, right)]
        at_top, at_bottom = ((g * (slope @ across)).sum() for slope in row_slopes)
        at_left, at_right = ((g * (down @ slope.T)).sum() for slope in column_slopes)
        by_edge = [
            (total - at_top) / tall,
            (at_bottom - total) / tall,
            (total - at_left) / wide,
            (at_right - total) / wide,
        ]
        grad_boxes.append(torch.stack(by_edge))
    return torch.stack(values), grad_image, torch.stack(grad_boxes)
