"""`out=`: the same result in given memory, and an error if it does not fit."""

import pytest
import torch
from torch.autograd import forward_ad
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils.flop_counter import FlopCounterMode

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


def test_refuses_to_write_over_what_it_reads(image, boxes):
    memory = torch.randn(2 * 12 * 5 * 7)
    out = memory.view(2, 12, 5, 7)
    with pytest.raises(ValueError, match="out must not share memory with input"):
        box_conv2d(memory[-2 * 3 * 5 * 7 :].view(2, 3, 5, 7), boxes, out=out)
    with pytest.raises(ValueError, match="out must not share memory with boxes"):
        box_conv2d(image, memory[: 3 * 4 * 4].view(3, 4, 4), out=out)


def test_writes_beside_its_input(image, boxes):
    memory = torch.empty(1, 3 + 12, 5, 7)
    memory[:, :3] = image[:1]
    box_conv2d(memory[:, :3], boxes, out=memory[:, 3:])
    assert torch.equal(memory[:, 3:], box_conv2d(image[:1], boxes))


@pytest.mark.parametrize("dims", [3, 4])
def test_autograd_notices_that_a_saved_tensor_was_overwritten(image, boxes, dims, implementation):
    image = image if dims == 4 else image[0]
    out = torch.ones_like(box_conv2d(image, boxes))
    product = out * torch.ones_like(out).requires_grad_()
    with ops.use(implementation):
        box_conv2d(image, boxes, out=out)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        product.sum().backward()


def recorded(how, function, *tensors):
    if how == "make_fx":
        return make_fx(function)(*tensors)
    if how == "trace":
        return torch.jit.trace(function, tensors)
    return torch.compile(function, backend="aot_eager", fullgraph=True)


@pytest.mark.parametrize("how", ["compile", "make_fx", "trace"])
def test_graphs_write_too(image, boxes, how):
    def function(image, boxes, out):
        box_conv2d(image, boxes, out=out)
        return out + 1

    graph = recorded(how, function, image, boxes, torch.empty(2, 12, 5, 7))
    out = torch.full((2, 12, 5, 7), float("nan"))
    assert torch.equal(graph(2 * image, boxes, out), out + 1)
    assert torch.equal(out, box_conv2d(2 * image, boxes))


def test_is_counted_and_needs_no_numbers(image, boxes):
    with FlopCounterMode(display=False) as plain:
        out = box_conv2d(image, boxes)
    with FlopCounterMode(display=False) as given:
        box_conv2d(image, boxes, out=out)
    assert given.get_total_flops() == plain.get_total_flops() > 0
    assert box_conv2d(image.to("meta"), boxes.to("meta"), out=out.to("meta")).is_meta


def test_refuses_where_a_gradient_is_needed(image, boxes):
    out = torch.empty(2, 12, 5, 7)
    with pytest.raises(RuntimeError, match="out= cannot be differentiated"):
        box_conv2d(image.requires_grad_(), boxes, out=out)
    with torch.no_grad():
        box_conv2d(image, boxes, out=out)
    with forward_ad.dual_level(), pytest.raises(NotImplementedError, match="box_conv2d without out="):
        box_conv2d(forward_ad.make_dual(image.detach(), image.detach()), boxes, out=out)
