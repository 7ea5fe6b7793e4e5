"""Replacing layers of other networks by boxes: what is replaced, what stays, and the report."""

import copy
import re

import pytest
import torch
from foreign_networks import OF_PACKAGES, DeepLab, Listed, PyramidPooling, SqueezeExcite, Unpadded
from torch import Tensor, nn

from box_convolution import BoxConv2d
from box_convolution.convert import replace_dilated
from box_convolution.deploy import FusedBoxConv2d, deploy


def only(output) -> Tensor:
    """The only tensor in the output of a network."""
    for name in ("out", "logits"):
        if isinstance(output, dict) and name in output:
            return output[name]
    return output


def boxes_in(network: nn.Module) -> dict[str, BoxConv2d]:
    return {name: module for name, module in network.named_modules() if isinstance(module, BoxConv2d)}


def assert_trains(network: nn.Module, channels: int) -> None:
    """Every weight of the new layers gets a gradient, in training mode."""
    only(network.train()(torch.randn(2, channels, 64, 96))).square().mean().backward()
    for name, layer in boxes_in(network).items():
        assert layer.scaled_boxes.grad is not None, name
        assert layer.scaled_boxes.grad.isfinite().all(), name


def test_deeplab() -> None:
    torch.manual_seed(0)
    network = DeepLab().train()
    before = copy.deepcopy(network.state_dict())
    converted, report = replace_dilated(network, (64, 96))
    assert [one.name for one in report.replaced] == ["layer1.2.0", "aspp.1.0", "aspp.2.0", "image.0"]
    assert list(report.left) == ["layer1.1.pool"]  # of the squeeze-and-excitation
    assert {name: (box.in_channels, box.num_filters, box.max_input_h, box.max_input_w) for name, box in
            boxes_in(converted).items()} == {
        "layer1.2.0.1": (8, 4, 16, 24), "aspp.1.0.1": (4, 4, 16, 24), "aspp.2.0.1": (4, 4, 16, 24),
        "image.0": (32, 1, 16, 24),
    }  # fmt: skip
    assert isinstance(converted.layer1[1].pool, nn.AdaptiveAvgPool2d)
    assert type(converted.stem[0]) is nn.Conv2d  # it shrinks the image
    assert converted.aspp[1][0][0].bias is None
    # The original is as it was, in its mode; what stays in the copy has its weights.
    assert not boxes_in(network)
    assert network.training
    assert converted.training
    assert converted.aspp[1][0].training
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    kept = {name: t for name, t in converted.state_dict().items() if name in before and t.shape == before[name].shape}
    assert all(torch.equal(tensor, before[name]) for name, tensor in kept.items())
    assert_trains(converted, 3)


def test_what_the_report_counts() -> None:
    network, report = replace_dilated(DeepLab(), (64, 96), which="dilated")
    one = report.replaced[1]
    assert one.parameters == (32 * 16 * 9, 32 * 4 + 4 * 4 * 4)
    h, w = 16, 24
    assert one.multiply_adds == (32 * 16 * 9 * h * w, (32 * 4 + 4 + 2 * 16) * h * w)
    assert report.parameters == tuple(sum(p.numel() for p in net.parameters()) for net in (DeepLab(), network))
    saved = sum(one.multiply_adds[0] - one.multiply_adds[1] for one in report.replaced)
    assert report.multiply_adds[0] - report.multiply_adds[1] == saved
    lines = str(report).splitlines()
    assert lines[0].split() == ["module", "from", "to", "parameters", "million", "multiply-adds"]
    assert re.split("  +", lines[2]) == [
        "aspp.1.0", "3x3, 32 to 16 channels, dilation 6", "4 channels x 4 boxes", "4,608 -> 192", "1.8 -> 0.1",
    ]  # fmt: skip
    assert lines[-1].startswith("whole network")


def test_pyramid_pooling_and_large_kernels() -> None:
    converted, report = replace_dilated(PyramidPooling(), (64, 96), in_channels=1)
    assert [one.name for one in report.replaced] == [
        "encoder.2.0", "pyramid.0.0", "pyramid.1.0", "pyramid.2.0", "across", "down",
    ]  # fmt: skip
    depthwise = converted.encoder[2][0]
    assert (depthwise[0].groups, depthwise[1].in_channels, depthwise[1].num_filters) == (24, 24, 1)
    assert (converted.across[1].in_channels, converted.across[1].num_filters) == (5, 2)  # 10 does not divide by 4
    assert converted.across[0].bias is not None
    assert_trains(converted, 1)
    images = torch.randn(1, 1, 32, 128)  # of another size
    assert converted.eval()(images).shape == PyramidPooling().eval()(images).shape


def test_convolutions_without_padding() -> None:
    """Boxes see the whole input of the convolution; the outputs are those at the pixels that it keeps."""
    converted, report = replace_dilated(Unpadded(), (20, 24), in_channels=2)
    assert [one.name for one in report.replaced] == ["dilated", "smaller"]
    assert report.left == {
        "unused": "is not called",
        "reflecting": "pads with 'reflect', and boxes with zeros",
    }
    assert converted.again is converted.dilated
    assert (converted.dilated[1].max_input_h, converted.dilated[1].max_input_w) == (20, 24)
    input = torch.randn(1, 8, 20, 24)
    whole = converted.smaller[:2](input)
    torch.testing.assert_close(converted.smaller(input), whole[..., 2:-2, 2:-2])


def test_layers_in_a_plain_list() -> None:
    network = Listed()
    converted, _ = replace_dilated(network, (8, 12))
    assert converted.layers[0] is converted.get_submodule("0")
    assert isinstance(converted.layers[0][1], BoxConv2d)
    assert type(network.layers[0]) is nn.Conv2d


def test_a_layer_out_of_reach_is_named() -> None:
    class Hidden(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Conv2d(3, 3, 3, padding=2, dilation=2)
            self.layers = {"conv": self.layer}

        def forward(self, image: Tensor) -> Tensor:
            return self.layers["conv"](image)

    with pytest.raises(ValueError, match="network calls layer in a way that no replacement reaches"):
        replace_dilated(Hidden(), (8, 8))


def test_stride_and_choice_by_name() -> None:
    network = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2, padding=2, dilation=2), nn.Conv2d(8, 8, 3, padding=1))
    converted, report = replace_dilated(network, (21, 30), which=lambda name, module: True, boxes_per_channel=8)
    assert converted[0][1].stride == 2
    assert converted[1][1].num_filters == 8
    assert len(report.replaced) == 2
    image = torch.randn(1, 3, 18, 27)
    assert converted(image).shape == network(image).shape


def test_options_and_dtype() -> None:
    network = nn.Sequential(nn.Conv2d(3, 8, 3, padding=2, dilation=2)).double()
    converted, _ = replace_dilated(
        network, (16, 16), reparametrization_factor=1.0, symmetric=True, initial_boxes="log-uniform"
    )
    layer = converted[0][1]
    assert (layer.reparametrization_factor, layer.symmetric, layer.initial_boxes) == (1.0, True, "log-uniform")
    assert {parameter.dtype for parameter in converted.parameters()} == {torch.float64}


def test_a_converted_network_is_deployed() -> None:
    torch.manual_seed(0)
    converted, _ = replace_dilated(DeepLab(), (64, 96))
    with torch.no_grad():
        converted(torch.randn(4, 3, 64, 96))
    converted.eval()
    deployed = deploy(converted)
    fused = [module for module in deployed.modules() if isinstance(module, FusedBoxConv2d)]
    assert len(fused) == 4
    assert sum(layer.scale is not None for layer in fused) == 3  # the BatchNorms after them
    image = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        expected = only(converted(image))
        torch.testing.assert_close(only(deployed(image)), expected, rtol=0, atol=1e-5 * expected.abs().max().item())


@pytest.mark.parametrize("name", OF_PACKAGES)
def test_networks_of_packages(name: str) -> None:
    make, channels, which, count = OF_PACKAGES[name]
    torch.manual_seed(0)
    network = make()
    converted, report = replace_dilated(network, (64, 96), in_channels=channels, which=which)
    assert len(report.replaced) == count
    assert len(boxes_in(converted)) == count
    assert_trains(converted, channels)


class Broken(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 3, 3, padding=2, dilation=2)

    def forward(self, image: Tensor) -> Tensor:
        return self.layer(image).flatten(1) @ torch.zeros(7, 7)


class ReadsAWeight(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 3, 3, padding=2, dilation=2)

    def forward(self, image: Tensor) -> Tensor:
        return self.layer(image) * self.layer.weight.sum()


PLAIN = nn.Sequential(nn.Conv2d(3, 8, 3), SqueezeExcite(8))
DILATED = nn.Sequential(nn.Conv2d(3, 8, 3, padding=2, dilation=2))


@pytest.mark.parametrize(
    "call, error, message",
    [
        (lambda: replace_dilated("net", (8, 8)), TypeError, "network must be an nn.Module, got str"),
        (lambda: replace_dilated(DILATED, 8), ValueError, r"input_size must be \(height, width\)"),
        (lambda: replace_dilated(DILATED, (8, 0)), ValueError, r"input_size must be \(height, width\)"),
        (lambda: replace_dilated(DILATED, (8, 8), boxes_per_channel=0), ValueError, "boxes_per_channel must be at le"),
        (lambda: replace_dilated(DILATED, (8, 8), in_channels=1.0), TypeError, "in_channels must be an int"),
        (lambda: replace_dilated(DILATED, (8, 8), which="atrous"), ValueError, "which must be some of dilated, large"),
        (lambda: replace_dilated(DILATED, (8, 8), which=()), ValueError, "which must be some of"),
        (lambda: replace_dilated(DILATED, (8, 8), which=3), ValueError, "which must be some of .* got 3"),
        (lambda: replace_dilated(DILATED, (8, 8), in_channels=1), ValueError, r"not run on an image of shape \[1, 1"),
        (lambda: replace_dilated(Broken(), (8, 8)), ValueError, "network does not run on an image"),
        (lambda: replace_dilated(ReadsAWeight(), (8, 8)), ValueError, r"with layer replaced \(leave .*: .* 'weight'"),
        (lambda: replace_dilated(DILATED, (8, 8), initial_boxes="small"), ValueError, "initial_boxes must be one of"),
        (lambda: replace_dilated(DILATED[0], (8, 8)), ValueError, "nothing to replace by boxes with which="),
        (lambda: replace_dilated(DILATED, (8, 8), which=lambda *_: False), ValueError, "with which=<lambda>$"),
        (lambda: replace_dilated(PLAIN, (8, 8)), ValueError, "1.pool returns 1 x 1 pixels that are not interpolated"),
    ],
)
def test_bad_calls(call, error, message) -> None:
    with pytest.raises(error, match=message):
        call()


def test_a_layer_with_hooks_stays() -> None:
    network = copy.deepcopy(DILATED)
    network[0].register_forward_hook(lambda *_: None)
    with pytest.raises(ValueError, match="0 has hooks"):
        replace_dilated(network, (8, 8))


def test_another_shape_is_refused() -> None:
    class Pools(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.pool = nn.AdaptiveAvgPool2d(2)

        def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
            small = self.pool(image)
            return small, nn.functional.interpolate(small, image.shape[2:])

    with pytest.raises(ValueError, match=r"returns \[\[1, 3, 8, 8\], .* with pool replaced, and \[\[1, 3, 2, 2\]"):
        replace_dilated(Pools(), (8, 8))
