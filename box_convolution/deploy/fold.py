"""Fold BatchNorm into the layer before it: in evaluation mode it is a scale and a shift for each channel."""

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor, fx, nn

from ..torch_internals import has_hooks
from .dataflow import Dataflow, Part
from .modules import ChannelAffine, FastTransposedConv2d, FusedBoxConv2d, PointwiseConv2d

_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)
_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, PointwiseConv2d)
_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d, FastTransposedConv2d)


def scale_and_shift(norm: Any) -> tuple[Tensor, Tensor] | None:
    """Return what ``norm`` does in evaluation mode, two (C,) in float64; None unless it is just a BatchNorm."""
    if type(norm) not in _NORMS or has_hooks(norm) or norm.training or norm.running_var is None:
        return None
    scale = (norm.running_var.double() + norm.eps).rsqrt()
    if norm.weight is not None:
        scale = scale * norm.weight.detach().double()
    shift = -norm.running_mean.double() * scale
    if norm.bias is not None:
        shift = shift + norm.bias.detach().double()
    return scale, shift


def fold_into(layer: Any, scale: Tensor, shift: Tensor) -> bool:
    """Change ``layer`` so that it returns ``scale * output + shift``. Returns False if that is not possible."""
    if type(layer) is FusedBoxConv2d and not layer.relu:
        layer.fold(scale, shift)
        return True
    if not is_convolution(layer):
        return False
    if type(layer) in _CONVOLUTIONS:
        factor = scale.reshape(-1, *[1] * (layer.weight.ndim - 1))
        weight = layer.weight.double() * factor
    else:  # weight (in, out / groups, ...): input channels are ordered by group
        groups = layer.groups
        factor = scale.reshape(groups, 1, layer.out_channels // groups, *[1] * (layer.weight.ndim - 2))
        weight = (layer.weight.double().unflatten(0, (groups, -1)) * factor).flatten(0, 1)
    bias = shift if layer.bias is None else layer.bias.double() * scale + shift
    _set(layer, weight, bias)
    return True


def keep_outputs(layer: Any, channels: Sequence[int]) -> None:
    """Remove all output channels of a convolution except ``channels``. Raises ValueError if that is not possible."""
    if not is_convolution(layer) or layer.groups != 1:
        raise ValueError(f"outputs can be dropped from a plain convolution only, got {layer}")
    index = torch.tensor(channels, device=layer.weight.device)
    weight = layer.weight.index_select(1 if type(layer) in _TRANSPOSED else 0, index)
    _set(layer, weight, None if layer.bias is None else layer.bias.index_select(0, index))
    layer.out_channels = len(channels)


def columns_of_zeros(layer: Any) -> Tensor | None:
    """(in_channels,) bool: which inputs a convolution multiplies only by zeros; None if it is no plain convolution."""
    if not is_convolution(layer) or layer.groups != 1:
        return None
    weight = layer.weight if type(layer) in _TRANSPOSED else layer.weight.transpose(0, 1)
    return weight.flatten(1).eq(0).all(1)


def fold_norms(flow: Dataflow) -> None:
    """Fold every BatchNorm into the layer before it, or into several layers whose outputs are concatenated."""
    for part, node, norm, source, layer in flow.links():
        numbers = scale_and_shift(norm) if flow.once(norm) else None
        if numbers is None:
            continue
        if flow.once(layer) and fold_into(layer, *numbers):
            part.replace(node, nn.Identity())
        elif source.target in (torch.cat, torch.concat):
            _fold_into_concatenation(flow, part, node, source, *numbers)


def _fold_into_concatenation(
    flow: Dataflow, part: Part, node: fx.Node, cat: fx.Node, scale: Tensor, shift: Tensor
) -> None:
    """Fold each convolution's share of the channels into it. One other input may follow: it gets a `ChannelAffine`."""
    inputs, dim = _arguments_of_cat(cat)
    if dim != 1 or len(set(inputs)) < len(inputs):
        return
    layers: list[Any] = [
        part.layer(one) if isinstance(one, fx.Node) and len(one.users) == 1 else None for one in inputs
    ]
    before = [layer for layer in layers if is_convolution(layer) and flow.once(layer)]
    starts = list(accumulate((layer.out_channels for layer in before), initial=0))
    if not before or layers[: len(before)] != before or len(layers) > len(before) + 1:
        return
    for layer, start, end in zip(before, starts, starts[1:], strict=False):
        fold_into(layer, scale[start:end], shift[start:end])
    dtype, rest = part.layer(node).running_mean.dtype, starts[-1]
    affine = ChannelAffine(rest, scale[rest:].to(dtype), shift[rest:].to(dtype))
    part.replace(node, affine if rest < len(scale) else nn.Identity())


def _arguments_of_cat(node: fx.Node) -> tuple[Sequence[object], object]:
    tensors = node.args[0] if node.args else node.kwargs.get("tensors")
    dim = node.args[1] if len(node.args) > 1 else node.kwargs.get("dim", 0)
    return (list(tensors) if isinstance(tensors, (list, tuple)) else []), dim


def is_convolution(layer: Any) -> bool:
    """Whether ``layer`` is just a convolution. A parametrised one is not: it would compute its old weight again."""
    return type(layer) in _CONVOLUTIONS + _TRANSPOSED and not has_hooks(layer)


def _set(layer: Any, weight: Tensor, bias: Tensor | None) -> None:
    """Set new parameters instead of changing the old ones, which another layer may share."""
    dtype = layer.weight.dtype
    layer.weight = nn.Parameter(weight.detach().to(dtype), requires_grad=False)
    layer.bias = None if bias is None else nn.Parameter(bias.detach().to(dtype), requires_grad=False)
