"""Box convolutions as standard operations, for known boxes: the same numbers as the deployed layer."""

import copy

import pytest
import torch
from torch import Tensor, nn

from box_convolution import BoxBottleneck, BoxConv2d
from box_convolution.deploy import deploy
from box_convolution.deploy.activation import Activation
from box_convolution.deploy.blocks import PooledBlock
from box_convolution.deploy.modules import ChannelAffine
from box_convolution.deploy.standard_layers import (
    ComparingPooledBlock,
    ConstantBoxConv2d,
    MaximumActivation,
    SnappedBoxConv2d,
    in_standard_operations,
    with_fast_layers,
)


class Twice(nn.Module):
    """A network that uses one layer on maps of two sizes."""

    def __init__(self) -> None:
        super().__init__()
        self.box = BoxConv2d(2, 3, 20, 30)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        return self.box(image), self.box(image[..., ::2, ::2])


def network(snap: bool, **options) -> nn.Module:
    torch.manual_seed(0)
    made = nn.Sequential(
        nn.Conv2d(3, 8, 1),
        BoxBottleneck(8, boxes_per_channel=2, max_input_h=20, max_input_w=30),
        BoxConv2d(8, 2, 20, 30, **options),
        nn.BatchNorm2d(16),
        nn.ReLU(),
    )
    with torch.no_grad():
        made(torch.randn(4, 3, 20, 30))
    return deploy(made, snap=snap)


@pytest.mark.parametrize("fixed", [True, False])
@pytest.mark.parametrize("snap", [True, False])
@pytest.mark.parametrize("options", [{}, {"stride": 3}, {"normalize": False}], ids=str)
def test_the_same_numbers(fixed: bool, snap: bool, options: dict) -> None:
    image = torch.randn(2, 3, 20, 31)
    expected = network(snap, **options)(image)
    standard = in_standard_operations(network(snap, **options), (image,) if fixed else None)
    kind = SnappedBoxConv2d if snap else ConstantBoxConv2d
    assert sum(type(module) is kind for module in standard.modules()) == (2 if snap or fixed else 0)
    scale = expected.abs().max().item()
    torch.testing.assert_close(standard(image), expected, rtol=0, atol=2e-6 * scale)
    if not fixed:
        other = torch.randn(1, 3, 40, 9)  # smaller than the boxes
        torch.testing.assert_close(standard(other), network(snap, **options)(other), rtol=0, atol=2e-6 * scale)


def test_a_layer_by_itself() -> None:
    image = torch.randn(1, 2, 20, 30)
    layer = deploy(BoxConv2d(2, 3, 20, 30))
    standard = in_standard_operations(layer, (image,))
    assert type(standard) is ConstantBoxConv2d
    torch.testing.assert_close(standard(image), layer(image), rtol=0, atol=1e-5)


def test_a_layer_at_two_sizes() -> None:
    image = torch.randn(1, 2, 20, 30)
    for snap in (True, False):
        deployed = deploy(Twice(), snap=snap)
        expected = deployed(image)
        standard = in_standard_operations(deployed, (image,))
        assert isinstance(standard.box, SnappedBoxConv2d) == snap
        torch.testing.assert_close(standard(image), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("slopes, kind", [([0.25, 1.0, -2.0], MaximumActivation), ([0.25, 1.5, 0.0], Activation)])
def test_activations(slopes: list[float], kind: type) -> None:
    prelu = nn.PReLU(3)
    with torch.no_grad():
        prelu.weight.copy_(torch.tensor(slopes))
    image, residual = torch.randn(2, 3, 5, 6), torch.randn(2, 3, 5, 6)
    fast = with_fast_layers(prelu, even=False)
    assert type(fast) is (kind if kind is MaximumActivation else nn.PReLU)
    with torch.no_grad():
        assert torch.equal(fast(image), prelu(image))
        fast = with_fast_layers(Activation.of(prelu), even=False)
        assert type(fast) is kind
        assert torch.equal(fast(image.clone(), residual), prelu(image + residual))


def test_pooling_by_comparison() -> None:
    """The same maxima, and the index of the first one, also where several pixels are the largest."""
    torch.manual_seed(0)
    block = PooledBlock(nn.Conv2d(3, 5, 2, stride=2), Activation.of(nn.PReLU(5)))
    fast = with_fast_layers(copy.deepcopy(block), even=True)
    assert type(fast) is ComparingPooledBlock
    assert type(with_fast_layers(copy.deepcopy(block), even=False)) is PooledBlock
    for image in (torch.randn(2, 3, 6, 10), torch.randint(0, 2, (2, 3, 8, 6)).float(), torch.zeros(1, 3, 2, 2)):
        with torch.no_grad():
            (expected, indices), (output, found) = block(image), fast(image)
        assert torch.equal(output, expected)
        assert torch.equal(found, indices)


def test_an_affine_of_some_channels() -> None:
    torch.manual_seed(0)
    affine = ChannelAffine(2, torch.rand(3) + 0.5, torch.randn(3))
    whole = with_fast_layers(copy.deepcopy(affine), even=False)
    image = torch.randn(2, 5, 4, 6)
    before = image.clone()
    assert torch.equal(whole(image), affine(before.clone()))
    assert torch.equal(image, before), "nothing is written to the input"
