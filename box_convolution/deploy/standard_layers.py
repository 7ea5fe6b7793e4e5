"""Layers of a deployed network in standard operations, for exported files; faster than `standard_operators`.

They are faster because the boxes are constants, and often the sizes, too.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import max_pool2d, pad

from ..ops.epilogue import Epilogue
from .activation import Activation
from .blocks import PooledBlock
from .inference_form import replace_all
from .modules import ChannelAffine, FusedBoxConv2d
from .standard_operators import matrices, overlap, products


class ConstantBoxConv2d(nn.Module):
    """`FusedBoxConv2d` for maps of one size (h, w), with constant matrices, which some readers cannot compute."""

    rows: Tensor
    columns: Tensor
    shift: Tensor | None

    def __init__(self, layer: FusedBoxConv2d, size: tuple[int, int]) -> None:
        super().__init__()
        rows, columns = matrices(layer.boxes, layer.scale, layer.normalize, layer.stride, *size)
        self.register_buffer("rows", rows)
        self.register_buffer("columns", columns)
        self.register_buffer("shift", layer.shift)
        self.relu = layer.relu

    def forward(self, input: Tensor, residual: Tensor | None = None) -> Tensor:
        return products(input, self.rows, self.columns, Epilogue(None, self.shift, residual, self.relu))


class SnappedBoxConv2d(nn.Module):
    """`FusedBoxConv2d` with boxes on pixel borders. If the size (h, w) is known, all that depends on it is constant.

    The sum over a box's columns is the difference of two running sums. The image is transposed before, while it has few
    channels, so that whole columns are picked. The sum over a box's rows is a product with the matrix of overlaps.
    """

    boxes: Tensor
    factor: Tensor
    shift: Tensor | None
    rows: Tensor
    first: Tensor
    last: Tensor

    def __init__(self, layer: FusedBoxConv2d, size: tuple[int, int] | None) -> None:
        super().__init__()
        top, bottom, left, right = layer.boxes.unbind(-1)
        factor = 1 / ((bottom - top) * (right - left)).flatten() if layer.normalize else torch.ones(top.numel())
        self.register_buffer("boxes", layer.boxes)
        self.register_buffer("factor", factor if layer.scale is None else factor * layer.scale)
        self.register_buffer("shift", layer.shift)
        self.stride, self.relu = layer.stride, layer.relu
        self.known = size is not None
        if size is not None:
            for name, tensor in zip(("rows", "first", "last"), self._of(*size), strict=True):
                self.register_buffer(name, tensor)

    def forward(self, input: Tensor, residual: Tensor | None = None) -> Tensor:
        b, c, h, w = input.shape
        rows, first, last = (self.rows, self.first, self.last) if self.known else self._of(h, w)
        sums = pad(input.transpose(2, 3).cumsum(2), (0, 0, 1, 0)).reshape(b, c * (w + 1), h)
        columns = sums.index_select(1, last) - sums.index_select(1, first)
        columns = columns.reshape(b, rows.shape[0], first.shape[0] // rows.shape[0], h)
        output = torch.matmul(rows, columns.transpose(2, 3))
        return Epilogue(None, self.shift, residual, self.relu).after_scale(output)

    def _of(self, h: int, w: int) -> tuple[Tensor, Tensor, Tensor]:
        """(C*M, H', H) overlaps; (C*M*W',) indices of the running sums at the left and at the right edge."""
        c, m = self.boxes.shape[:2]
        h_out, w_out = (h + self.stride - 1) // self.stride, (w + self.stride - 1) // self.stride
        top, bottom, left, right = self.boxes.reshape(c * m, 1, 1, 4).unbind(-1)
        rows = overlap(top, bottom, h_out, h, self.stride) * self.factor[:, None, None]
        # Not repeat_interleave: PyTorch 2.6 cannot write it into an ONNX file.
        start = (torch.arange(c, device=top.device)[:, None] * (w + 1)).expand(c, m).reshape(c * m, 1)
        column = torch.arange(w_out, device=top.device) * self.stride
        first, last = ((start + (column + (edge[:, 0] + 0.5).long()).clamp(0, w)).flatten() for edge in (left, right))
        return rows, first, last


class MaximumActivation(nn.Module):
    """`Activation` with slopes of at most 1: the larger one of a number and its product with the slope.

    onnxruntime runs these two operations in a third of the time of its PRelu.
    """

    slopes: Tensor

    def __init__(self, slopes: Tensor) -> None:
        super().__init__()
        self.register_buffer("slopes", slopes.reshape(-1, 1, 1))

    def forward(self, image: Tensor, residual: Tensor | None = None) -> Tensor:
        total = image if residual is None else image + residual
        return torch.maximum(total, total * self.slopes)


class ComparingPooledBlock(nn.Module):
    """`PooledBlock` for an image of even height and width. It finds the indices by comparing pixels with the maximum.

    A maximum that returns indices is slow in other programs: it took four fifths of the time of BoxENet in OpenVINO.
    """

    def __init__(self, block: PooledBlock) -> None:
        super().__init__()
        self.branch, self.act = block.branch, block.act

    def forward(self, input: Tensor) -> tuple[Tensor, Tensor]:
        skip = max_pool2d(input, 2)
        w, (h_out, w_out) = input.shape[3], skip.shape[2:]
        above, below = input[:, :, ::2], input[:, :, 1::2]
        # The first of the largest, as in `max_pool2d`.
        in_row_below = torch.where(below[..., ::2] == skip, w, w + 1)
        offset = torch.where(above[..., ::2] == skip, 0, torch.where(above[..., 1::2] == skip, 1, in_row_below))
        rows, columns = (torch.arange(size, device=input.device) * 2 for size in (h_out, w_out))
        image = self.branch(input)
        image = image + pad(skip, (0, 0, 0, 0, 0, image.shape[1] - skip.shape[1]))
        return self.act(image), rows[:, None] * w + columns + offset


class WholeAffine(nn.Module):
    """`ChannelAffine` that scales and shifts all channels: other programs have no operation that changes only some.

    In an ONNX file, writing to a slice becomes a transposition, ScatterND and a transposition back.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, affine: ChannelAffine) -> None:
        super().__init__()
        before = affine.scale.new_zeros(affine.start)
        self.register_buffer("scale", torch.cat((before + 1, affine.scale.flatten())).reshape(-1, 1, 1))
        self.register_buffer("shift", torch.cat((before, affine.shift.flatten())).reshape(-1, 1, 1))

    def forward(self, image: Tensor) -> Tensor:
        return image * self.scale + self.shift


def with_fast_layers(network: nn.Module, *, even: bool) -> nn.Module:
    """Replace layers by others that are faster in other programs, with the same results; return ``network``, changed.

    even: all pooled maps have even height and width.
    """

    def fast(layer: nn.Module) -> nn.Module:
        if even and type(layer) is PooledBlock:
            return ComparingPooledBlock(layer)
        if type(layer) is ChannelAffine:
            return WholeAffine(layer)
        activation = layer if type(layer) is Activation else Activation.of(layer)
        slopes = None if activation is None else activation.slopes
        return layer if slopes is None or bool((slopes > 1).any()) else MaximumActivation(slopes)

    return replace_all(network, fast)


@torch.no_grad()
def in_standard_operations(network: nn.Module, inputs: tuple[Tensor, ...] | None) -> nn.Module:
    """Replace box convolutions by the layers of this file; changes and returns ``network``.

    They are for the sizes of ``inputs``, or for any size without ``inputs``. Where no layer fits, the operator stays,
    for :func:`.standard_operators.decompositions`: if boxes lie between pixel borders, and the size of the layer's map
    is free or not always the same.
    """
    layers = [layer for layer in network.modules() if type(layer) is FusedBoxConv2d]
    sizes: dict[Any, set[tuple[int, int]]] = {layer: set() for layer in layers}
    if inputs is not None:
        handles = [
            layer.register_forward_pre_hook(lambda layer, args: sizes[layer].add(tuple(args[0].shape[-2:])))
            for layer in layers
        ]
        network(*inputs)
        for handle in handles:
            handle.remove()

    def standard(layer: nn.Module) -> nn.Module:
        if type(layer) is not FusedBoxConv2d:
            return layer
        size = next(iter(sizes[layer])) if len(sizes[layer]) == 1 else None
        if (layer.boxes + 0.5 == (layer.boxes + 0.5).round()).all():
            return SnappedBoxConv2d(layer, size)
        return layer if size is None else ConstantBoxConv2d(layer, size)

    return replace_all(network, standard)
