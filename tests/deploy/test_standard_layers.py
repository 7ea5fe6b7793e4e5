"""Box convolutions as standard operations, for known boxes: the same numbers as the deployed layer."""

import pytest
import torch
from torch import Tensor, nn

from box_convolution import BoxBottleneck, BoxConv2d
from box_convolution.deploy import deploy
from box_convolution.deploy.activation import Activation
from box_convolution.deploy.standard_layers import (
    ConstantBoxConv2d,
    MaximumActivation,
    SnappedBoxConv2d,
    in_standard_operations,
    with_fast_activations,
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
    fast = with_fast_activations(prelu)
    assert type(fast) is (kind if kind is MaximumActivation else nn.PReLU)
    with torch.no_grad():
        assert torch.equal(fast(image), prelu(image))
        fast = with_fast_activations(Activation.of(prelu))
        assert type(fast) is kind
        assert torch.equal(fast(image.clone(), residual), prelu(image + residual))
