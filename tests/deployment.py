"""Networks to deploy, and the check that the deployed form gives the same answer."""

import torch
from torch import nn

NORMS = nn.modules.batchnorm._BatchNorm


def lived_in(network: nn.Module, *shape: int) -> nn.Module:
    """``network`` in evaluation mode, with random weights and statistics, so that any mistake in folding shows."""
    for module in network.modules():
        if isinstance(module, NORMS) and module.affine:
            nn.init.uniform_(module.weight, -1.5, 1.5)
            nn.init.normal_(module.bias)
        if isinstance(module, nn.PReLU):
            nn.init.uniform_(module.weight, -0.5, 1)
    with torch.no_grad():
        for _ in range(4):
            network(1 + torch.randn(shape))
    return network.eval()


def assert_same_answer(network: nn.Module, deployed: nn.Module, *shape: int, within: float = 1e-5) -> None:
    """Check that outputs differ by at most ``within`` of their range."""
    image = torch.randn(shape)
    with torch.no_grad():
        expected, actual = network(image), deployed(image)
    scale = (expected.max() - expected.min()).item()
    assert scale > 0
    torch.testing.assert_close(actual, expected, rtol=0, atol=within * scale)


def types_in(network: nn.Module) -> set[type]:
    return {type(module) for module in network.modules()}
