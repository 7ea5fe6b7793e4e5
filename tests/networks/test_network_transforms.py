"""Networks under PyTorch's transforms: compilation, autocast, meta device, memory formats."""

import copy

import pytest
import torch
from torch import nn

from box_convolution import networks


@pytest.mark.parametrize("name, places, backend", [("boxenet", 4, "aot_eager"), ("boxerfnet", 2, "eager")])
def test_compiled_network_is_the_plain_one(name: str, places: int, backend: str) -> None:
    torch._dynamo.reset()
    network = networks.create(name, 3, (32, 48), dropout=(0.0, 0.0), box_dropout=(0.0,) * places)
    twin = copy.deepcopy(network)
    compiled = torch.compile(network, backend=backend, fullgraph=True)
    image, label = torch.rand(2, 3, 32, 48), torch.randint(3, (2, 32, 48))
    losses = [nn.functional.cross_entropy(model(image), label) for model in (compiled, twin)]
    torch.testing.assert_close(*losses)
    for loss in losses:
        loss.backward()
    gradients = [torch.cat([p.grad.flatten() for p in model.parameters()]) for model in (network, twin)]
    torch.testing.assert_close(*gradients, rtol=1e-3, atol=1e-4)


def test_inputs_stay_as_they_are() -> None:
    """In-place activations must not change the caller's image."""
    for name in networks.names():
        network = networks.create(name, 3, (16, 16))
        image = torch.rand(2, 3, 16, 16)
        before = image.clone()
        network(image)
        assert torch.equal(image, before)


@pytest.mark.parametrize("name", networks.names())
def test_channels_last_gives_the_same_logits(name: str) -> None:
    network = networks.create(name, 3, (32, 48)).eval()
    image = torch.rand(2, 3, 32, 48)
    with torch.inference_mode():
        plain = network(image)
        moved = network.to(memory_format=torch.channels_last)(image.contiguous(memory_format=torch.channels_last))
    torch.testing.assert_close(plain, moved, rtol=1e-4, atol=1e-5)
