"""Trained weights for a network with other classes, channels, size, or symmetric boxes."""

from typing import Any

import torch

from .. import boxes
from ..layer import BoxConv2d


@torch.no_grad()
def transfer(trained: Any, network: Any, *, head: bool) -> None:
    """Copy the weights of ``trained`` into ``network``; those of the last layer only with ``head`` (the same classes).

    If the networks take different numbers of channels, the first block keeps its fresh weights.

    Boxes keep their edges in pixels, although they are stored in units of the image size. If ``network`` is made for
    smaller images, boxes are clipped to its limits. If its boxes are symmetric, they are centred horizontally.

    Raises:
        RuntimeError: the networks are not of the same kind; from `load_state_dict`.
    """
    fresh = network.state_dict()
    layers = {name: layer for name, layer in network.named_modules() if isinstance(layer, BoxConv2d)}
    apart = [f"{name}.scaled_boxes" for name in layers]
    if not head:
        apart += [name for name in fresh if name.startswith("head.")]
    if trained.in_channels != network.in_channels:
        apart += [name for name in fresh if name.startswith("initial.")]
    network.load_state_dict({**trained.state_dict(), **{name: fresh[name] for name in apart}})
    for name, layer in layers.items():
        theirs = trained.get_submodule(name)
        pixels = boxes.project(theirs.boxes, float(layer.max_input_h), float(layer.max_input_w))
        layer.set_boxes(boxes.from_symmetric(boxes.to_symmetric(pixels)) if layer.symmetric else pixels)
