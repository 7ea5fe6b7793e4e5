"""Bad inputs and their messages, and which outputs a NaN reaches."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch

from box_convolution import box_conv2d, ops

FORWARD = torch.ops.box_convolution.box_conv2d
BACKWARD = torch.ops.box_convolution.box_conv2d_backward
NAN, INF = float("nan"), float("inf")


class Bad(NamedTuple):
    """A bad call, and everything that its message must contain: argument, value, expectation."""

    what: str
    error: type[Exception]
    says: tuple[str, ...]
    input: Any = torch.zeros(2, 3, 5, 7)
    boxes: Any = torch.zeros(3, 4, 4)
    options: tuple[tuple[str, Any], ...] = ()


BOTH = [
    Bad("input 2-D", ValueError, ("input", "4 dimensions", "(5, 7)"), input=torch.zeros(5, 7)),
    Bad("input 5-D", ValueError, ("input", "4 dimensions", "(1, 2, 3, 5, 7)"), input=torch.zeros(1, 2, 3, 5, 7)),
    Bad("input int", TypeError, ("input", "float32", "int64"), input=torch.zeros(2, 3, 5, 7, dtype=torch.int64)),
    Bad("input complex", TypeError, ("input", "complex64"), input=torch.zeros(2, 3, 5, 7, dtype=torch.complex64)),
    Bad("input float8", TypeError, ("input", "float8"), input=torch.zeros(2, 3, 5, 7, dtype=torch.float8_e4m3fn)),
    Bad("input sparse", TypeError, ("input", "dense", "sparse_coo"), input=torch.zeros(2, 3, 5, 7).to_sparse()),
    Bad("no rows", ValueError, ("input", "one pixel", "(2, 3, 0, 7)"), input=torch.zeros(2, 3, 0, 7)),
    Bad("no columns", ValueError, ("input", "one pixel", "(2, 3, 5, 0)"), input=torch.zeros(2, 3, 5, 0)),
    Bad("nothing", ValueError, ("input", "one pixel", "(0, 3, 0, 0)"), input=torch.zeros(0, 3, 0, 0)),
    Bad("boxes 2-D", ValueError, ("boxes", "(12, 4)", "top, bottom, left, right"), boxes=torch.zeros(12, 4)),
    Bad("three edges", ValueError, ("boxes", "(3, 4, 3)", "top, bottom, left, right"), boxes=torch.zeros(3, 4, 3)),
    Bad("boxes 4-D", ValueError, ("boxes", "(1, 3, 4, 4)"), boxes=torch.zeros(1, 3, 4, 4)),
    Bad("boxes int", TypeError, ("boxes", "float32", "int32"), boxes=torch.zeros(3, 4, 4, dtype=torch.int32)),
    Bad("boxes sparse", TypeError, ("boxes", "dense", "sparse_coo"), boxes=torch.zeros(3, 4, 4).to_sparse()),
    Bad("channels", ValueError, ("input has 3 channels", "boxes are for 5 channels"), boxes=torch.zeros(5, 4, 4)),
    Bad("device of boxes", ValueError, ("input on cpu", "boxes on meta"), boxes=torch.zeros(3, 4, 4, device="meta")),
    Bad("device of input", ValueError, ("input on meta", "boxes on cpu"), input=torch.zeros(2, 3, 5, 7, device="meta")),
    Bad("stride 0", ValueError, ("stride", "at least 1", "got 0"), options=(("stride", 0),)),
]
FUNCTION_ONLY = [
    Bad("input list", TypeError, ("input", "torch.Tensor", "list"), input=[[1.0]]),
    Bad("channels of one image", ValueError, ("input has 2 channels", "are for 3"), input=torch.zeros(2, 5, 7)),
    Bad("boxes list", TypeError, ("boxes", "torch.Tensor", "list"), boxes=[[[0.0, 1, 0, 1]]]),
    Bad("stride float", TypeError, ("stride", "int", "float 2.0"), options=(("stride", 2.0),)),
    Bad("stride bool", TypeError, ("stride", "int", "bool True"), options=(("stride", True),)),
    Bad("stride NumPy 0", ValueError, ("stride", "at least 1", "got 0"), options=(("stride", np.int64(0)),)),
    Bad("stride NumPy float", TypeError, ("stride", "int", "float64"), options=(("stride", np.float64(2)),)),
    Bad("stride NumPy bool", TypeError, ("stride", "int", "bool"), options=(("stride", np.True_),)),
    Bad("stride pair", TypeError, ("stride", "int", "tuple (1, 1)"), options=(("stride", (1, 1)),)),
    Bad("normalize int", TypeError, ("normalize", "bool", "int 1"), options=(("normalize", 1),)),
    Bad("normalize NumPy int", TypeError, ("normalize", "bool", "int64"), options=(("normalize", np.int64(1)),)),
]


def refused(function: Callable[..., Any], bad: Bad, *first: Any) -> None:
    with pytest.raises(bad.error) as caught:
        function(*first, bad.input, bad.boxes, **dict(bad.options))
    assert type(caught.value) is bad.error
    for part in bad.says:
        assert part in str(caught.value)


@pytest.mark.parametrize("bad", BOTH + FUNCTION_ONLY, ids=lambda bad: bad.what)
def test_function_refuses(bad: Bad, implementation: str) -> None:
    with ops.use(implementation):
        refused(box_conv2d, bad)


def test_options_are_keywords() -> None:
    with pytest.raises(TypeError, match="positional argument"):
        box_conv2d(torch.zeros(2, 3, 5, 7), torch.zeros(3, 4, 4), True)  # type: ignore[misc]


@pytest.mark.parametrize("bad", BOTH, ids=lambda bad: bad.what)
def test_operators_refuse(bad: Bad, implementation: str) -> None:
    with ops.use(implementation):
        refused(FORWARD, bad)
        refused(BACKWARD, bad, torch.zeros(2, 12, 5, 7))


@pytest.mark.parametrize("bad", [bad for bad in BOTH if bad.error is ValueError], ids=lambda bad: bad.what)
def test_refused_inside_transforms_too(bad: Bad) -> None:
    """Inside transforms, the reference is called directly."""
    with pytest.raises(bad.error) as caught:
        torch.func.grad(lambda image: box_conv2d(image, bad.boxes, **dict(bad.options)).sum())(bad.input)
    for part in bad.says:
        assert part in str(caught.value)


@pytest.mark.parametrize(
    "shape", [(2, 12, 5, 8), (2, 12, 6, 7), (2, 12, 5, 6), (2, 11, 5, 7), (1, 12, 5, 7), (12, 5, 7)]
)
def test_gradient_of_another_shape(shape: tuple[int, ...], implementation: str) -> None:
    """The width is checked too: reading beyond it would read other memory."""
    with ops.use(implementation), pytest.raises(ValueError, match=r"grad_output must have .*\(2, 12, 5, 7\)") as caught:
        BACKWARD(torch.zeros(shape), torch.zeros(2, 3, 5, 7), torch.zeros(3, 4, 4))
    assert str(shape) in str(caught.value)


def test_gradient_of_another_dtype_or_device(implementation: str) -> None:
    image, boxes = torch.zeros(2, 3, 5, 7), torch.zeros(3, 4, 4)
    with ops.use(implementation):
        with pytest.raises(TypeError, match=r"grad_output must have the input's dtype torch\.float32, got .*float64"):
            BACKWARD(torch.zeros(2, 12, 5, 7, dtype=torch.float64), image, boxes)
        with pytest.raises(ValueError, match="grad_output must be on the input's device cpu, got meta"):
            BACKWARD(torch.zeros(2, 12, 5, 7, device="meta"), image, boxes)
        with pytest.raises(ValueError, match="stride must be at least 1, got 0"):
            BACKWARD(torch.zeros(2, 12, 5, 7), image, boxes, True, 0)
        with pytest.raises(ValueError, match=r"grad_output .*\(2, 12, 3, 4\)"):
            BACKWARD(torch.zeros(2, 12, 5, 7), image, boxes, True, 2)


@pytest.mark.parametrize("edge", range(4))
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_a_nan_edge_spoils_its_own_filter_only(edge: int, dtype: torch.dtype, implementation: str) -> None:
    image = torch.randn(2, 3, 5, 7, dtype=dtype, requires_grad=True)
    boxes = torch.tensor([-1.2, 1.7, -2.1, 2.4]).repeat(3, 4, 1)
    grad = torch.randn(2, 12, 5, 7).to(dtype)
    spoilt = boxes.clone()
    spoilt[1, 2, edge] = NAN
    boxes.requires_grad_()
    spoilt.requires_grad_()
    for normalize in (True, False):
        with ops.use(implementation):
            output = box_conv2d(image, spoilt, normalize=normalize)
            grad_image, grad_boxes = torch.autograd.grad(output, (image, spoilt), grad)
            clean = box_conv2d(image, boxes, normalize=normalize)
            clean_image, clean_boxes = torch.autograd.grad(clean, (image, boxes), grad)
        others = [k for k in range(12) if k != 6]
        assert output[:, 6].isnan().all()
        assert torch.equal(output[:, others], clean[:, others])
        assert torch.equal(grad_image[:, [0, 2]], clean_image[:, [0, 2]])
        assert torch.equal(grad_boxes.flatten(0, 1)[others], clean_boxes.flatten(0, 1)[others])
        assert grad_boxes[1, 2, edge].isnan(), "an optimiser must not keep such an edge as if nothing were wrong"


@pytest.mark.parametrize("value", [NAN, INF, -INF])
def test_a_pixel_that_is_not_finite_affects_its_plane_only(value: float, implementation: str) -> None:
    image, boxes = torch.randn(2, 3, 5, 7), torch.tensor([-1.2, 1.7, -2.1, 2.4]).repeat(3, 4, 1)
    grad = torch.randn(2, 12, 5, 7)
    spoilt = image.clone()
    spoilt[1, 2, 3, 4] = value
    with ops.use(implementation):
        output, clean = box_conv2d(spoilt, boxes), box_conv2d(image, boxes)
        grad_image, grad_boxes = BACKWARD(grad, spoilt, boxes)
        clean_image, clean_boxes = BACKWARD(grad, image, boxes)
    touched = torch.zeros(2, 12, 5, 7, dtype=torch.bool)
    touched[1, 8:] = True
    assert torch.equal(output[~touched], clean[~touched])
    covered = output[1, 8:, 2:5, 2:6]
    assert not covered.isfinite().any(), "every box that covers the pixel tells"
    assert torch.equal(grad_image, clean_image), "the gradient by the image does not depend on it"
    assert torch.equal(grad_boxes[:2], clean_boxes[:2])


def test_edges_beyond_every_number(implementation: str) -> None:
    """Infinite and huge edges give the mathematical result: there is no cast to int and no division inf / inf."""
    image = torch.randn(1, 1, 5, 7, dtype=torch.float64)
    total = image.sum().item()
    huge = torch.finfo(torch.float64).max
    for low, high in ((-INF, INF), (-huge, huge), (-1e300, 1e300), (-1e19, 3e9)):
        boxes = torch.tensor([[[low, high, low, high]]], dtype=torch.float64, requires_grad=True)
        with ops.use(implementation):
            summed = box_conv2d(image, boxes, normalize=False)
            mean = box_conv2d(image, boxes)
            (grad,) = torch.autograd.grad(summed.sum() + mean.sum(), boxes)
        assert summed.detach().numpy() == pytest.approx(total, abs=1e-11)
        assert mean.abs().max().item() < 1e-25
        assert torch.equal(grad, torch.zeros_like(grad)) or grad.abs().max().item() < 1e-25
    for edge in (INF, -INF, huge):
        boxes = torch.tensor([[[edge, edge, -1, 1]]], dtype=torch.float64)
        for normalize in (True, False):
            with ops.use(implementation):
                assert torch.equal(box_conv2d(image, boxes, normalize=normalize), torch.zeros_like(image))
