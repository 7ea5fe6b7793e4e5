"""From a trained network to another of its kind, which may have other classes, another size, or symmetric boxes."""

import torch
from torch import nn

from .. import boxes
from ..layer import BoxConv2d


@torch.no_grad()
def transfer(trained: nn.Module, network: nn.Module, *, head: bool) -> None:
    """Copy the weights of ``trained`` into ``network``; those of the last layer with ``head``, for the same classes.

    Boxes keep their size in pixels, though they are stored in units of the image size; where ``network`` is made for
    smaller images, they are cut to its limits.

    Raises:
        RuntimeError: these are no two networks of the same kind, as `load_state_dict` says.
    """
    fresh, state = network.state_dict(), trained.state_dict()
    if not head:
        state |= {name: value for name, value in fresh.items() if name.startswith("head.")}
    network.load_state_dict(state)
    for module, other in zip(trained.modules(), network.modules(), strict=True):
        if isinstance(module, BoxConv2d) and isinstance(other, BoxConv2d):
            pixels = boxes.project(module.boxes, float(other.max_input_h), float(other.max_input_w))
            if other.symmetric:
                pixels = boxes.from_symmetric(boxes.to_symmetric(pixels))
            other.set_boxes(pixels)
