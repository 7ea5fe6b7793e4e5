"""Leave out the boxes of a deployed network that have little or no effect.

The shift of the layer keeps a removed box's average contribution, a constant. Its output channel stays, because the
residual connection of the block passes through it; a scale of 0 tells the kernel to compute nothing. Nor does the
kernel make an integral image of a channel that only removed boxes read.
"""

import copy
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..argument_checks import as_bool, as_float, check_module
from .dataflow import read
from .fold import columns_of_zeros, keep_outputs
from .modules import FusedBoxBottleneck, FusedBoxConv2d


@dataclass(frozen=True)
class Pruned:
    """What was removed from one layer of boxes."""

    name: str
    boxes: int
    removed_boxes: int
    channels: int
    idle_channels: int
    """Input channels that only removed boxes read."""


@torch.no_grad()
def prune(
    network: nn.Module,
    images: Tensor | Iterable[Tensor],
    threshold: float = 0.0,
    *,
    min_area: float = 0.0,
    drop_channels: bool = False,
) -> tuple[nn.Module, list[Pruned]]:
    """Return a copy of ``network`` without useless boxes, and what was removed from each layer.

    With a threshold of 0, only boxes that cannot change the result are removed: those that reach no pixel of images as
    large as ``images``, are scaled by zero, read a channel that is always zero, or are followed by weights of zero. A
    larger threshold also removes boxes with a smaller influence. The influence of a box is the standard deviation of
    its scaled output over ``images``, divided by that of a typical box of the layer (root mean square). The result
    then changes: score the network again.

    Args:
        network: what `deploy` returned.
        images: one or more batches (B, in_channels, H, W), prepared as for the network.
        threshold: 0, or a share such as 0.05.
        min_area: in pixels; smaller boxes are removed, too. For example, 1.1 removes boxes that have shrunk to one
            pixel, the smallest size.
        drop_channels: remove idle channels from the 1x1 convolutions before the boxes. That saves weights, but is
            usually slower on the CPU, because the remaining channels must be copied to their places.

    Raises:
        TypeError, ValueError: naming the argument: ``network`` has no deployed boxes, ``images`` is empty or does not
            reach them, or a number is negative.
    """
    threshold, min_area = as_float("threshold", threshold, least=0), as_float("min_area", min_area, least=0)
    drop_channels = as_bool("drop_channels", drop_channels)
    check_module("network", network)
    try:
        iter(images)
    except TypeError:
        raise TypeError(f"images must be batches of images, got {type(images).__name__}") from None
    batches = [images] if isinstance(images, Tensor) and images.ndim <= 4 else images
    pruned = copy.deepcopy(network)
    layers = {name: module for name, module in pruned.named_modules() if isinstance(module, FusedBoxConv2d)}
    if not layers:
        raise ValueError("network has no deployed box convolutions: call deploy() first")
    observed = _observe(pruned, layers, batches)
    unread = _unread_outputs(pruned)
    blocks = {block.box: block for block in pruned.modules() if isinstance(block, FusedBoxBottleneck)}
    report = []
    for name, layer in layers.items():
        statistics = observed[layer]
        useless = _without_effect(layer, statistics.largest_size, blocks.get(layer))
        if layer in unread:
            useless |= unread[layer]
        weak = ~useless & ((statistics.influence() < threshold) | (_areas(layer) < min_area))
        _take_out(layer, useless | weak, torch.where(weak, statistics.mean(), 0.0))
        alive = _channels_alive(layer)
        if drop_channels and layer in blocks and blocks[layer].channels is None and not alive.all():
            _shrink(blocks[layer], alive.nonzero().flatten().tolist() or [0])  # a convolution has one output at least
        report.append(Pruned(name, useless.numel(), int((useless | weak).sum()), len(alive), int((~alive).sum())))
    return pruned, report


class _OutputStatistics:
    """Mean and spread of each box's scaled output over all pixels of all images seen."""

    def __init__(self) -> None:
        self.count = 0
        self.total: Tensor | float = 0.0
        self.squares: Tensor | float = 0.0
        self.largest_size = (0, 0)

    def add(self, layer: FusedBoxConv2d, input: Tensor) -> None:
        output = torch.ops.box_convolution.box_conv2d_fused(
            input, layer.boxes, layer.scale, None, None, False, layer.normalize, layer.stride
        ).double()
        self.count += output.numel() // output.shape[1]
        self.total += output.sum((0, 2, 3))
        self.squares += output.square().sum((0, 2, 3))
        h, w = self.largest_size
        self.largest_size = max(h, input.shape[2]), max(w, input.shape[3])

    def mean(self) -> Tensor:
        return torch.as_tensor(self.total) / self.count

    def influence(self) -> Tensor:
        """(C*M,) standard deviations, divided by their root mean square; all 0 if nothing varies."""
        variance = (torch.as_tensor(self.squares) / self.count - self.mean().square()).clamp_min(0)
        return (variance / variance.mean().clamp_min(torch.finfo(torch.float64).tiny)).sqrt()


def _observe(
    network: nn.Module, layers: dict[str, FusedBoxConv2d], images: Iterable[Tensor]
) -> dict[FusedBoxConv2d, _OutputStatistics]:
    observed = {layer: _OutputStatistics() for layer in layers.values()}
    with ExitStack() as stack:
        for layer in layers.values():
            handle = layer.register_forward_pre_hook(lambda layer, inputs: observed[layer].add(layer, inputs[0]))
            stack.callback(handle.remove)
        for batch in images:
            if not isinstance(batch, Tensor):
                raise TypeError(f"images must be batches of images (B, C, H, W), got a {type(batch).__name__}")
            network(batch)
    if not all(statistics.count for statistics in observed.values()):
        raise ValueError("images must hold at least one batch that reaches every box convolution of the network")
    return observed


def _without_effect(layer: FusedBoxConv2d, size: tuple[int, int], block: FusedBoxBottleneck | None) -> Tensor:
    """(C*M,) boxes whose scaled output is zero for every image of at most ``size`` = (h, w) at this depth."""
    h, w = size
    top, bottom, left, right = layer.boxes.unbind(-1)
    # Output pixel i reaches input pixels from i + top to i + bottom; pixel k covers k - 1/2 ... k + 1/2.
    last_h, last_w = (h - 1) // layer.stride * layer.stride, (w - 1) // layer.stride * layer.stride
    outside = (last_h + bottom <= -0.5) | (top >= h - 0.5) | (last_w + right <= -0.5) | (left >= w - 0.5)
    useless = outside.flatten()
    if layer.scale is not None:
        useless = useless | (layer.scale == 0)
    if block is not None and block.channels is None:
        flat = block.conv.weight.flatten(1).eq(0).all(1)
        bias = torch.zeros(len(flat), device=flat.device) if block.conv.bias is None else block.conv.bias
        zero = flat & (bias <= 0 if block.inner_relu else bias == 0)
        useless = useless | zero.repeat_interleave(layer.boxes.shape[1])
    return useless


def _areas(layer: FusedBoxConv2d) -> Tensor:
    """(C*M,) pixels in each box."""
    top, bottom, left, right = layer.boxes.unbind(-1)
    return ((bottom - top) * (right - left)).flatten()


def _unread_outputs(network: nn.Module) -> dict[FusedBoxConv2d, Tensor]:
    """(C*M,) bool for each layer that only a convolution reads: outputs that it multiplies only by zeros."""
    flow = read(network)
    unread = {}
    for _, _, layer, _, box in flow.links():
        zeros = columns_of_zeros(layer)
        if isinstance(box, FusedBoxConv2d) and flow.once(box) and zeros is not None:
            unread[box] = zeros
    return unread


def _take_out(layer: FusedBoxConv2d, removed: Tensor, constant: Tensor) -> None:
    """Set the scale of ``removed`` boxes to 0 and add ``constant``, (C*M,) both, to the shift."""
    ones = torch.ones(len(removed), device=removed.device)
    scale = ones if layer.scale is None else layer.scale
    shift = torch.zeros_like(ones) if layer.shift is None else layer.shift
    layer.scale = scale.masked_fill(removed, 0.0)
    layer.shift = (shift + constant).float()


def _channels_alive(layer: FusedBoxConv2d) -> Tensor:
    """(C,) bool: whether the channel has a box that was not removed."""
    assert layer.scale is not None
    return (layer.scale != 0).reshape(layer.boxes.shape[:2]).any(1)


def _shrink(block: FusedBoxBottleneck, keep: list[int]) -> None:
    """Compute only the narrow channels in ``keep``. Boxes of the others, whose scale is 0, may read any channel."""
    keep_outputs(block.conv, keep)
    channels = torch.zeros(block.box.boxes.shape[0], dtype=torch.long, device=block.box.boxes.device)
    channels[keep] = torch.arange(len(keep), device=channels.device)
    block.channels = channels
