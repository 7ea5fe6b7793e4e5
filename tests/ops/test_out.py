"""`out=`: the same result in given memory, and an error if it does not fit."""

import pytest
import torch

from box_convolution import box_conv2d, ops


@pytest.fixture
def image():
    return torch.randn(2, 3, 5, 7)


@pytest.fixture
def boxes():
    return torch.randn(3, 4, 4) * 3


@pytest.mark.parametrize("stride", [1, 2])
def test_writes_the_result_and_returns_out(image, boxes, stride, implementation):
    with ops.use(implementation):
        expected = box_conv2d(image, boxes, stride=stride)
        out = torch.full_like(expected, float("nan"))
        assert box_conv2d(image, boxes, stride=stride, out=out) is out
    assert torch.equal(out, expected)


@pytest.mark.parametrize(
    "make, error, message",
    [
        (lambda image: torch.empty(2, 12, 5, 6), ValueError, r"out must have the output's shape \(2, 12, 5, 7\), got"),
        (lambda image: torch.empty(2, 12, 5, 7).double(), TypeError, "out must have the input's dtype torch.float32"),
        (lambda image: torch.empty(2, 12, 7, 5).mT, ValueError, "out must be contiguous, got strides"),
        (lambda image: torch.empty(2, 12, 5, 7, device="meta"), ValueError, "out must be on the input's device cpu"),
        (lambda image: "there", TypeError, "out must be a torch.Tensor, got str"),
    ],
)
def test_refuses_what_does_not_fit(image, boxes, make, error, message):
    with pytest.raises(error, match=message):
        box_conv2d(image, boxes, out=make(image))


def test_refuses_what_does_not_fit_one_image(image, boxes):
    with pytest.raises(ValueError, match="out must have the output's shape"):
        box_conv2d(image[0], boxes, out=torch.zeros(1, 12, 5, 7))
    with pytest.raises(TypeError, match="got ndarray"):
        box_conv2d(image[0], boxes, out=torch.zeros(12, 5, 7).numpy())


def test_refuses_to_write_over_its_input(boxes):
    memory = torch.randn(2 * 12 * 5 * 7)
    with pytest.raises(ValueError, match="out must not share memory with input"):
        box_conv2d(memory[: 2 * 3 * 5 * 7].view(2, 3, 5, 7), boxes, out=memory.view(2, 12, 5, 7))


def test_refuses_where_a_gradient_is_needed(image, boxes):
    out = torch.empty(2, 12, 5, 7)
    with pytest.raises(RuntimeError, match="out= cannot be differentiated"):
        box_conv2d(image.requires_grad_(), boxes, out=out)
    with torch.no_grad():
        box_conv2d(image, boxes, out=out)
