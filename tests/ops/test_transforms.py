"""vmap, torch.func, forward mode, torch.compile and torch.export, compared with loops and plain autograd."""

import itertools
import shutil
from collections.abc import Callable
from typing import Any

import pytest
import torch
from tolerances import assert_gradient, assert_values
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.func import functional_call, grad, hessian, jacfwd, jacrev, jvp, vjp, vmap

from box_convolution import BoxConv2d, box_conv2d
from box_convolution.ops import reference

FORWARD = torch.ops.box_convolution.box_conv2d
BACKWARD = torch.ops.box_convolution.box_conv2d_backward


def image_and_boxes(batch: int = 2, channels: int = 3, per_channel: int = 2) -> tuple[Tensor, Tensor]:
    centre, half = torch.randn(channels, per_channel, 2), 3 * torch.rand(channels, per_channel, 2) + 0.5
    boxes = torch.stack((centre - half, centre + half), -1).flatten(-2)
    return torch.randn(batch, channels, 5, 7, dtype=torch.float64), boxes.double()


def mapped(tensor: Tensor, dim: int | None) -> Tensor:
    """Three different tensors along a new dimension ``dim``; the tensor itself if ``dim`` is None."""
    return tensor if dim is None else torch.stack([tensor, tensor.flip(0) + 0.3, -tensor.flip(-1)], dim)


def selected(tensor: Tensor, dim: int | None, index: int) -> Tensor:
    return tensor if dim is None else tensor.select(dim, index)


@pytest.mark.parametrize(
    "dims", [d for d in itertools.product([None, 0, 1, 2, 4], [None, 0, 1, 3]) if any(x is not None for x in d)]
)
@pytest.mark.parametrize("sizes", [(2, 3, 2), (0, 3, 2), (2, 0, 2), (2, 3, 0)])
def test_vmap_equals_a_loop(dims: tuple[int | None, int | None], sizes: tuple[int, int, int]) -> None:
    image, boxes = (mapped(t, dim) for t, dim in zip(image_and_boxes(*sizes), dims, strict=True))
    actual = vmap(lambda i, b: box_conv2d(i, b, stride=2), in_dims=dims)(image, boxes)
    loop = [box_conv2d(selected(image, dims[0], v), selected(boxes, dims[1], v), stride=2) for v in range(3)]
    assert_values(actual, torch.stack(loop), 1)


@pytest.mark.parametrize(
    "dims", [d for d in itertools.product([None, 0, 3], repeat=3) if any(x is not None for x in d)]
)
@pytest.mark.parametrize("mask", [(True, True), (True, False), (False, True)])
def test_vmap_of_the_backward_operator_equals_a_loop(dims: tuple[int | None, ...], mask: tuple[bool, bool]) -> None:
    image, boxes = image_and_boxes()
    plain = (torch.randn(2, 6, 5, 7, dtype=torch.float64), image, boxes)
    arguments = [mapped(t, dim) for t, dim in zip(plain, dims, strict=True)]

    def backward(*tensors: Tensor) -> tuple[Tensor, ...]:
        return tuple(g for g, wanted in zip(BACKWARD(*tensors, True, 1, list(mask)), mask, strict=True) if wanted)

    actual = vmap(backward, in_dims=dims)(*arguments)
    loop = [backward(*(selected(t, dim, v) for t, dim in zip(arguments, dims, strict=True))) for v in range(3)]
    for one, many in zip(actual, zip(*loop, strict=True), strict=True):
        assert_gradient(one, torch.stack(many))


def test_nested_vmap() -> None:
    image, boxes = image_and_boxes()
    images, sets = mapped(image, 0), mapped(boxes, 0)
    actual = vmap(lambda b: vmap(lambda i: box_conv2d(i, b))(images))(sets)
    assert_values(actual, torch.stack([torch.stack([box_conv2d(i, b) for i in images]) for b in sets]), 1)


def test_autograd_through_vmap() -> None:
    image, boxes = (mapped(t, 0).requires_grad_() for t in image_and_boxes())
    actual = torch.autograd.grad(vmap(box_conv2d)(image, boxes).square().sum(), (image, boxes))
    loop = sum(box_conv2d(i, b).square().sum() for i, b in zip(image, boxes, strict=True))
    for one, other in zip(actual, torch.autograd.grad(loop, (image, boxes)), strict=True):
        assert_gradient(one, other)


def test_many_incoming_gradients_at_once() -> None:
    image, boxes = (t.requires_grad_() for t in image_and_boxes())
    output = box_conv2d(image, boxes)
    incoming = torch.randn(4, *output.shape, dtype=output.dtype)
    batched = torch.autograd.grad(output, (image, boxes), incoming, is_grads_batched=True, retain_graph=True)
    loop = [torch.autograd.grad(output, (image, boxes), g, retain_graph=True) for g in incoming]
    for one, many in zip(batched, zip(*loop, strict=True), strict=True):
        assert_gradient(one, torch.stack(many))


def loss(image: Tensor, boxes: Tensor) -> Tensor:
    return box_conv2d(image, boxes, stride=2).pow(3).sum()


def plain_loss(image: Tensor, boxes: Tensor) -> Tensor:
    return reference.box_conv2d(image, boxes, True, 2).pow(3).sum()


def autograd(image: Tensor, boxes: Tensor) -> tuple[Tensor, ...]:
    image, boxes = image.clone().requires_grad_(), boxes.clone().requires_grad_()
    return torch.autograd.grad(loss(image, boxes), (image, boxes))


def test_func_grad_and_vjp_equal_autograd() -> None:
    image, boxes = image_and_boxes()
    expected = autograd(image, boxes)
    value, pull = vjp(loss, image, boxes)
    for grads in (grad(loss, argnums=(0, 1))(image, boxes), pull(torch.ones_like(value))):
        for one, other in zip(grads, expected, strict=True):
            assert_gradient(one, other)


def test_per_sample_gradients() -> None:
    image, boxes = image_and_boxes(batch=4)
    actual = vmap(grad(loss, argnums=1), in_dims=(0, None))(image[:, None], boxes)
    for one, sample in zip(actual, image, strict=True):
        assert_gradient(one, autograd(sample[None], boxes)[1])


def directional(image: Tensor, boxes: Tensor, along: tuple[Tensor, Tensor]) -> Tensor:
    return sum((g * d).sum() for g, d in zip(autograd(image, boxes), along, strict=True))


def test_forward_mode_equals_reverse_mode() -> None:
    image, boxes = image_and_boxes()
    along = torch.randn_like(image), torch.randn_like(boxes)
    expected = directional(image, boxes, along)
    assert_gradient(jvp(loss, (image, boxes), along)[1], expected)
    assert_gradient(torch.func.linearize(loss, image, boxes)[1](*along), expected)
    with forward_ad.dual_level():
        duals = map(forward_ad.make_dual, (image, boxes), along)
        assert_gradient(forward_ad.unpack_dual(loss(*duals)).tangent, expected)
        only_boxes = forward_ad.unpack_dual(loss(image, forward_ad.make_dual(boxes, along[1]))).tangent
    assert_gradient(only_boxes, directional(image, boxes, (torch.zeros_like(image), along[1])))


def test_jacobians_and_hessian() -> None:
    image, boxes = image_and_boxes(batch=1, channels=2, per_channel=1)
    for argument in (0, 1):
        rows = jacrev(box_conv2d, argnums=argument)(image, boxes)
        assert_gradient(jacfwd(box_conv2d, argnums=argument)(image, boxes), rows)
        expected = torch.autograd.functional.jacobian(box_conv2d, (image, boxes))[argument]
        assert_gradient(rows, expected)
        second = torch.autograd.functional.hessian(plain_loss, (image, boxes))[argument][argument]
        assert_gradient(hessian(loss, argnums=argument)(image, boxes), second)


def test_bare_operators_refuse_forward_mode() -> None:
    """Otherwise PyTorch would silently drop the tangent."""
    image, boxes = image_and_boxes()
    output = FORWARD(image, boxes)
    with forward_ad.dual_level():
        dual = forward_ad.make_dual(image, image)
        with pytest.raises(NotImplementedError, match=r"call box_convolution\.box_conv2d"):
            FORWARD(dual, boxes)
        with pytest.raises(NotImplementedError, match=r"call box_convolution\.box_conv2d"):
            BACKWARD(output, dual, boxes)
        assert torch.equal(FORWARD(image, boxes), output)


def compiled(function: Callable[..., Any], **options: Any) -> Callable[..., Any]:
    """Compile in one graph, through autograd, but without the code generator, which does not concern this package."""
    torch._dynamo.reset()
    return torch.compile(function, backend="aot_eager", fullgraph=True, **options)


def test_compiled_forward_and_backward() -> None:
    image, boxes = image_and_boxes()
    function = compiled(lambda i, b: box_conv2d(torch.sin(i), b, stride=2).pow(2).sum())
    tensors = [image.requires_grad_(), boxes.requires_grad_()]
    actual = torch.autograd.grad(function(*tensors), tensors)
    expected = torch.autograd.grad(box_conv2d(torch.sin(image), boxes, stride=2).pow(2).sum(), tensors)
    for one, other in zip(actual, expected, strict=True):
        assert_gradient(one, other)


@pytest.mark.skipif(shutil.which("g++") is None, reason="the default backend of torch.compile needs a C++ compiler")
def test_compiled_by_the_default_backend() -> None:
    image, boxes = (t.requires_grad_() for t in image_and_boxes())
    torch._dynamo.reset()
    function = torch.compile(lambda i, b: torch.sin(box_conv2d(torch.relu(i), b)), fullgraph=True)
    plain = torch.sin(box_conv2d(torch.relu(image), boxes))
    assert_values(function(image, boxes), plain.detach(), 1)
    actual = torch.autograd.grad(function(image, boxes).square().sum(), (image, boxes))
    for one, other in zip(actual, torch.autograd.grad(plain.square().sum(), (image, boxes)), strict=True):
        assert_gradient(one, other)


def test_compiled_under_autocast() -> None:
    image, boxes = (t.float().requires_grad_() for t in image_and_boxes())
    function = compiled(box_conv2d)
    with torch.autocast("cpu", torch.bfloat16):
        actual, expected = function(image, boxes), box_conv2d(image, boxes)
    assert actual.dtype == torch.bfloat16
    assert torch.equal(actual, expected)
    for one, other in zip(
        torch.autograd.grad(actual.float().sum(), (image, boxes)),
        torch.autograd.grad(expected.float().sum(), (image, boxes)),
        strict=True,
    ):
        assert_gradient(one, other)


def test_compiled_transforms() -> None:
    """Inside torch.compile, too, a registered formula would be refused, or the tangent would be dropped."""
    image, boxes = image_and_boxes()
    along = torch.randn_like(image), torch.randn_like(boxes)
    for one, other in zip(compiled(grad(loss, argnums=(0, 1)))(image, boxes), autograd(image, boxes), strict=True):
        assert_gradient(one, other)
    expected = directional(image, boxes, along)
    assert_gradient(compiled(lambda i, b: jvp(loss, (i, b), along)[1])(image, boxes), expected)
    images = mapped(image, 1)
    assert_values(
        compiled(vmap(box_conv2d, in_dims=(1, None)))(images, boxes), vmap(box_conv2d, (1, None))(images, boxes), 1
    )
    function = torch.compile(loss, backend="aot_eager")
    function(image, boxes)
    with forward_ad.dual_level():
        duals = map(forward_ad.make_dual, (image, boxes), along)
        assert_gradient(forward_ad.unpack_dual(function(*duals)).tangent, expected)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.box = BoxConv2d(3, 2, 32, 32, stride=2)

    def forward(self, image: Tensor) -> Tensor:
        return torch.relu(self.box(image))


def test_export_with_dynamic_batch_height_and_width() -> None:
    net = Net()
    dim = torch.export.Dim
    # As for any layer with a stride, PyTorch treats an output of one row or column as another graph.
    sizes = {0: dim("batch"), 2: dim("height", min=3), 3: dim("width", min=3)}
    exported = torch.export.export(net, (torch.randn(2, 3, 10, 12),), dynamic_shapes=(sizes,))
    targets = [str(node.target) for node in exported.graph.nodes]
    assert targets.count("box_convolution.box_conv2d.default") == 1, "the operator stays in one piece"
    for size in ((1, 3, 4, 5), (5, 3, 31, 7)):
        image = torch.randn(size)
        assert torch.equal(exported.module()(image), net(image))


def test_layer_under_functional_transforms() -> None:
    layer = BoxConv2d(3, 2, 5, 7, dtype=torch.float64)
    image, _ = image_and_boxes()
    weights = {name: weight.detach() for name, weight in layer.named_parameters()}

    def scalar(weights: dict[str, Tensor], image: Tensor) -> Tensor:
        return functional_call(layer, weights, (image,)).pow(2).sum()

    layer(image).pow(2).sum().backward()
    expected = layer.scaled_boxes.grad
    assert_gradient(grad(scalar)(weights, image)["scaled_boxes"], expected)
    along = {"scaled_boxes": torch.randn_like(expected)}
    tangent = jvp(lambda w: scalar(w, image), (weights,), (along,))[1]
    assert_gradient(tangent, (expected * along["scaled_boxes"]).sum())
    samples = vmap(grad(scalar), in_dims=(None, 0))(weights, image[:, None])["scaled_boxes"]
    assert_gradient(samples.sum(0), expected)
    ensemble = {"scaled_boxes": torch.stack([weights["scaled_boxes"]] * 2)}
    assert_values(
        vmap(functional_call, in_dims=(None, 0, None))(layer, ensemble, (image,))[1], layer(image).detach(), 1
    )
    assert hessian(scalar)(weights, image)["scaled_boxes"]["scaled_boxes"].isfinite().all()
