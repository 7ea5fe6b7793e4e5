"""The importance of each box for the network ("Box statistics" in section 4 of the paper)."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .box_neighbours import Convolution, Neighbours, find_neighbours


@dataclass(frozen=True)
class LayerImportance:
    """The boxes of one layer and their importance, in the order of its output channels.

    Attributes:
        name: of the layer in the network.
        boxes: (n, 4) edges (top, bottom, left, right) in pixels of the map that the layer reads, float64.
        importance: (n,) float64; NaN for a box without a convolution before or after it.
        map_size: (h, w) of that map for the given image.
        limits: (max_input_h, max_input_w), the largest distances of an edge from the output pixel.
        preceding: names of the convolutions that compute the layer's input, in order of execution.
        following: name and kernel (h, w) of the first convolution that reads the layer's output; None if there is none.
    """

    name: str
    boxes: Tensor
    importance: Tensor
    map_size: tuple[int, int]
    limits: tuple[int, int]
    preceding: tuple[str, ...]
    following: tuple[str, tuple[int, int]] | None

    @property
    def remark(self) -> str:
        """How this layer differs from the paper's definition, which needs a 1x1 convolution after it; or ''."""
        if not self.preceding or self.following is None:
            side = "before" if not self.preceding else "after"
            return f"no convolution {side} it: its boxes have no importance"
        h, w = self.following[1]
        return "" if (h, w) == (1, 1) else f"read by a {h}x{w} convolution ({self.following[0]}): largest tap taken"


def importance(model: nn.Module, image: Tensor, *, gamma: bool = False) -> list[LayerImportance]:
    """Importance of every box of ``model``, layer by layer in the order of execution.

    It is the mean absolute weight with which the following convolution reads the box's channel, times the largest
    absolute weight with which the preceding convolution writes the channel that the box averages. The paper leaves some
    cases open; here a kernel larger than 1x1 counts with its largest tap, the following convolution is the first one
    executed that reads the channel, and the preceding one is the last one executed that writes it. Weights of different
    layers have different scales, so compare boxes within a layer.

    Args:
        image: (B, channels, h, w), any image of a usual size. Its content does not matter, because it only shows how
            channels pass through the network.
        gamma: also multiply by the absolute weights of the BatchNorms in between, as the authors' script does.

    The network is not changed.
    """
    return [_of_layer(found, gamma) for found in find_neighbours(model, image)]


def _of_layer(found: Neighbours, gamma: bool) -> LayerImportance:
    layer = found.layer
    source = torch.full((layer.in_channels,), torch.nan, dtype=torch.float64)
    for convolution in found.preceding:
        written = convolution.strengths().amax(2).flatten() * _gammas(convolution, gamma)
        first, last = max(0, convolution.offset), min(layer.in_channels, convolution.offset + len(written))
        if last > first:
            source[first:last] = written[first - convolution.offset : last - convolution.offset].double().cpu()
    boxes = layer.boxes.detach().flatten(0, 1).double().cpu()
    read = torch.full((len(boxes),), torch.nan, dtype=torch.float64)
    if following := found.following:
        means = following.strengths().mean(1).flatten()[following.offset :][: len(boxes)]
        read = (means * _gammas(following, gamma)).double().cpu()
    return LayerImportance(
        name=found.name,
        boxes=boxes,
        importance=read * source.repeat_interleave(layer.num_filters),
        map_size=found.map_size,
        limits=(layer.max_input_h, layer.max_input_w),
        preceding=tuple(convolution.name for convolution in found.preceding),
        following=(following.name, following.kernel) if following else None,
    )


def _gammas(convolution: Convolution, wanted: bool) -> Tensor | float:
    product: Tensor | float = 1.0
    for weight in convolution.gammas if wanted else ():
        product = product * weight.abs()
    return product
