"""BoxConv2d, the block and the networks accept what `nn.Conv2d` accepts: NumPy numbers, images without a batch."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.func import functional_call, grad, jvp, vmap

from box_convolution import BoxBottleneck, BoxConv2d, box_conv2d, networks, ops
from box_convolution.deploy import deploy, prune

H, W = 5, 7


class Index:
    """Not an integer, but accepted by `operator.index`."""

    def __index__(self) -> int:
        return 2


INTEGERS: list[Callable[[int], Any]] = [np.int64, np.uint8, np.int32, torch.tensor, lambda number: np.array(number)]


@pytest.mark.parametrize("integer", INTEGERS, ids=["int64", "uint8", "int32", "tensor", "array"])
def test_integers_of_other_kinds(integer: Callable[[int], Any]) -> None:
    def plain(numbers: Callable[[int], Any]) -> BoxConv2d:
        torch.manual_seed(0)
        return BoxConv2d(numbers(3), numbers(2), numbers(H), numbers(W), stride=numbers(2))

    layer = plain(integer)
    assert repr(layer) == repr(plain(int))
    assert torch.equal(layer.boxes, plain(int).boxes)
    assert {type(getattr(layer, name)) for name in ("in_channels", "num_filters", "max_input_h", "stride")} == {int}
    image = torch.randn(2, 3, H, W)
    assert torch.equal(box_conv2d(image, layer.boxes, stride=integer(2)), layer(image))
    block = BoxBottleneck(integer(8), boxes_per_channel=integer(4), max_input_h=integer(H), max_input_w=integer(W))
    assert repr(block) == repr(BoxBottleneck(8, boxes_per_channel=4, max_input_h=H, max_input_w=W))


def test_anything_with_an_index_and_numpy_floats_and_bools() -> None:
    layer = BoxConv2d(3, Index(), H, W, normalize=np.False_, reparametrization_factor=np.float32(0.86))
    assert (layer.num_filters, layer.normalize, type(layer.reparametrization_factor)) == (2, False, float)
    assert layer(torch.randn(1, 3, H, W)).shape == (1, 6, H, W)
    image, boxes = torch.randn(1, 3, H, W), layer.boxes.detach()
    assert torch.equal(box_conv2d(image, boxes, normalize=np.True_), box_conv2d(image, boxes))
    assert BoxBottleneck(8, max_input_h=H, max_input_w=W, dropout=np.float64(0.25), bias=np.True_).dropout.p == 0.25


def test_deployment_and_drawing(tmp_path: Path) -> None:
    network = networks.create("boxenet", 5, (16, 24)).eval()
    image = torch.rand(1, 3, 16, 24)
    plain = deploy(network, snap=True, channels_last=False, drop_classes=(1, 3))
    other = deploy(network, snap=np.True_, channels_last=np.False_, drop_classes=np.array([1, 3]))
    assert torch.equal(other(image), plain(image))
    again, report = prune(other, [image], np.float32(0.25), min_area=np.int64(2), drop_channels=np.True_)
    expected, counted = prune(plain, [image], 0.25, min_area=2, drop_channels=True)
    assert report == counted
    assert torch.equal(again(image), expected(image))
    layer = BoxConv2d(3, 4, H, W)
    layer.draw(tmp_path / "a.svg", most=np.int64(5), centre=np.array([1, 2]), importance=np.arange(12))
    layer.draw(tmp_path / "b.svg", most=5, centre=(1, 2), importance=list(range(12)))
    assert (tmp_path / "a.svg").read_text() == (tmp_path / "b.svg").read_text()


@pytest.mark.parametrize("size", [np.array([16, 24]), (np.int64(16), np.int16(24)), [16, 24], torch.Size([16, 24])])
def test_sizes_of_networks(size: Any) -> None:
    options = {"dropout": np.array([0.0, 0.1]), "reparametrization_factor": np.float32(1)}
    network = networks.create("boxerfnet", np.int64(5), size, remaining_dilations=np.array([1, 2, 1, 2]), **options)
    plain = {"dropout": (0.0, 0.1), "reparametrization_factor": 1.0}
    assert repr(network) == repr(networks.create("boxerfnet", 5, (16, 24), remaining_dilations=(1, 2, 1, 2), **plain))


# Images without a batch.

BOXES = torch.tensor([[-1.5, 2.25, -0.75, 3.0], [-3.0, 0.5, -7.0, 1.25]]).repeat(3, 1, 1)


@pytest.mark.parametrize("name", ["reference", "cpu"])
@pytest.mark.parametrize("stride", [1, 2])
def test_one_image_is_a_batch_of_one(name: str, stride: int) -> None:
    image = torch.randn(3, H, W)
    with ops.use(name):
        expected = box_conv2d(image[None], BOXES, stride=stride)[0]
        assert torch.equal(box_conv2d(image, BOXES, stride=stride), expected)
        assert torch.equal(box_conv2d(image.mT.contiguous().mT, BOXES, stride=stride), expected)
        out = torch.empty_like(expected)
        assert box_conv2d(image, BOXES, stride=stride, out=out) is out
    assert torch.equal(out, expected)


def test_facilities_with_one_image() -> None:
    layer = BoxConv2d(3, 2, H, W)
    image = torch.randn(3, H, W)
    expected = layer(image[None])[0]
    weights = {name: weight.detach() for name, weight in layer.named_parameters()}

    def loss(image: Tensor) -> Tensor:
        return functional_call(layer, weights, (image,)).square().sum()

    images = torch.stack([image, 2 * image])
    torch.testing.assert_close(vmap(layer)(images), layer(images))
    image.requires_grad_()
    (plain,) = torch.autograd.grad(layer(image[None]).square().sum(), image)
    torch.testing.assert_close(grad(loss)(image), plain)
    torch.testing.assert_close(vmap(grad(loss))(images.detach())[0], plain)
    torch.testing.assert_close(jvp(loss, (image.detach(),), (image.detach(),))[1], (plain * image).sum())
    with torch.autocast("cpu", torch.bfloat16):
        assert layer(image).dtype == torch.bfloat16
    torch._dynamo.reset()
    compiled = torch.compile(layer, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(image), expected)
    sizes = {1: torch.export.Dim("height", min=3), 2: torch.export.Dim("width", min=3)}
    program = torch.export.export(layer, (image.detach(),), dynamic_shapes=(sizes,))
    other = torch.randn(3, 9, 4)
    torch.testing.assert_close(program.module()(other), layer(other))


# Other numbers of channels.


@pytest.mark.parametrize("name", networks.names())
@pytest.mark.parametrize("in_channels", [1, 4, 13])
def test_networks_for_other_channels(name: str, in_channels: int) -> None:
    torch.manual_seed(0)
    network = networks.create(name, 5, (32, 48), in_channels=in_channels)
    image = torch.randn(2, in_channels, 19, 27)
    logits = network(image)
    assert logits.shape == (2, 5, 19, 27)
    logits.square().mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters() if p.requires_grad)
    network.eval()
    with torch.no_grad():
        assert torch.equal(network(image[0]), network(image[:1])[0])
        torch.testing.assert_close(deploy(network)(image), network(image), atol=1e-3, rtol=1e-3)
    with pytest.raises(ValueError, match=rf"image must have shape \(batch, {in_channels}, height, width\), got"):
        network(torch.zeros(1, in_channels + 1, 16, 16))


def test_more_filters_beside_fewer_channels_and_no_pooled_input_beside_many() -> None:
    filters = {n: networks.create("enet", 5, (32, 48), in_channels=n).initial.conv.out_channels for n in (1, 3, 8, 9)}
    assert filters == {1: 15, 3: 13, 8: 8, 9: 16}
