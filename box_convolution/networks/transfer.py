"""From a trained network to another of its kind, which may have other classes, another size, or symmetric boxes."""

import torch
from torch import nn

from .. import boxes
from ..layer import BoxConv2d


@torch.no_grad()
def transfer(trained: nn.Module, network: nn.Module, *, head: bool) -> None:
    """Copy the weights of ``trained`` into ``network``; those of the last layer with ``head``, for the same classes.

    Boxes keep their size in pixels, though they are stored in units of the image size; where ``network`` is made for
    smaller images, they are cut to its limits, and where its boxes are symmetric, they are moved to the middle.

    Raises:
        RuntimeError: these are no two networks of the same kind, as `load_state_dict` says.
    """
    fresh, state = network.state_dict(), trained.state_dict()
    if not head:
        state |= {name: value for name, value in fresh.items() if name.startswith("head.")}
    ours = dict(network.named_modules())
    pairs = [
        (module, ours[name])
        for name, module in trained.named_modules()
        if isinstance(module, BoxConv2d) and isinstance(ours.get(name), BoxConv2d)
    ]
    names = [name for name in state if name.endswith(".scaled_boxes") and name in fresh]
    network.load_state_dict({**state, **{name: fresh[name] for name in names}})
    for theirs, layer in pairs:
        pixels = boxes.project(theirs.boxes, float(layer.max_input_h), float(layer.max_input_w))
        layer.set_boxes(boxes.from_symmetric(boxes.to_symmetric(pixels)) if layer.symmetric else pixels)
