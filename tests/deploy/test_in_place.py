"""On the CPU, deployed networks change images in place: only those that nothing else reads."""

import copy
from typing import Any

import pytest
import torch
from deployment import assert_same_answer, lived_in, types_in
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from box_convolution import BoxBottleneck, networks
from box_convolution.deploy import FusedBoxBottleneck, deploy
from box_convolution.deploy.activation import Activation
from box_convolution.deploy.blocks import ResidualBlock
from box_convolution.networks.enet import Bottleneck, Downsample, Upsample
from box_convolution.networks.erfnet import NonBottleneck1d


@pytest.mark.parametrize("name", ["enet", "erfnet"])
def test_sums_and_activations_are_in_place_and_leave_the_image_alone(name: str) -> None:
    network = lived_in(networks.create(name, 5, (32, 48)), 2, 3, 32, 48)
    deployed = deploy(network)
    assert types_in(deployed) >= {ResidualBlock, Activation}
    assert types_in(deployed).isdisjoint({nn.ReLU, nn.PReLU, Bottleneck, Downsample, Upsample, NonBottleneck1d})
    image = torch.randn(2, 3, 32, 48).contiguous(memory_format=torch.channels_last)
    before = image.clone()
    with torch.no_grad():
        first, second = deployed(image), deployed(image)
    assert torch.equal(first, second)
    assert torch.equal(image, before)


def _counted(block: Any, counts: dict[str, int]) -> None:
    forward = block.box.forward

    def counting(input: Tensor, residual: Tensor | None = None, overwrite: bool = False) -> Tensor:
        counts["overwritten" if overwrite else "new"] += 1
        result: Tensor = forward(input, residual, overwrite)
        return result

    block.box.forward = counting


@pytest.mark.parametrize(("name", "blocks", "first"), [("boxenet", 12, 1), ("boxonlyenet", 23, 4), ("boxerfnet", 5, 0)])
def test_box_blocks_overwrite_their_inputs_and_leave_the_image_alone(name: str, blocks: int, first: int) -> None:
    network = lived_in(networks.create(name, 5, (64, 96)), 2, 3, 64, 96)
    deployed: Any = deploy(network)
    overwriting = [m for m in deployed.modules() if isinstance(m, FusedBoxBottleneck)]
    assert len(overwriting) == blocks
    counts = {"overwritten": 0, "new": 0}
    for block in overwriting:
        _counted(block, counts)
    with torch.no_grad():
        deployed(torch.randn(2, 3, 64, 96))
        assert counts == {"overwritten": blocks, "new": 0}
        stages = [deployed.stage1, deployed.stage2, *([deployed.stage3, deployed.stage4] if "enet" in name else [])]
        for stage, channels in zip(stages, (64, 128, 64, 16), strict=False):
            given = torch.randn(2, channels, 8, 12).contiguous(memory_format=torch.channels_last)
            copy = given.clone()
            stage(given)
            assert torch.equal(given, copy)
    assert counts["new"] == first
    image = torch.randn(2, 3, 64, 96).contiguous(memory_format=torch.channels_last)
    before = image.clone()
    with torch.no_grad():
        first, second = deployed(image), deployed(image)
        for block in overwriting:
            block.overwrites = block.overwrites_temporary = False
        assert torch.equal(deployed(image), first)
    assert torch.equal(first, second)
    assert torch.equal(image, before)


class _Counted(TorchDispatchMode):
    """Counts the calls of one operator."""

    def __init__(self, operator: Any) -> None:
        super().__init__()
        self.operator, self.calls = operator, 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.calls += func is self.operator
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize(("name", "blocks"), [("boxenet", 12), ("boxonlyenet", 23), ("boxerfnet", 5)])
def test_box_blocks_that_overwrite_are_one_operator(name: str, blocks: int) -> None:
    network = lived_in(networks.create(name, 5, (64, 96)), 2, 3, 64, 96)
    deployed, in_steps = deploy(network), deploy(network)
    for block in in_steps.modules():
        if isinstance(block, FusedBoxBottleneck):
            block.overwrites = block.overwrites_temporary = False
    image = torch.randn(2, 3, 64, 96)
    with torch.no_grad():
        with _Counted(torch.ops.box_convolution.box_block_.default) as counted:
            actual = deployed(image)
        torch.testing.assert_close(actual, in_steps(image), rtol=0, atol=1e-5)
    assert counted.calls == blocks


def _block() -> BoxBottleneck:
    return BoxBottleneck(8, max_input_h=12, max_input_w=12)


class _Stages(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = (nn.Sequential(nn.Conv2d(8, 8, 1), _block(), _block()) for _ in range(2))
        self.last = _block()

    def forward(self, image: Tensor) -> Tensor:
        return self.last(self.second(self.first(image)))


class _WithFeatures(_Stages):
    def forward(self, image: Tensor, features: bool = False) -> Any:
        kept = [image]
        for block in self.first if features else ():
            kept.append(block(kept[-1]))
        return kept if features else super().forward(image)


class _Untraceable(_Stages):
    def forward(self, image: Tensor) -> Any:
        kept = [image]
        for block in self.first if image.shape[0] else ():
            kept.append(block(kept[-1]))
        return kept


class _ReadsTwice(_Stages):
    def forward(self, image: Tensor) -> Any:
        start = self.first[0](image)
        middle = self.first[1](start)
        return start, middle, self.first[2](middle), self.second(image)


def _overwriting(network: nn.Module) -> set[str]:
    return {name for name, module in network.named_modules() if getattr(module, "overwrites", False)}


@pytest.mark.parametrize(
    ("network", "expected"),
    [
        (_Stages(), {"first.1", "first.2", "second.1", "second.2"}),
        (_WithFeatures(), set()),
        (_Untraceable(), set()),
        (_ReadsTwice(), {"second.1", "second.2"}),
        (nn.Sequential(nn.Conv2d(8, 8, 1), _block()), set()),  # its slices would overwrite what they are called with
        (_block(), set()),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else None,
)
def test_box_blocks_leave_what_others_may_read(network: nn.Module, expected: set[str]) -> None:
    with torch.no_grad():
        network(torch.randn(4, 8, 12, 12))
    deployed = deploy(network)
    assert _overwriting(deployed) == expected
    image = torch.randn(2, 8, 12, 12).contiguous(memory_format=torch.channels_last)
    before = image.clone()
    options = {"features": True} if isinstance(network, _WithFeatures) else {}
    with torch.no_grad():
        actual, wanted = (one(image, **options) for one in (deployed, network.eval()))
        torch.testing.assert_close(actual, wanted, rtol=0, atol=1e-5)
        for part in deployed.children() if isinstance(network, _Stages) else ():
            part(image)
    assert torch.equal(image, before)


def test_what_a_hook_kept_of_another_network_is_not_overwritten() -> None:
    """Not even by the block that would read it, nor if it comes from the deployed network and was copied."""
    network = lived_in(networks.create("boxonlyenet", 5, (64, 64)), 2, 3, 64, 64)
    deployed: Any = deploy(network)
    kept: dict[str, Tensor] = {}
    keep = lambda name: lambda module, args, output: kept.update({name: output[0] if "down" in name else output})  # noqa: E731
    for name in ("down1", "down2", "up1", "up2"):
        network.get_submodule(name).register_forward_hook(keep(name))
    copies = lambda name: lambda module, args, output: kept.update({name: copy.deepcopy(output)})  # noqa: E731
    with torch.no_grad():
        network(torch.randn(1, 3, 64, 64))
        for name, stage in (("down1", "stage1"), ("down2", "stage2"), ("up1", "stage3"), ("up2", "stage4")):
            before = kept[name].clone()
            assert torch.equal(deployed.get_submodule(stage)(kept[name]), deployed.get_submodule(stage)(kept[name]))
            assert torch.equal(kept[name], before)
        deployed.up2.register_forward_hook(copies("copy"))
        deployed(torch.randn(1, 3, 64, 64))
        before = kept["copy"].clone()
        deployed.stage4(kept["copy"])
    assert torch.equal(kept["copy"], before)


def test_box_blocks_overwrite_nothing_that_hooks_may_keep() -> None:
    network = _Stages()
    network.second.register_forward_hook(lambda *_: None)
    assert not _overwriting(deploy(network))


def test_derivatives_of_a_deployed_network_whose_blocks_would_overwrite() -> None:
    deployed: Any = deploy(_Stages())
    image = torch.randn(1, 8, 12, 12).contiguous(memory_format=torch.channels_last)
    with pytest.raises(NotImplementedError), torch.autograd.forward_ad.dual_level():
        deployed(torch.autograd.forward_ad.make_dual(image, torch.ones_like(image)))
    deployed.first[1].conv.weight.requires_grad_()
    with pytest.raises(NotImplementedError):
        deployed(image)
    deployed.first[1].conv.weight.requires_grad_(False)
    for name in ("shift", "scale", "boxes"):
        number = getattr(deployed.first[1].box, name).requires_grad_()
        with pytest.raises(NotImplementedError):
            deployed(image)
        number.requires_grad_(False)


def test_gradients_by_the_image_of_a_deployed_network() -> None:
    """With autograd, no tensor is changed in place that the backward pass needs."""
    network = lived_in(networks.create("enet", 5, (32, 48)), 2, 3, 32, 48)
    image = torch.randn(1, 3, 32, 48).requires_grad_()
    expected, actual = (torch.autograd.grad(one(image).sum(), image)[0] for one in (network, deploy(network)))
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-4 * expected.abs().max().item())


def test_what_is_not_a_blocks_own_is_not_changed() -> None:
    block = Bottleneck(8)
    block.branch = nn.Sequential(nn.Identity())
    for network in (block.eval(), nn.Sequential(nn.Identity(), nn.ReLU()).eval()):
        deployed = deploy(network)
        assert_same_answer(network, deployed, 1, 8, 4, 4)
        image = torch.randn(1, 8, 4, 4).contiguous(memory_format=torch.channels_last)
        before = image.clone()
        with torch.no_grad():
            deployed(image)
        assert torch.equal(image, before)
