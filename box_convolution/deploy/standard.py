"""Box convolutions as standard operations, for exported graphs that run without this package."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


def decompositions() -> dict[Any, Callable[..., Tensor]]:
    """For `ExportedProgram.run_decompositions`: the operators of this package, by what they are made of."""
    operators = torch.ops.box_convolution
    return {operators.box_conv2d_fused.default: box_conv2d_fused, operators.box_conv2d.default: box_conv2d}


def box_conv2d(input: Tensor, boxes: Tensor, normalize: bool = True, stride: int = 1) -> Tensor:
    """See `box_convolution.box_conv2d`; here it is two products with matrices of overlaps, in float32.

    Memory beside the output: a matrix (H', H) and one (W', W) for each box. What the definition in
    `box_convolution.ops.reference` does in float64 for every box, float32 does for boxes of at least a pixel.
    """
    return box_conv2d_fused(input, boxes, normalize=normalize, stride=stride)


def box_conv2d_fused(
    input: Tensor,
    boxes: Tensor,
    scale: Tensor | None = None,
    shift: Tensor | None = None,
    residual: Tensor | None = None,
    relu: bool = False,
    normalize: bool = True,
    stride: int = 1,
) -> Tensor:
    """See `box_convolution.ops.fused`."""
    b, c, h, w = input.shape
    m = boxes.shape[1]
    h_out, w_out = (h + stride - 1) // stride, (w + stride - 1) // stride
    top, bottom, left, right = boxes.float().reshape(c * m, 1, 1, 4).unbind(-1)
    rows, columns = _overlap(top, bottom, h_out, h, stride), _overlap(left, right, w_out, w, stride)
    output = torch.matmul(rows.reshape(c, m * h_out, h), input.float()).reshape(b, c * m, h_out, w)
    output = torch.matmul(output, columns.transpose(1, 2))
    if normalize:
        output = output / ((bottom - top) * (right - left))
    if scale is not None:
        output = output * scale[:, None, None]
    if shift is not None:
        output = output + shift[:, None, None]
    if residual is not None:
        output = output + residual
    return (output.relu() if relu else output).to(input.dtype)


def _overlap(low: Tensor, high: Tensor, size_out: int, size_in: int, stride: int) -> Tensor:
    """Length of each input pixel between two edges: (C*M, 1, 1) each -> (C*M, size_out, size_in)."""
    ahead = (torch.arange(size_out, device=low.device) * stride)[:, None] - torch.arange(size_in, device=low.device)
    ahead = ahead.to(low.dtype)
    # A sum of less than half a pixel is exact: the edge and the whole number are then at most a factor of 2 apart.
    return (ahead + high).clamp(-0.5, 0.5) - (ahead + low).clamp(-0.5, 0.5)
