"""Running a network for analysis without changing it."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


@contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Inside the block, ``model`` is in evaluation mode, and its weights do not require gradients.

    Autograd is on, even if the caller has turned it off. Afterwards every module and weight is as before.
    """
    training = {module: module.training for module in model.modules()}
    learnt = [parameter for parameter in model.parameters() if parameter.requires_grad]
    model.eval()
    for parameter in learnt:
        parameter.requires_grad_(False)
    try:
        with torch.inference_mode(False), torch.enable_grad():
            yield
    finally:
        for module, mode in training.items():
            module.training = mode
        for parameter in learnt:
            parameter.requires_grad_(True)


def input_of(layer: nn.Module, model: nn.Module, image: Tensor) -> Tensor:
    """The input (C, h', w') of ``layer`` when ``model`` runs on ``image`` (channels, h, w)."""
    seen: list[Tensor] = []
    handle = layer.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].detach()))
    with evaluation_mode(model):
        model(image[None])
    handle.remove()
    return seen[0][0]
