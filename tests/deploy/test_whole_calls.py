"""Code that cannot be traced, or looks into layers: a deployed network still computes the same."""

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from deployment import NORMS
from torch import Tensor, nn
from torch.nn.functional import conv2d, pad

from box_convolution import BoxBottleneck, BoxConv2d
from box_convolution.deploy import deploy
from box_convolution.deploy.whole_calls import whole_children


def features() -> nn.Sequential:
    convolution, box = nn.Conv2d(8, 8, 3, padding=1), BoxConv2d(8, 1, max_input_h=24, max_input_w=24)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), convolution, nn.BatchNorm2d(8), nn.PReLU(8), box
    )


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.act = nn.Conv2d(8, 8, 1), nn.BatchNorm2d(8), nn.ReLU()

    def forward(self, image: Tensor) -> Tensor:
        return self.act(self.norm(self.raw(image)))  # type: ignore[no-any-return]

    def raw(self, image: Tensor) -> Tensor:
        return self.conv(image)  # type: ignore[no-any-return]


class Network(nn.Module):
    """Pads images whose height is no multiple of 5, if ``pads``: then its code cannot be traced."""

    def __init__(self, pads: bool) -> None:
        super().__init__()
        self.features, self.pads = features(), pads
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU())
        self.blocks = nn.ModuleList([Block(), Block()])
        self.block, self.again = BoxBottleneck(8, max_input_h=24, max_input_w=24), self.features
        self.listed = list(self.stem)

    def forward(self, image: Tensor) -> list[Tensor]:
        if self.pads and image.shape[2] % 5:
            image = pad(image, (0, 0, 0, 5 - image.shape[2] % 5))
        return list(self.body(image))

    def body(self, image: Tensor) -> Iterator[Tensor]:
        raise NotImplementedError


class Slices(Network):
    def body(self, image: Tensor) -> Iterator[Tensor]:
        first = self.features[:1](image)
        yield from (first, self.features[1:](first))


class KeptOutputs(Network):
    def body(self, image: Tensor) -> Iterator[Tensor]:
        for layer in self.features:
            image = layer(image)
            yield image


class OneLayer(Network):
    def body(self, image: Tensor) -> Iterator[Tensor]:
        first = self.features[0](image)
        yield self.features[2](self.features[1](first)) + first


class OtherMethod(Network):
    def body(self, image: Tensor) -> Iterator[Tensor]:
        image = self.stem(image)
        yield from (self.blocks[0](image), self.blocks[0].raw(image))  # type: ignore[operator]


class OtherMethodInALoop(Network):
    def body(self, image: Tensor) -> Iterator[Tensor]:
        image = self.stem(image)
        for block in self.blocks:
            yield from (block(image), block.raw(image))  # type: ignore[operator]


class Weight(Network):
    def body(self, image: Tensor) -> Iterator[Tensor]:
        yield from (self.stem(image), conv2d(image, self.stem[0].weight))  # type: ignore[arg-type]


class Statistics(Network):
    def body(self, image: Tensor) -> Iterator[Tensor]:
        yield self.stem(image) + self.stem[1].running_mean.mean()  # type: ignore[union-attr, operator]


class PlainList(Network):
    def body(self, image: Tensor) -> Iterator[Tensor]:
        for layer in self.listed:
            image = layer(image)
        yield image


class AnotherName(Network):
    def body(self, image: Tensor) -> Iterator[Tensor]:
        yield from (self.features(image), self.again[0](image))


class BoxesOfABlock(Network):
    def body(self, image: Tensor) -> Iterator[Tensor]:
        image = self.stem(image)
        yield from (self.block(image), self.block.norm_in(self.block.conv(image)))


class HandedOn(Network):
    def body(self, image: Tensor) -> Iterator[Tensor]:
        layers = self.features
        yield from (layers(image), next(iter(layers))(image))


def assert_same(network: nn.Module, deployed: nn.Module, *given: Any) -> None:
    with torch.no_grad():
        expected, actual = network(*given), deployed(*given)
    for one, other in zip(expected, actual, strict=True):
        torch.testing.assert_close(other, one, rtol=0, atol=1e-5 * one.abs().max().item())


def trained(network: nn.Module) -> nn.Module:
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_()  # type: ignore[union-attr, operator]
            module.running_var.uniform_(0.5, 2)  # type: ignore[union-attr, operator]
            nn.init.normal_(module.weight)
            nn.init.normal_(module.bias)
    return network.eval()


@pytest.mark.parametrize("pads", [False, True])
@pytest.mark.parametrize("kind", Network.__subclasses__())
def test_code_that_looks_into_layers(kind: type[Network], pads: bool) -> None:
    network = trained(kind(pads))
    assert_same(network, deploy(network), torch.randn(2, 3, 24, 24))


class Options(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.act = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU()
        self.other = Block()

    def forward(self, image: Tensor, raw: bool = False, mask: Tensor | None = None) -> list[Tensor]:
        filtered = self.conv(image)
        if raw:
            return [filtered]
        image = self.other(self.act(self.norm(filtered)))
        return [image if mask is None else image * mask + filtered]


def test_options_of_forward() -> None:
    network = trained(Options())
    deployed = deploy(network)
    image, mask = torch.randn(1, 3, 9, 9), torch.rand(7, 7)
    for given in ((), (True,), (False, mask), (True, mask)):
        assert_same(network, deployed, image, *given)
    assert norms(deployed) == 1  # that of the block is folded in each case


def norms(network: nn.Module) -> int:
    return sum(isinstance(module, NORMS) for module in network.modules())


class Whole(nn.Module):
    """Calls all of its children whole, in code that cannot be traced."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = features(), Block()
        self.blocks, self.named = nn.ModuleList([Block(), Block()]), nn.ModuleDict({"a": Block(), "b": Block()})
        self.deep = nn.Sequential(Block(), nn.Sequential(nn.Conv2d(8, 8, 1), nn.BatchNorm2d(8)))
        self.optional: nn.Module | None = None
        self.register_module("none", None)
        for module in self.modules():
            module.eval()

    def forward(self, image: Tensor) -> list[Tensor]:
        image = self.encoded(image)
        if image.shape[2] % 2:
            image = image[:, :, 1:]
        for index, block in enumerate(self.blocks):
            image = block(image) * index if self.blocks is not None else image
        outputs = [block(image) for block in self.named.values()]
        for _, (block, output) in enumerate(zip(self.named.values(), outputs, strict=True)):
            image = image + block(output)
        for layer in self.deep:
            image = layer(image)
        return [self.head(image), self.blocks[len(self.blocks) - 1](image)]

    def encoded(self, image: Tensor) -> Tensor:
        return self.stem(image)  # type: ignore[no-any-return]


def test_children_that_are_called_whole_are_deployed() -> None:
    network = trained(Whole())
    deployed = deploy(network)
    for height in (12, 13):
        assert_same(network, deployed, torch.randn(1, 3, height, 12))
    assert norms(deployed) == 0


class Unknown(nn.Module):
    def __init__(self, way: str) -> None:
        super().__init__()
        self.block, self.way = Block(), way
        if way == "instance":
            self.forward = self.block.forward  # type: ignore[method-assign]

    def forward(self, image: Tensor) -> Tensor:
        if image.shape[2] % 2 == 0 or self.way == "attribute":
            return getattr(self, "block")(image)  # type: ignore[no-any-return]  # noqa: B009
        return next(self.children())(image)  # type: ignore[no-any-return]


class WithoutSource(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.block = Block()

    exec("def forward(self, image):\n    return self.block(image) if image.shape[2] else image")


@pytest.mark.parametrize("network", [Unknown("walk"), Unknown("instance"), WithoutSource()])
def test_unknown_code(network: nn.Module) -> None:
    assert whole_children(network) == []
    assert norms(deploy(trained(network))) == 1


class TwoNames(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norms = nn.ModuleList([nn.BatchNorm2d(8)])
        self.conv, self.norm = nn.Conv2d(3, 8, 1), self.norms[0]

    def forward(self, image: Tensor) -> list[Tensor]:
        return [self.norm(self.conv(image))]


class Kept(nn.Module):
    """Keeps what it computes, asks for types, and may be given nothing."""

    def __init__(self, way: str) -> None:
        super().__init__()
        self.stem, self.way = nn.Sequential(nn.Conv2d(3, 8, 1), nn.BatchNorm2d(8)), way
        self.conv, self.norm, self.act = nn.Conv2d(8, 8, 1), nn.BatchNorm2d(8), nn.ReLU()
        self.holder = SimpleNamespace(norm=self.norm)
        self.last: Any = None


class KeptOutput(Kept):
    def forward(self, image: Tensor) -> list[Tensor]:
        self.last = self.conv(self.stem(image))
        return [self.act(self.norm(self.last)), self.last]


class AskedType(Kept):
    def forward(self, image: Tensor, skip: Tensor | None = None) -> list[Tensor]:
        filtered = self.conv(self.stem(image))
        return [self.norm(filtered) if not isinstance(skip, Tensor) else filtered * skip]


class RequiredButNone(Kept):
    def forward(self, image: Tensor, skip: Tensor | None) -> list[Tensor]:
        filtered = self.conv(self.stem(image))
        return [self.norm(filtered) + (filtered if skip is None else skip)]


class AskedLayers(Kept):
    def forward(self, image: Tensor) -> list[Tensor]:
        outputs = []
        for layer in (self.stem, self.conv, self.norm, self.act):
            image = layer(image)
            if isinstance(layer, (nn.ReLU, nn.BatchNorm2d)):
                outputs.append(image)
        return outputs


class HeldElsewhere(Kept):
    def forward(self, image: Tensor) -> list[Tensor]:
        return [self.holder.norm(self.conv(self.stem(image)))]


class Numbers(Kept):
    def forward(self, image: Tensor) -> list[Tensor]:
        filtered = self.conv(self.stem(image))
        return [self.norm(filtered) * sum(p.sum() for p in self.conv.parameters())]


class NumbersOfLayers(Kept):
    def forward(self, image: Tensor) -> list[Tensor]:
        filtered = self.norm(self.conv(self.stem(image)))
        return [filtered if self.conv.bias is None else filtered * self.norm.eps]


@pytest.mark.parametrize(
    "kind, given, folded",
    [
        (NumbersOfLayers, (), 1),
        (TwoNames, (), 1),
        (KeptOutput, (), 1),
        (AskedType, (), 1),
        (AskedType, (torch.rand(1),), 1),
        (RequiredButNone, (None,), 1),
        (RequiredButNone, (torch.rand(1),), 1),
        (AskedLayers, (), 0),
        (HeldElsewhere, (), 1),
        (Numbers, (), 1),
    ],
)
def test_what_a_trace_does_not_show(kind: Any, given: tuple[Any, ...], folded: int) -> None:
    network = trained(kind() if kind is TwoNames else kind("way"))
    deployed = deploy(network)
    for _ in range(2):
        assert_same(network, deployed, torch.randn(1, 3, 6, 7), *given)
    assert norms(network) - norms(deployed) >= folded


def test_other_code_than_the_class_has() -> None:
    """Hooks, a forward or an act of the instance, norms that stay in training, replaced dropout."""

    def with_hook() -> nn.Module:
        network = nn.Sequential(nn.Conv2d(3, 8, 1), nn.Identity(), nn.BatchNorm2d(8))
        network[1].register_forward_hook(lambda module, inputs, output: output * 2)
        return network

    def with_forward() -> nn.Module:
        network: Any = nn.Sequential(nn.Conv2d(3, 8, 1), nn.BatchNorm2d(8))
        network.forward = lambda image: network[1](network[0](image)) + network[0](image)
        return network

    def in_training() -> nn.Module:
        network = nn.Sequential(nn.Conv2d(3, 8, 1), nn.BatchNorm2d(8))
        network[1].train = lambda mode=True: network[1]  # type: ignore[method-assign]
        return network

    def softmax() -> nn.Module:
        block: Any = BoxBottleneck(8, max_input_h=8, max_input_w=8)
        block.dropout = nn.Softmax(1)
        return nn.Sequential(nn.Conv2d(3, 8, 1), block)

    for make in (with_hook, with_forward, in_training, softmax):
        network = trained(make())
        assert_same(network, deploy(network), torch.randn(2, 3, 6, 7))


def test_three_dimensional_convolutions_and_single_images() -> None:
    network = nn.Sequential(nn.Conv3d(1, 4, 3), nn.BatchNorm3d(4)).eval()
    assert_same(network, deploy(network), torch.randn(1, 1, 5, 6, 7))
    layer = nn.Sequential(BoxConv2d(3, 2, max_input_h=9, max_input_w=9))
    assert_same(layer, deploy(layer), torch.randn(3, 6, 7))
