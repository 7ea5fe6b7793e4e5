"""Derivatives of every order, the tensors that are saved for the backward pass, and what it skips."""

import itertools
from collections.abc import Callable
from typing import Any

import oracle
import pytest
import torch
from tolerances import assert_gradient
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

from box_convolution import BoxConv2d, box_conv2d, ops
from box_convolution.ops import dispatch, reference

BACKWARD = torch.ops.box_convolution.box_conv2d_backward
NORMALIZE_AND_STRIDE = list(itertools.product([True, False], [1, 2, 3]))


def image_and_boxes(dtype: torch.dtype = torch.float64, batch: int = 2) -> tuple[Tensor, Tensor]:
    """Image (2, 3, 5, 7) and boxes (3, 4, 4) of all kinds, with every edge more than 0.01 away from a pixel border."""
    image = torch.randn(batch, 3, 5, 7, dtype=dtype, requires_grad=True)
    centre, half = torch.randn(2, 3, 4, 2, dtype=dtype) * torch.tensor([[[[3.0]]], [[[2.0]]]])
    edges = torch.stack((centre - half, centre + half), -1)
    edges[0, 0] = torch.tensor([[-9.2, 8.3], [-11.1, 12.4]])  # larger than the image
    edges[1, 1] = torch.tensor([[6.2, 8.3], [-1.1, 2.4]])  # outside
    edges[2, 2] = torch.tensor([[0.1, 0.3], [-0.2, 0.1]])  # within a pixel
    within = edges - edges.round()
    edges = edges.round() + within.clamp(-0.48, 0.48)
    return image, edges.flatten(-2).contiguous().requires_grad_()


@pytest.mark.parametrize(("normalize", "stride"), NORMALIZE_AND_STRIDE)
def test_gradcheck(normalize: bool, stride: int, implementation: str) -> None:
    def function(image: Tensor, boxes: Tensor) -> Tensor:
        return box_conv2d(image, boxes, normalize=normalize, stride=stride)

    with ops.use(implementation):
        assert gradcheck(function, image_and_boxes(), fast_mode=True)
        assert gradgradcheck(function, image_and_boxes(), fast_mode=True)


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("size", [(3, 4), (1, 4), (3, 1), (1, 1)])
def test_gradcheck_of_every_element(size: tuple[int, int], normalize: bool, implementation: str) -> None:
    boxes = image_and_boxes()[1].detach()[:2, :3].requires_grad_()
    image = torch.randn(1, 2, *size, dtype=torch.float64, requires_grad=True)
    with ops.use(implementation):
        assert gradcheck(lambda i, b: box_conv2d(i, b, normalize=normalize), (image, boxes))


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("edge", range(4))
def test_on_a_pixel_border_the_derivative_is_the_right_hand_one(
    edge: int, normalize: bool, implementation: str
) -> None:
    image = torch.randn(1, 1, 5, 7, dtype=torch.float64)
    grad = torch.randn(1, 1, 5, 7, dtype=torch.float64)
    boxes = torch.tensor([[[-1.5, 0.5, -0.5, 1.5]]], dtype=torch.float64, requires_grad=True)

    def loss(move: float) -> Tensor:
        moved = boxes.clone()
        moved[0, 0, edge] += move
        return (box_conv2d(image, moved, normalize=normalize) * grad).sum()

    with ops.use(implementation), torch.enable_grad():
        (analytic,) = torch.autograd.grad(loss(0.0), boxes)
        step = 1e-6
        right, left = ((loss(s) - loss(0.0)).item() / s for s in (step, -step))
    assert analytic[0, 0, edge].item() == pytest.approx(right, abs=1e-4)
    assert abs(right - left) > 1e-2, "the test must stand on a kink"
    truth = oracle.gradients(grad.numpy(), image.numpy(), boxes.detach().numpy(), normalize=normalize)[1]
    assert_gradient(analytic, truth)


def derivatives(function: Callable[[Tensor, Tensor], Tensor], image: Tensor, boxes: Tensor, keep: bool) -> list[Tensor]:
    """First to third derivatives of a scalar function of the outputs, each contracted with a fixed direction."""
    scalar = function(image, boxes).pow(3).sum()
    found = []
    for order in range(3):
        grads = torch.autograd.grad(scalar, (image, boxes), create_graph=keep or order < 2)
        found += grads
        scalar = sum((g * torch.linspace(-1, 1, g.numel(), dtype=g.dtype).view_as(g)).sum() for g in grads)
    return [tensor.detach() for tensor in found]


@pytest.mark.parametrize(("normalize", "stride"), NORMALIZE_AND_STRIDE)
def test_third_order_equals_plain_autograd(normalize: bool, stride: int, implementation: str) -> None:
    """Here the incoming gradient depends on image and boxes; derivatives through it must not be counted twice."""
    image, boxes = image_and_boxes()
    plain = derivatives(lambda i, b: reference.box_conv2d(i, b, normalize, stride), image, boxes, keep=False)
    with ops.use(implementation):
        for keep in (False, True):
            ours = derivatives(lambda i, b: box_conv2d(i, b, normalize=normalize, stride=stride), image, boxes, keep)
            for actual, expected in zip(ours, plain, strict=True):
                assert_gradient(actual, expected)


def test_gradient_that_comes_in_may_be_the_image_itself() -> None:
    image = torch.randn(2, 3, 5, 7, dtype=torch.float64, requires_grad=True)
    boxes = image_and_boxes()[1].detach()[:, :1].requires_grad_()

    def penalty(create_graph: bool) -> list[Tensor]:
        grads = torch.autograd.grad(box_conv2d(image, boxes), (image, boxes), image, create_graph=True)
        scalar = sum(g.square().sum() for g in grads)
        return list(torch.autograd.grad(scalar, (image, boxes), create_graph=create_graph))

    def plain() -> list[Tensor]:
        outputs = reference.box_conv2d_backward(image, image, boxes, True, 1, [True, True])
        return list(torch.autograd.grad(sum(g.square().sum() for g in outputs), (image, boxes)))

    expected = plain()
    for create_graph in (False, True):
        for actual, truth in zip(penalty(create_graph), expected, strict=True):
            assert_gradient(actual, truth.detach())


def test_double_backward_of_one_argument_only() -> None:
    image, boxes = image_and_boxes()
    (grad,) = torch.autograd.grad(box_conv2d(image, boxes.detach()).pow(2).sum(), image, create_graph=True)
    (second,) = torch.autograd.grad(grad.sum(), image)
    assert second.abs().sum() > 0
    # Linear in the image: its second derivative by the image is zero, not an error.
    (grad,) = torch.autograd.grad(box_conv2d(image, boxes.detach()).sum(), image, create_graph=True)
    assert torch.autograd.grad(grad.sum(), image, allow_unused=True)[0] is None
    (grad,) = torch.autograd.grad(box_conv2d(image.detach(), boxes).sum(), boxes, create_graph=True)
    assert torch.autograd.grad(grad.sum(), boxes)[0].abs().sum() > 0


def test_output_mask(implementation: str) -> None:
    image, boxes = (tensor.detach() for tensor in image_and_boxes())
    grad = torch.randn(2, 12, 5, 7, dtype=torch.float64)
    with ops.use(implementation):
        both = BACKWARD(grad, image, boxes)
        for mask in itertools.product([True, False], repeat=2):
            masked = BACKWARD(grad, image, boxes, True, 1, list(mask))
            for wanted, actual, expected in zip(mask, masked, both, strict=True):
                assert torch.equal(actual, expected) if wanted else actual.shape == (0,)


def test_only_what_needs_a_gradient_is_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    masks = []

    class Spy:
        box_conv2d = staticmethod(reference.box_conv2d)

        @staticmethod
        def box_conv2d_backward(*args: Any) -> tuple[Tensor, Tensor]:
            masks.append(args[-1])
            return reference.box_conv2d_backward(*args)

    monkeypatch.setitem(dispatch.IMPLEMENTATIONS, "spy", Spy)
    image, boxes = image_and_boxes()
    with ops.use("spy"):
        for first, second in ((image, boxes), (image.detach(), boxes), (image, boxes.detach())):
            box_conv2d(first, second).sum().backward()
        assert not box_conv2d(image.detach(), boxes.detach()).requires_grad
    assert masks == [[True, True], [False, True], [True, False]]


def kept_by(function: Callable[[], Any]) -> list[Tensor]:
    """The tensors that autograd saves while ``function`` runs."""
    kept: list[Tensor] = []

    def pack(tensor: Tensor) -> Tensor:
        kept.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        function()
    return kept


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_nothing_is_kept_but_image_and_boxes(dtype: torch.dtype, implementation: str) -> None:
    image, boxes = image_and_boxes()
    image, boxes = image.detach().to(dtype).requires_grad_(), boxes.detach().float().requires_grad_()
    with ops.use(implementation):
        kept = kept_by(lambda: box_conv2d(image, boxes))
    assert {tensor.data_ptr() for tensor in kept} == {image.data_ptr(), boxes.data_ptr()}


def test_the_layer_keeps_its_input_and_a_few_numbers() -> None:
    layer = BoxConv2d(3, 4, 5, 7)
    image = torch.randn(2, 3, 5, 7, requires_grad=True)
    kept = kept_by(lambda: layer(image))
    assert [t.data_ptr() for t in kept if t.numel() > layer.scaled_boxes.numel()] == [image.data_ptr()]


def test_a_changed_image_is_noticed() -> None:
    image, boxes = image_and_boxes()
    changed = image * 1
    output = box_conv2d(changed, boxes)
    changed.mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        output.sum().backward()


def test_boxes_far_outside_have_no_gradient(implementation: str) -> None:
    image = torch.randn(2, 1, 5, 7, requires_grad=True)
    far = [[30.0, 40, -2, 2], [-1e30, -1e20, -2, 2], [-2, 2, 1e6, float("inf")]]
    boxes = torch.tensor([far], requires_grad=True)
    with ops.use(implementation):
        output = box_conv2d(image, boxes)
        output.sum().backward()
    for tensor in (output, image.grad, boxes.grad):
        assert torch.equal(tensor, torch.zeros_like(tensor))


def test_half_precision_backward_inside_autocast_is_not_lowered() -> None:
    """Users may call backward inside the autocast block; products in it must not be rounded to half precision."""
    image = torch.randn(1, 3, 40, 50).bfloat16().requires_grad_()
    boxes = image_and_boxes()[1].detach().float().requires_grad_()
    grads = []
    for enabled in (False, True):
        with torch.autocast("cpu", enabled=enabled):
            output = box_conv2d(image, boxes)
            grads.append(torch.autograd.grad(output.float().square().sum(), (image, boxes)))
    assert_gradient(grads[1][0], grads[0][0].double())
    assert_gradient(grads[1][1], grads[0][1].double())
