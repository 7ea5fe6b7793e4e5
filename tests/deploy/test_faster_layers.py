"""Layers of deployed networks that have a faster form: which get it, and that they answer as before."""

from typing import Any

import pytest
import torch
from deployment import assert_same_answer, lived_in
from torch import Tensor, nn

from box_convolution import networks
from box_convolution.deploy import deploy
from box_convolution.deploy.blocks import PoolBesideConv
from box_convolution.deploy.modules import FastTransposedConv2d, PointwiseConv2d
from box_convolution.networks.resampling import ConvBesidePool


def test_pointwise_convolutions_are_those_that_were_there() -> None:
    network = nn.Sequential(
        nn.Conv2d(3, 4, 1),
        nn.Conv2d(4, 4, 1, bias=False),
        nn.Conv2d(4, 4, 1, groups=2),
        nn.Conv2d(4, 4, 1, stride=2),
        nn.Conv2d(4, 4, 1, padding=1),
        nn.Conv2d(4, 4, 3),
    ).eval()
    deployed = deploy(network)
    assert [type(module) for module in deployed] == [PointwiseConv2d, PointwiseConv2d, *[nn.Conv2d] * 4]
    assert_same_answer(network, deployed, 2, 3, 9, 11)
    assert not any(isinstance(module, PointwiseConv2d) for module in deploy(network, channels_last=False))


def test_transposed_convolutions_are_those_that_were_there() -> None:
    network = nn.Sequential(
        nn.ConvTranspose2d(3, 4, 2, stride=2),
        nn.ConvTranspose2d(4, 4, 2, stride=2, bias=False),
        nn.BatchNorm2d(4),
        nn.ConvTranspose2d(4, 4, 2, stride=2, bias=False),
        nn.ConvTranspose2d(4, 4, 3, 2, 1, 1),
        nn.ConvTranspose2d(4, 16, 3, 2, 1, 1),  # PyTorch is as fast
        nn.ConvTranspose2d(16, 4, 3, 2, 1, 0),
        nn.ConvTranspose2d(4, 4, 2, stride=2, groups=2),
        nn.ConvTranspose2d(4, 4, 2, stride=1),
        nn.ConvTranspose2d(4, 4, 3, stride=2),
        nn.ConvTranspose2d(4, 4, 2, stride=2, padding=1),
    ).eval()
    deployed: Any = deploy(network)
    fast, plain = FastTransposedConv2d, nn.ConvTranspose2d
    types = [type(module) for module in deployed if not isinstance(module, nn.Identity)]
    assert types == [fast, fast, plain, fast, *[plain] * 6]
    assert_same_answer(network, deployed, 2, 3, 5, 4)
    assert_same_answer(network, deploy(deployed), 2, 3, 5, 4)


@pytest.mark.parametrize("more", [0, 1])
def test_an_output_size_is_given_to_a_transposed_convolution(more: int) -> None:
    class Upsampling(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.down, self.up = nn.Conv2d(3, 8, 2, stride=2), nn.ConvTranspose2d(8, 4, 2 + more, 2, more, more)

        def forward(self, image: Tensor) -> Tensor:
            output: Tensor = self.up(self.down(image), output_size=[size - more for size in image.shape[-2:]])
            return output

    network = Upsampling().eval()
    for h, w in ((8, 10), (9, 10), (8, 11), (9, 11)):
        assert_same_answer(network, deploy(network), 2, 3, h, w)


def test_pooling_beside_a_convolution() -> None:
    """The deployed block answers as before, whether its convolution leaves room for the pooled image or not."""
    for channels_in, channels_out in ((3, 16), (1, 16), (16, 64), (3, 12), (16, 32), (40, 90)):
        for act in (nn.ReLU(), nn.PReLU(channels_out)):
            block = ConvBesidePool(channels_in, channels_out, act, eps=1e-3)
            network = lived_in(nn.Sequential(block), 2, channels_in, 12, 34)
            deployed: Any = deploy(network)
            assert isinstance(deployed[0], PoolBesideConv)
            assert_same_answer(network, deployed, 2, channels_in, 12, 34)
            assert not isinstance(deploy(network, channels_last=False)[0], PoolBesideConv)  # type: ignore[index]
            seen: list[object] = []
            handle = deployed[0].conv.register_forward_hook(lambda *arguments, seen=seen: seen.append(arguments))
            assert_same_answer(network, deployed, 2, channels_in, 12, 34)
            assert seen, "a hook that is added later is called"
            handle.remove()
    network = nn.Sequential(ConvBesidePool(3, 4, nn.ReLU(), eps=1e-3)).eval()
    assert not isinstance(deploy(network)[0], PoolBesideConv)  # type: ignore[index]  # it pools nothing


@pytest.mark.parametrize(
    "conv",
    [
        nn.Conv2d(2, 14, 3, stride=2, padding=1, padding_mode="reflect"),
        nn.Conv2d(2, 14, 3, stride=2, padding=2, dilation=2),
        nn.Conv2d(2, 14, 3, stride=2, padding=1, groups=2),
        nn.Conv2d(2, 14, 2, stride=2),
    ],
)
def test_pooling_beside_another_convolution(conv: nn.Conv2d) -> None:
    block: Any = ConvBesidePool(2, 16, nn.ReLU(), eps=1e-3)
    block.conv = conv
    network = lived_in(nn.Sequential(block), 2, 2, 12, 34)
    assert_same_answer(network, deploy(network), 2, 2, 12, 34)
    deployed: Any = deploy(nn.Sequential(ConvBesidePool(2, 16, nn.ReLU(), eps=1e-3)))
    image = torch.randn(2, 2, 12, 34)
    with torch.no_grad():
        deployed[0].conv = conv.requires_grad_(False)  # after it was deployed
        actual = deployed(image)
        assert torch.equal(actual[:, :14], conv(image).relu())


@pytest.mark.parametrize("name", ["down1", "up2"])
@pytest.mark.parametrize(
    "change",
    [
        lambda block: setattr(block, "act", nn.Tanh()),
        lambda block: block.act.register_forward_hook(lambda module, args, output: output + 1),
        lambda block: setattr(block.act, "slopes", torch.full((16 if block.act.slopes is None else 64,), 0.5)),
    ],
    ids=["other module", "hook", "slopes"],
)
def test_blocks_that_pool_and_unpool_keep_what_was_changed(change: Any, name: str) -> None:
    network = lived_in(networks.create("enet", 5, (32, 48)), 2, 3, 32, 48)
    deployed: Any = deploy(network)
    block = deployed.get_submodule(name)
    before = deployed(torch.zeros(1, 3, 32, 48))
    change(block)
    given = {
        "down1": (torch.randn(1, 16, 16, 24),),
        "up2": (torch.randn(1, 64, 8, 12), torch.arange(96).expand(1, 16, 96)),
    }
    arguments = [part.reshape(1, -1, 8, 12) if part.ndim == 3 else part for part in given[name]]
    last = [part.contiguous(memory_format=torch.channels_last) for part in arguments]
    with torch.no_grad():
        actual = block(*last)
    image = last[0].clone().requires_grad_()  # then PyTorch's operations compute it
    expected = block(image, *last[1:])
    for one, two in zip(
        actual if name == "down1" else [actual], expected if name == "down1" else [expected], strict=True
    ):
        torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-5)
    assert not torch.equal(deployed(torch.zeros(1, 3, 32, 48)), before)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("size", [(32, 48), (30, 42)])
def test_blocks_that_pool_and_unpool_in_one_pass(size: tuple[int, int], dtype: torch.dtype) -> None:
    network = lived_in(networks.create("enet", 5, (32, 48)), 2, 3, 32, 48)
    deployed: Any = deploy(network).to(dtype)
    image = torch.randn(2, 16, *size).to(dtype).contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        output, indices = deployed.down1(image)
        back = deployed.up2(output, indices)
    given = image.clone().requires_grad_()
    expected, places = deployed.down1(given)
    assert torch.equal(indices, places)
    accuracy = 0.05 if dtype == torch.bfloat16 else 1e-4
    torch.testing.assert_close(output, expected, rtol=accuracy, atol=accuracy)
    torch.testing.assert_close(back, deployed.up2(expected, places), rtol=accuracy, atol=accuracy)


def test_numbers_of_a_deployed_block_may_learn() -> None:
    deployed: Any = deploy(nn.Sequential(ConvBesidePool(3, 16, nn.PReLU(16), eps=1e-3)))
    for number in (deployed[0].norm.scale, deployed[0].norm.shift):
        number.requires_grad_()
        assert deployed(torch.randn(1, 3, 8, 8).to(memory_format=torch.channels_last)).requires_grad
        number.requires_grad_(False)
